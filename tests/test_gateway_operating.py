"""Who the client is, what is counted and written down, and how often it may ask."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import _engine

from .support import scripts
from .support.client import Client, fetch
from .support.gateway import configured, untimed
from .support.upstream import Upstream, refusing
from .support.waiting import wait_until
from .support.wire import parse_head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.exchange import Script

HEARSAY = [
    ("X-Forwarded-For", "192.0.2.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "claimed.test"),
    ("X-Forwarded-Port", "1"),
    ("X-Real-IP", "192.0.2.9"),
    ("Forwarded", "for=192.0.2.9"),
]
SECRETS = [
    ("Authorization", "Bearer hush-1"),
    ("Cookie", "session=hush-2"),
    ("Referer", "http://h/?token=hush-3"),
    ("X-Api-Key", "hush-4"),
    ("User-Agent", 'a "\t agent'),
]
VERSION_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + struct.pack(
    "!4s4sHH", socket.inet_aton("192.0.2.7"), socket.inet_aton("192.0.2.8"), 1000, 80
)
PROXY_HEADERS = {
    "version 1": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n", b"192.0.2.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::8 1000 80\r\n", b"2001:db8::7"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
    "version 2": (VERSION_2, b"192.0.2.7"),
    "version 2, local": (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"127.0.0.1"),
}


def head(reflected: bytes) -> dict[str, bytes]:
    """The headers of a request that `reflect` has sent back."""
    return {name.decode().lower(): text for name, text in parse_head(reflected)[1]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.reflect) as upstream:
        yield upstream


def test_a_client_cannot_say_who_it_is(upstream: Upstream, tmp_path: Path) -> None:
    with configured(tmp_path, [{"targets": upstream.url}]) as gateway:
        seen = head(fetch(gateway.port, headers=HEARSAY, host="h.test").body)
    assert seen["x-forwarded-for"] == b"127.0.0.1"
    assert seen["x-forwarded-proto"] == b"http"
    assert seen["x-forwarded-host"] == b"h.test"
    assert not {"x-forwarded-port", "x-real-ip", "forwarded"} & set(seen)


def test_a_trusted_proxy_can(upstream: Upstream, tmp_path: Path) -> None:
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    with configured(tmp_path, [{"targets": upstream.url}], server=server) as gateway:
        seen = head(fetch(gateway.port, headers=HEARSAY, host="h.test").body)
    assert seen["x-forwarded-for"] == b"192.0.2.9, 127.0.0.1"
    assert seen["x-forwarded-proto"] == b"https"
    assert seen["x-forwarded-host"] == b"claimed.test"


def test_the_proxy_protocol_is_read_where_it_is_configured(
    upstream: Upstream, tmp_path: Path
) -> None:
    listeners = [{"port": 0, "proxy_protocol": True}, {"host": "localhost", "port": 0}]
    routes = [{"targets": upstream.url}]
    server = {"listeners": listeners, "limits": {"header_timeout": 2}}
    with configured(tmp_path, routes, server=server) as gateway:
        behind, direct = gateway.ports
        for octets, address in PROXY_HEADERS.values():
            with Client(behind) as client:
                client.send(octets)
                for _ in range(2):
                    seen = head(client.request(headers=HEARSAY).body)
                    assert seen["x-forwarded-for"] == address
            with Client(direct) as client:
                client.send(octets, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert client.read_until_closed().startswith(b"HTTP/1.1 400 ")
        for octets in (b"", b"PROXY TCP4 x y 1 2\r\n", b"PROXY " + b"x" * 200, VERSION_2[:14] * 9):
            asked = len(upstream.requests)
            with Client(behind) as client:
                client.send(octets, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                assert client.read_until_closed() == b""
            assert upstream.requests[asked:] == []


@pytest.mark.parametrize("form", ["combined", "json"])
def test_no_secret_is_in_the_access_log(upstream: Upstream, tmp_path: Path, form: str) -> None:
    log = tmp_path / "access.log"
    target = upstream.url.replace("//", "//ada:hush-5@")
    with refusing() as dead:
        routes: list[dict[str, Any]] = [
            {"path": "/in", "targets": target, "extra_request_headers": {"x-k": "hush-6"}},
            {"path": "/dead", "targets": dead.replace("//", "//ada:hush-7@")},
        ]
        access_log = {"format": form, "path": str(log)}
        with configured(tmp_path, routes, access_log=access_log) as gateway:
            for path in ("/in/a%0ab", "/dead", "/none"):
                fetch(gateway.port, f"{path}?key=hush-8&other=1", headers=SECRETS)
            with Client(gateway.port) as client:
                client.send(b"GET /in HTTP/1.1\r\nX-Api-Key: hush-9\r\nBad\r\n\r\n")
                client.read_until_closed()
            assert gateway.end() == 0
    text = log.read_text()
    assert "hush" not in text + "\n".join(gateway.lines)
    lines = text.splitlines()
    for line, path, status in zip(
        lines, ("/in/a%0ab", "/dead", "/none"), (200, 502, 404), strict=False
    ):
        if form == "combined":
            assert f'"GET {path}?key=***&other=*** HTTP/1.1" {status} ' in line
            assert line.startswith("127.0.0.1 - - [")
        else:
            entry = json.loads(line)
            assert (entry["target"], entry["status"]) == (f"{path}?key=***&other=***", status)
    assert len(lines) in (3, 4)
    if form == "json":
        entry = json.loads(lines[0])
        assert entry["upstream"] == upstream.url
        assert entry["request_id"].encode() == upstream.requests[-1].value("x-request-id")


def test_request_ids_and_traces(upstream: Upstream, tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with configured(tmp_path, [{"targets": upstream.url}]) as gateway:
        given = [("X-Request-Id", "mine-1"), ("traceparent", trace), ("tracestate", "a=b")]
        seen = head(fetch(gateway.port, headers=given).body)
        assert (seen["x-request-id"], seen["traceparent"]) == (b"mine-1", trace.encode())
        made = {head(fetch(gateway.port).body)["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        forged = head(fetch(gateway.port, headers=[("X-Request-Id", "a b<script>")]).body)
        assert forged["x-request-id"] != b"a b<script>"


@pytest.mark.parametrize("workers", [1, 3])
def test_who_asks_too_often_is_told_when_to_come_again(
    upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/mine", "targets": upstream.url, "rate_limit": {"rate": 0.02, "burst": 3}},
        {
            "path": "/key",
            "targets": upstream.url,
            "rate_limit": {"rate": 0.02, "burst": 1, "key": "header:x-api-key"},
        },
        {"targets": upstream.url},
    ]
    with configured(tmp_path, routes, workers=workers) as gateway:
        # What a client says of itself does not make it another one.
        answers = [fetch(gateway.port, "/mine", headers=HEARSAY[:1]) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].value("retry-after") or 0) <= 50
        assert fetch(gateway.port, "/mine").status == 429
        statuses = [
            fetch(gateway.port, "/key", headers=[("X-Api-Key", key)]).status for key in "aabba"
        ]
        assert statuses == [200, 429, 200, 429, 429]
        assert fetch(gateway.port, "/other").status == 200


def metrics(port: int) -> dict[str, float]:
    """The samples of the admin listener's page, by name and labels."""
    page = fetch(port, "/metrics")
    assert (page.value("content-type") or b"").startswith(b"text/plain; version=0.0.4")
    lines = [line for line in page.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(text) for name, _, text in (line.rpartition(" ") for line in lines)}


