"""Relay under each server: the octets of both hops, streaming, and endings told apart."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from asgi_relay import Relay, Timeout

from .support import scripts
from .support.client import Client, TruncatedError, fetch
from .support.exchange import Gate, Script
from .support.servers import SERVERS, serve
from .support.upstream import Upstream
from .support.waiting import AT_ONCE
from .support.wire import status_head

if TYPE_CHECKING:
    from .conftest import Serve
    from .support.authority import Authority
    from .support.leaks import Leaks
    from .support.wire import HeaderItems, Headers


def grouped(headers: Headers, *names: str) -> Headers:
    """The headers of these names, in the order of each name's first line.

    Where lines of one name stand between those of another means nothing (RFC 9110 §5.3).
    """
    first = [name.lower() for name, _ in headers]
    wanted = [(name.lower(), value) for name, value in headers if name.lower().decode() in names]
    return sorted(wanted, key=lambda line: first.index(line[0]))


PATIENT = Timeout(read=60)
"""So long that an upstream's exchange which ends at once was not ended by it."""

HTTP2 = ["hypercorn-asyncio", "hypercorn-trio", "granian"]


def test_a_request_arrives_as_it_was_sent(server: Serve) -> None:
    headers: HeaderItems = [
        ("X-Two", "one"),
        ("Cookie", "a=1"),
        ("x-two", "two"),
        ("X-Latin", b"caf\xe9 \xff"),
        ("X-Empty", ""),
        ("Accept-Encoding", "br;q=1.0, *;q=0"),
    ]
    with Upstream(scripts.ok) as upstream:
        port = server(Relay(upstream.url + "/base")).port
        fetch(
            port,
            "/a%2Fb//c?d=%20&d",
            method="POST",
            headers=headers,
            body=b"\0body\xff",
            host="me:8",
        )
        request = upstream.requests[0].wait_complete()
    assert request.line == b"POST /base/a%2Fb//c?d=%20&d HTTP/1.1"
    assert request.body == b"\0body\xff"
    assert grouped(request.headers, "x-two", "cookie", "x-latin", "x-empty", "accept-encoding") == [
        (b"x-two", b"one"),
        (b"x-two", b"two"),
        (b"cookie", b"a=1"),
        (b"x-latin", b"caf\xe9 \xff"),
        (b"x-empty", b""),
        (b"accept-encoding", b"br;q=1.0, *;q=0"),
    ]
    # Host comes first (RFC 9110 §7.2).
    assert request.headers[0] == (b"host", upstream.authority.encode())
    assert {name.lower(): value for name, value in request.headers[-4:]} == {
        b"content-length": b"6",
        b"x-forwarded-for": b"127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"me:8",
    }
    assert len(request.headers) == 11


def test_a_bodyless_request_has_no_body_headers(server: Serve) -> None:
    with Upstream(scripts.ok) as upstream:
        port = server(Relay(upstream.url)).port
        for method in ("GET", "DELETE", "OPTIONS", "POST"):
            fetch(port, method=method)
    for request in upstream.requests:
        assert request.value("content-length") is None
        assert request.value("transfer-encoding") is None


def test_a_body_of_length_zero_keeps_its_length(server: Serve) -> None:
    with Upstream(scripts.ok) as upstream:
        fetch(server(Relay(upstream.url)).port, method="POST", body=b"")
    assert upstream.requests[0].value("content-length") == b"0"


def test_a_chunked_request_stays_chunked_and_streams(server: Serve) -> None:
    with Upstream(scripts.echo) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.start("POST", chunked=True)
        client.send_chunks([b"first"], last=False)
        request = upstream.wait_requests()
        upstream.wait_until(lambda: request.body == b"first", "the first chunk")
        assert not request.complete.is_set()
        client.send_chunks([b" second"])
        assert client.read().body == b"first second"
    assert request.value("transfer-encoding") == b"chunked"
    assert request.value("content-length") is None


def test_a_large_body_passes_both_ways(server: Serve) -> None:
    body = bytes(range(256)) * 8192
    with Upstream(scripts.echo) as upstream:
        response = fetch(server(Relay(upstream.url)).port, method="PUT", body=body)
    assert response.body == body
    assert upstream.requests[0].value("content-length") == str(len(body)).encode()


