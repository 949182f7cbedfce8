"""What the gateway makes of requests that nobody should send, octet by octet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.client import Client, fetch
from .support.gateway import configured
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = {
    "header_timeout": 2,
    "body_timeout": 2,
    "keepalive_timeout": 2,
    "max_header_size": 8192,
    "max_headers": 30,
    "max_body_size": 1000,
}
HOST = b"Host: h\r\n"
GET, POST = (b"%s / HTTP/1.1\r\n" % method + HOST for method in (b"GET", b"POST"))
TE = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

REFUSED = {
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two lengths in a line": POST + b"Content-Length: 1, 2\r\n\r\nab",
    "a signed length": POST + b"Content-Length: +1\r\n\r\na",
    "a length in hex": POST + b"Content-Length: 0x1\r\n\r\na",
    "a length with a space": POST + b"Content-Length: 1 0\r\n\r\na",
    "a length past 64 bits": POST + b"Content-Length: 18446744073709551617\r\n\r\na",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two lines": POST + TE + TE + b"\r\n0\r\n\r\n",
    "chunked with 1.0": b"POST / HTTP/1.0\r\n" + HOST + TE + b"\r\n0\r\n\r\n",
    "a vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": GET + b"X-A: 1\r\n 2\r\n\r\n",
    "a folded first line": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    "a line without colon": GET + b"X-A\r\n\r\n",
    "an empty name": GET + b": 1\r\n\r\n",
    "NUL in a value": GET + b"X-A: a\0b\r\n\r\n",
    "CR in a value": GET + b"X-A: a\rb\r\n\r\n",
    "NUL in a name": GET + b"X\0A: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control in the target": b"GET /a\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "another version": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "version 0.9": b"GET /\r\n\r\n",
    "a method that is none": b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n",
}  # fmt: skip

FRAMED = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a user": b"GET http://u@h/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "no slash": b"GET x HTTP/1.1\r\n" + HOST + b"\r\n",
    "an authority": b"GET admin.test:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "another scheme": b"GET ftp://other/y HTTP/1.1\r\n" + HOST + b"\r\n",
}  # fmt: skip
"""Wrong, but where they end is not in doubt: the next request is one."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.reflect) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def cut() -> Iterator[Upstream]:
    """Where uploads go that break off, maybe only after their client has been told."""
    with Upstream(scripts.reflect) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def port(
    upstream: Upstream, cut: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("gateway")
    routes = [
        {"path": "/public", "targets": f"{upstream.url}/base"},
        {"path": "/admin", "targets": f"{upstream.url}/secret"},
        {"path": "/cut", "targets": cut.url},
        {"targets": upstream.url},
    ]
    with configured(folder, routes, server={"limits": LIMITS}) as gateway:
        yield gateway.port


def answers(port: int, octets: bytes) -> list[tuple[int, bytes]]:
    """All that comes back until the gateway closes: statuses and bodies."""
    with Client(port) as client:
        client.send(octets)
        found: list[tuple[int, bytes]] = []
        try:
            while True:
                response = client.read()
                found.append((response.status, response.body))
        except EOFError:
            return found


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_nothing_behind_it_is_read(
    port: int, upstream: Upstream, name: str
) -> None:
    before = len(upstream.requests)
    with Client(port) as client:
        client.send(REFUSED[name], SMUGGLED)
        answer = client.read_until_closed()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == 1
    assert upstream.requests[before:] == []


@pytest.mark.parametrize("name", FRAMED)
def test_it_is_refused_and_the_next_one_is_not(port: int, upstream: Upstream, name: str) -> None:
    before = len(upstream.requests)
    (refused, _), *others = answers(port, FRAMED[name] + NEXT)
    assert refused == 400
    assert [status for status, _ in others] in ([], [200])
    assert all(request.target == b"/next" for request in upstream.requests[before:])


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\n" + TE,
        TE + b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\ntransfer-encoding: Chunked\r\n",
    ],
)
def test_two_framings_are_one_upstream(port: int, upstream: Upstream, head: bytes) -> None:
    """Refused, or chunked counts and nothing behind it is read (RFC 9112 §6.1)."""
    before = len(upstream.requests)
    with Client(port) as client:
        client.send(b"POST /both HTTP/1.1\r\n", HOST, head, b"\r\n0\r\n\r\n", SMUGGLED)
        answer = client.read_until_closed()
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert b"HTTP/1.1 " not in answer.partition(b"\r\n\r\n")[2].replace(b"/both HTTP/1.1", b"")
    for request in upstream.requests[before:]:
        assert request.target == b"/both"
        assert len(request.values("content-length")) + len(request.values("transfer-encoding")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5 ;x\rhello\r\n0\r\n\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"10000000000000000\r\nx\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_wrong_chunks_never_look_like_a_request(port: int, cut: Upstream, body: bytes) -> None:
    with Client(port) as client:
        client.send(b"POST /cut HTTP/1.1\r\n", HOST, TE, b"\r\n", body, SMUGGLED)
        client.finish()
        answer = client.read_until_closed()
    assert b"smuggled" not in answer
    assert b" 200 OK" not in answer
    for request in cut.requests:
        request.connection.wait_closed()
        assert not request.complete.is_set()


def test_bare_line_feeds_mean_one_thing(port: int, upstream: Upstream) -> None:
    """Refused or taken for line ends, they never become part of what goes upstream."""
    before = len(upstream.requests)
    for octets in (
        b"GET /lf HTTP/1.1\nHost: h\n\n",
        b"GET /lf HTTP/1.1\r\nHost: h\r\nX-A: 1\nX-B: 2\r\n\r\n",
        b"POST /lf HTTP/1.1\r\nHost: h\r\nX: x\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        for status, body in answers(port, octets + NEXT):
            assert status in (200, 400)
            assert b"\n" not in body.replace(b"\r\n", b"")
    assert {request.target for request in upstream.requests[before:]} <= {b"/lf", b"/next"}


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public\\..\\admin",
        "/public/x/../../admin",
        "/public/..;/admin",
        "//admin",
        "/./admin",
        "/%61dmin/../admin/../public",
        "/public/%2e%2e%2fadmin",
        "/admin%2fx/..",
    ],
)
def test_no_route_is_reached_through_another(port: int, upstream: Upstream, path: str) -> None:
    before = len(upstream.requests)
    answer = fetch(port, path)
    assert answer.status == 400
    assert upstream.requests[before:] == []