def test_health_and_metrics(upstream: Upstream, tmp_path: Path) -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/a", "targets": upstream.url},
        {"path": "/dead", "targets": "http://127.0.0.1:1", "max_retries": 2},
    ]
    with configured(tmp_path, routes, admin={"port": 0}, workers=3) as gateway:
        health = fetch(gateway.admin_port, "/healthz")
        assert (health.status, health.body) == (200, b"ok\n")
        assert fetch(gateway.port, "/metrics").status == 404
        sent = sum(
            len(fetch(gateway.port, "/a", method="POST", body=b"12345").body) for _ in range(4)
        )
        fetch(gateway.port, "/dead")
        labels = f'route="/a",target="{upstream.url}"'
        dead = 'route="/dead",target="http://127.0.0.1:1"'
        counts = {
            f'asgi_relay_requests_total{{{labels},status="200"}}': 4,
            f'asgi_relay_requests_total{{{dead},status="502"}}': 1,
            'asgi_relay_requests_in_flight{route="/a"}': 0,
        }
        with Client(gateway.port):
            # A request is counted at its end, which its client may see before.
            wait_until(
                lambda: all(item in metrics(gateway.admin_port).items() for item in counts.items()),
                "the counts",
            )
            found = metrics(gateway.admin_port)
    assert found[f"asgi_relay_response_bytes_total{{{labels}}}"] == sent
    for histogram in ("request_duration", "time_to_first_byte"):
        name = f"asgi_relay_{histogram}_seconds"
        buckets = [
            count for key, count in found.items() if key.startswith(f"{name}_bucket{{{labels}")
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f"{name}_count{{{labels}}}"] == 4
    assert found['asgi_relay_retries_total{route="/dead"}'] == 2