def test_date_and_server_are_there_once(server: Serve) -> None:
    own = [("Date", "Mon, 01 Jan 2001 00:00:00 GMT"), ("Server", "upstream/1")]
    for headers in ([], own):
        with Upstream(scripts.answer(200, headers)) as upstream:
            response = fetch(server(Relay(upstream.url)).port)
        assert len(response.values("date")) == 1
        assert len(response.values("server")) == 1


def test_an_answer_arrives_as_it_was_sent(server: Serve) -> None:
    headers: HeaderItems = [
        ("X-B", "2"),
        ("Set-Cookie", "a=1"),
        ("X-A", b"\xe9"),
        ("Set-Cookie", "b=2"),
        ("x-b", "3"),
    ]
    with Upstream(scripts.answer(418, headers, b"\0\xff" * 100)) as upstream:
        response = fetch(server(Relay(upstream.url)).port)
    assert response.status == 418
    assert response.body == b"\0\xff" * 100
    assert response.value("content-length") == b"200"
    assert grouped(response.headers, "x-b", "set-cookie", "x-a") == [
        (b"x-b", b"2"),
        (b"x-b", b"3"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-a", b"\xe9"),
    ]


def test_answers_without_a_body_are_framed_right(server: Serve) -> None:
    length = [("Content-Length", "5"), ("ETag", '"x"')]
    script = scripts.by_path(
        {
            b"/head": scripts.answer(body=b"12345"),
            b"/204": scripts.say(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
            b"/304": scripts.say(status_head(304, length)),
            b"/empty": scripts.answer(body=b""),
        }
    )
    with Upstream(script) as upstream, Client(server(Relay(upstream.url)).port) as client:
        head = client.request("HEAD", "/head")
        assert (head.status, head.value("content-length")) == (200, b"5")
        no_content = client.request("GET", "/204")
        assert (no_content.status, no_content.value("x-a")) == (204, b"1")
        assert no_content.value("transfer-encoding") is None
        not_modified = client.request("GET", "/304")
        assert (not_modified.status, not_modified.value("etag")) == (304, b'"x"')
        assert not_modified.value("transfer-encoding") is None
        # On the same connection: nothing of the others was left over before this one.
        assert client.request("GET", "/empty").body == b""
    assert len(upstream.connections) == 1


def test_interim_answers_are_swallowed(server: Serve) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with Upstream(scripts.say(hints + whole)) as upstream:
        response = fetch(server(Relay(upstream.url)).port)
    assert (response.interim, response.status, response.body) == ([], 200, b"ok")
    assert response.value("link") is None


def test_each_piece_comes_when_the_upstream_sends_it(server: Serve) -> None:
    gate = Gate()
    events = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
    stream = scripts.drip(gate, events, headers=[("Content-Type", "text/event-stream")])
    with Upstream(stream) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.start()
        response = client.read_head()  # before the first piece
        assert response.value("content-type") == b"text/event-stream"
        pieces = client.pieces(response)
        for event in events:
            # The upstream does not go on before the client has got this one.
            gate.open()
            assert next(pieces).data == event
        assert list(pieces) == []


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(scripts.cut_length(b"abc"), id="length"),
        pytest.param(scripts.cut_length(b"abc", rst=True), id="length-rst"),
        pytest.param(scripts.cut_chunked(b"abc"), id="chunked"),
        pytest.param(scripts.cut_chunked(b"abc", rst=True), id="chunked-rst"),
        pytest.param(scripts.cut_chunked(b"abc", tail=b"0\r\n"), id="last-chunk"),
        pytest.param(scripts.cut_chunked(b"abc", tail=b"zz\r\n"), id="malformed-chunk"),
    ],
)
def test_an_upstream_that_dies_mid_body_is_a_truncated_answer(
    server: Serve, script: Script
) -> None:
    with (
        Upstream(script) as upstream,
        Client(server(Relay(upstream.url)).port) as client,
        pytest.raises(TruncatedError),
    ):
        client.request()
    assert len(upstream.requests) == 1


def test_an_upstream_that_dies_right_behind_its_head_is_no_whole_answer(server: Serve) -> None:
    """Where that shows before the head has been passed on, it is a 502."""
    with (
        Upstream(scripts.cut_length(b"", 5)) as upstream,
        Client(server(Relay(upstream.url)).port) as client,
        contextlib.suppress(TruncatedError),
    ):
        assert client.request().status == 502