def test_a_fragment_goes_nowhere(port: int, upstream: Upstream) -> None:
    """No target has one (RFC 9112 §3.2): neither a route nor an upstream sees it."""
    before = len(upstream.requests)
    assert fetch(port, "/public#/../admin").body.split(b" ")[1] == b"/base"
    assert [request.target for request in upstream.requests[before:]] == [b"/base"]


def test_other_paths_pass_as_they_came(port: int) -> None:
    for path, arrives in (
        ("/public/a%2Fb//c;d?e=../../admin", b"/base/a%2Fb//c;d?e=../../admin"),
        ("/publicity/..x/.../%00", b"/publicity/..x/.../%00"),
        ("/%61dmin/x", b"/secret/x"),
        ("/public", b"/base"),
        ("/public?x", b"/base?x"),
    ):
        assert fetch(port, path).body.split(b" ")[1] == arrives


def test_heads_and_bodies_are_bounded(port: int, upstream: Upstream, cut: Upstream) -> None:
    before = len(upstream.requests)
    assert fetch(port, headers=[("X-A", "a" * 10_000)]).status == 431
    assert fetch(port, headers=[("X-A", "a")] * 40).status == 431
    assert fetch(port, b"/" + b"a" * 10_000).status in (414, 431)
    assert fetch(port, method="POST", body=b"a" * 1001).status == 413
    assert upstream.requests[before:] == []
    assert fetch(port, method="POST", body=b"a" * 1000).status == 200
    # Of a chunked one the size shows too late to keep its beginning back.
    with Client(port) as client:
        client.start("POST", "/cut/large", chunked=True)
        client.send_chunks([b"a" * 600] * 2, last=False)
        assert client.read().status == 413
    for request in cut.requests:
        request.connection.wait_closed()
        assert not request.complete.is_set()


def test_who_is_slow_is_let_go(port: int, upstream: Upstream) -> None:
    """A head that never ends, however it drips, and a body that stops; others are served."""
    began = time.monotonic()
    with Client(port) as silent, Client(port) as dripping, Client(port) as stopping:
        stopping.start("POST", length=100)
        stopping.send(b"some")
        dripping.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-A: ")
        assert fetch(port).status == 200
        ended = b""
        while not ended:
            try:
                # An octet at a time does not put the end off.
                dripping.sock.settimeout(0.1)
                dripping.send(b"a")
                ended = dripping.sock.recv(1000) or b"closed"
            except TimeoutError:
                assert time.monotonic() - began < 20
            except ConnectionError:
                ended = b"reset"
        assert ended in (b"closed", b"reset") or ended.startswith(b"HTTP/1.1 408 ")
        assert silent.read_until_closed() == b""
        assert stopping.read().status == 408
    request = next(r for r in upstream.requests if r.method == b"POST" and r.body == b"some")
    request.connection.wait_closed()
    assert not request.complete.is_set()


@pytest.mark.parametrize(("lines", "status"), [(30, 200), (31, 502)])
def test_an_answer_has_as_many_headers_as_a_request_may(
    tmp_path: Path, lines: int, status: int
) -> None:
    # One more is Content-Length's.
    headers = [(f"X-{number}", "v") for number in range(lines - 1)]
    with (
        Upstream(scripts.answer(headers=headers)) as upstream,
        configured(tmp_path, [{"targets": upstream.url}], server={"limits": LIMITS}) as gateway,
    ):
        assert fetch(gateway.port, "/").status == status


@pytest.mark.parametrize("left", [b"GET /b HT", b"\r\n"])
def test_what_is_left_over_of_a_request_hangs_nobody(tmp_path: Path, left: bytes) -> None:
    server = {"workers": 1, "limits": LIMITS}
    with (
        Upstream(scripts.ok) as upstream,
        configured(tmp_path, [{"targets": upstream.url}], server=server) as gateway,
        Client(gateway.port) as client,
    ):
        client.send(GET + b"\r\n" + left)
        assert client.read().status == 200
        # A head that has begun has to be complete in time.
        client.read_until_closed()
        assert fetch(gateway.port, "/").status == 200