def test_changes_of_a_target_are_told(tmp_path: Path) -> None:
    with Upstream(scripts.ok) as well, refusing() as dead:
        targets = [url.replace("//", "//ada:hush@") for url in (well.url, dead)]
        routes = [{"path": "/a", "targets": targets, "max_retries": 1}]
        with configured(tmp_path, routes) as gateway:
            while not any("target_changed" in line for line in gateway.lines):
                assert fetch(gateway.port, "/a").status == 200
    line = next(line for line in gateway.lines if "target_changed" in line)
    assert untimed(line) == (
        f'reverse_proxy.target_changed url="{dead}" before="healthy" after="ejected" route="/a"'
    )


@pytest.mark.parametrize(
    ("script", "event"),
    [
        (scripts.cut_length(promised=100_000), "upstream_error"),
        (scripts.stall(length=100_000), "upstream_timeout"),
    ],
    ids=["cut", "stalled"],
)
def test_an_answer_that_breaks_off_is_told(script: Script, event: str, tmp_path: Path) -> None:
    with Upstream(script) as upstream:
        # The head has to come in time even where the rest does not.
        read = 2 if event == "upstream_timeout" else 60
        route = {"targets": upstream.url, "timeout": {"read": read}}
        with configured(tmp_path, [route]) as gateway:
            with Client(gateway.port) as client:
                client.start("GET", "/half?token=hush", headers=[("X-Request-Id", 'a"b')])
                assert client.read_head().status == 200
                line = gateway.wait_line(f"reverse_proxy.{event}")
            start = f'reverse_proxy.{event} url="{upstream.url}/half?token=***" '
            assert untimed(line).startswith(start)
            assert line.endswith(r' request_id="a\"b"')


def test_other_threads_go_on_while_one_that_is_dropped_ends(tmp_path: Path) -> None:
    log, file = tmp_path / "access.log", tmp_path / "gateway.yaml"
    os.mkfifo(log)
    # Nobody reads it, so that the last lines take their time.
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    over, rounds = threading.Event(), 0

    def count() -> None:
        nonlocal rounds
        while not over.wait(0.001):
            rounds += 1

    thread = threading.Thread(target=count)
    with Upstream(scripts.ok) as upstream:
        server = "server: {port: 0, workers: 1}"
        file.write_text(
            f"{server}\naccess_log: {{path: {log}}}\nroutes: [{{targets: '{upstream.url}'}}]"
        )
        gateway = _engine.Gateway(_engine.Configuration(file))
        try:
            thread.start()
            with Client(int(gateway.addresses[0].rpartition(":")[2])) as client:
                # More than a pipe holds.
                for _ in range(20):
                    assert client.request(target="/" + "a" * 10_000).status == 200
                before = rounds
                del gateway
                # That takes a second.
                assert rounds > before + 20
        finally:
            over.set()
            thread.join()
            os.close(reader)