def test_a_stall_mid_body_is_a_truncated_answer(server: Serve) -> None:
    with (
        Upstream(scripts.stall(b"some", length=10)) as upstream,
        Client(server(Relay(upstream.url, timeout=1.5)).port) as client,
        pytest.raises(TruncatedError) as cut,
    ):
        client.request()
    assert cut.value.after == 4
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("leave", [Client.close, Client.abort], ids=["fin", "rst"])
@pytest.mark.parametrize("script", [scripts.hang, scripts.stall()], ids=["head", "body"])
def test_a_client_that_leaves_closes_the_upstream(
    server: Serve, script: Script, leave: Script
) -> None:
    with (
        Upstream(script) as upstream,
        Client(server(Relay(upstream.url, timeout=PATIENT)).port) as client,
    ):
        client.start()
        connection = upstream.wait_requests().connection
        if script is not scripts.hang:
            client.read_head()
        left = time.monotonic()
        leave(client)  # type: ignore[arg-type]
        assert connection.wait_closed() - left < AT_ONCE


def test_a_half_upload_is_never_a_whole_one(server: Serve) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        Client(server(Relay(upstream.url, timeout=PATIENT)).port) as client,
    ):
        client.start("POST", chunked=True)
        client.send_chunks([b"half"], last=False)
        request = upstream.wait_requests()
        upstream.wait_until(lambda: request.body == b"half", "the first half")
        left = time.monotonic()
        client.close()
        assert request.connection.wait_closed() - left < AT_ONCE
    assert not request.complete.is_set()
    assert not request.raw.endswith(b"0\r\n\r\n")


def test_an_early_answer_reaches_the_client(server: Serve) -> None:
    with (
        Upstream(scripts.early(413)) as upstream,
        Client(server(Relay(upstream.url)).port) as client,
    ):
        client.start("POST", length=10_000_000)
        client.send(b"x" * 1000)
        response = client.read()
    assert (response.status, response.body) == (413, b"too much")


def test_forwarded_proto_tells_how_the_client_came(server: Serve, authority: Authority) -> None:
    with Upstream(scripts.ok) as upstream:
        running = server(Relay(upstream.url), certificate=authority.certificate("127.0.0.1"))
        assert fetch(running.port, tls=authority.client(), host="shop.test").status == 200
    assert upstream.requests[0].value("x-forwarded-proto") == b"https"
    assert upstream.requests[0].value("x-forwarded-host") == b"shop.test"


@pytest.mark.parametrize("root_path", ["", "/outer"])
def test_the_root_app_passes_the_whole_path(server: Serve, root_path: str) -> None:
    with Upstream(scripts.ok) as upstream:
        fetch(server(Relay(upstream.url), root_path=root_path).port, "/login?x=%2F")
    assert upstream.requests[0].target == b"/login?x=%2F"


def test_a_client_of_http_1_0_is_served(server: Serve) -> None:
    with Upstream(scripts.ok) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert client.read().body == b"ok"
    request = upstream.requests[0]
    assert request.line == b"GET /old HTTP/1.1"
    assert request.value("host") == upstream.authority.encode()


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "granian"])
def test_as_the_root_app_it_is_started_and_stopped_by_lifespan(kind: str, leaks: Leaks) -> None:
    def exchange(relay: Relay) -> None:
        with serve(relay, kind) as running:
            assert "running" in repr(relay)
            assert fetch(running.port).status == 200

    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        exchange(relay)
        upstream.connections[0].wait_closed()
        leaks.settle()
        exchange(relay)
        upstream.connections[1].wait_closed()
        assert "not started" in repr(relay)


@pytest.mark.parametrize("kind", HTTP2)
def test_http_2_becomes_http_1(kind: str) -> None:
    cookies = [("cookie", "a=1"), ("cookie", "b=2")]
    with (
        Upstream(scripts.ok) as upstream,
        serve(Relay(upstream.url), kind) as running,
        httpx.Client(http1=False, http2=True, trust_env=False) as client,
    ):
        assert client.get(f"{running.url}/p%2Fq?x", headers=cookies).text == "ok"
        assert client.post(running.url, content=iter([b"ab", b"c"])).text == "ok"
    get, post = upstream.requests
    assert get.line == b"GET /p%2Fq?x HTTP/1.1"
    assert get.values("cookie") == [b"a=1; b=2"]  # RFC 9113 §8.2.3
    assert get.value("x-forwarded-host") == running.url.removeprefix("http://").encode()
    assert get.value("transfer-encoding") is None
    assert (post.value("transfer-encoding"), post.body) == (b"chunked", b"abc")
