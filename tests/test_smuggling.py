"""Answers that try to be two, and heads that two readers would read differently.

Whatever the upstream sends behind a response must never become the response to somebody else's
request. What clients send is in test_hostile_requests.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from asgi_relay import Limits

from .support import scripts, wire
from .support.exchange import Gate
from .support.front import relayed
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .support.exchange import Exchange, Script

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"
HEAD = b"HTTP/1.1 200 OK\r\n"

# What an honest answer to each of these requests looks like; evil is what comes behind it.
HONEST = {
    "content-length": ("GET", HEAD + b"Content-Length: 2\r\n\r\nok"),
    "empty": ("GET", HEAD + b"Content-Length: 0\r\n\r\n"),
    "chunked": ("GET", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    "head": ("HEAD", HEAD + b"Content-Length: 50\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'),
    "100": ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"),
}


def honest_then_ok(honest: bytes, behind: bytes) -> Script:
    """Each connection's first request is answered with more than it should; later ones never."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.target == b"/poisoned":
            exchange.send(honest + behind)
        else:
            exchange.respond(headers=[("X-Honest", "1")], body=b"honest")

    return script


@pytest.mark.parametrize("behind", [EVIL, EVIL * 50, b"evil", b"\r\n\r\n" + EVIL, b"x" * 300_000])
@pytest.mark.parametrize(("method", "honest"), HONEST.values(), ids=HONEST)
def test_octets_behind_an_answer_are_not_the_next_one(
    method: str, honest: bytes, behind: bytes
) -> None:
    with (
        Upstream(honest_then_ok(honest, behind)) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        for _ in range(3):
            first = client.request(method, "/poisoned")
            assert first.status in {200, 204, 304}
            assert first.body in {b"", b"ok"}
            assert first.value("x-evil") is None
            assert client.request("GET", "/next").body == b"honest"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_octets_that_come_while_the_connection_is_idle_are_not_the_next_answer(method: str) -> None:
    gate, sent = Gate(), threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.respond(headers=[("X-Honest", "1")], body=b"honest")
        if exchange.connection.index % 2 == 0:
            exchange.wait(gate)
            exchange.send(EVIL)
            sent.set()

    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        for _ in range(20):
            assert client.request().body == b"honest"
            if len(upstream.requests[-1].connection.requests) == 1:
                gate.open()
                # The octets are in the kernel's buffer now, and the next request comes at once.
                sent.wait(5)
                sent.clear()
            response = client.request(method, body=b"" if method == "POST" else None)
            assert (response.body, response.value("x-evil")) == (b"honest", None)


def test_pipelined_requests_get_none_of_the_octets_behind_an_answer() -> None:
    def script(exchange: Exchange) -> None:
        name = exchange.request.target
        answer = wire.status_head(200, [("Content-Length", str(len(name)))]) + name
        exchange.send(answer + EVIL)

    count = 60
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        for number in range(count):
            client.start("GET", f"/{number:02}")
        for number in range(count):
            response = client.read()
            assert response.body == b"/%02d" % number
            assert response.value("x-evil") is None


def test_requests_at_once_get_none_of_the_octets_behind_an_answer() -> None:
    def script(exchange: Exchange) -> None:
        name = exchange.request.target
        answer = wire.status_head(200, [("Content-Length", str(len(name)))]) + name
        exchange.send(answer + EVIL)

    wrong: list[bytes] = []
    limits = Limits(max_connections=3)
    with Upstream(script) as upstream, relayed(upstream.url, limits=limits) as front:

        def ask(name: int) -> None:
            with front.client() as client:
                for number in range(30):
                    target = b"/%d/%d" % (name, number)
                    response = client.request("GET", target)
                    if response.body != target:
                        wrong.append(response.body)

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_body_to_a_head_request_is_not_the_next_answer() -> None:
    def script(exchange: Exchange) -> None:
        body = b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n"
        length = ("Content-Length", str(len(body)))
        if exchange.request.method == b"HEAD":
            exchange.send(wire.status_head(200, [length]), body)
        else:
            exchange.respond(body=b"honest")

    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        assert client.request("HEAD").body == b""
        assert client.request("GET").body == b"honest"


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_there_can_be_none_is_not_the_next_answer(status: int) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.request.target == b"/none":
            exchange.send(wire.status_head(status, [("Content-Length", str(len(EVIL)))]), EVIL)
        else:
            exchange.respond(body=b"honest")

    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        assert client.request("GET", "/none").body == b""
        assert client.request("GET").body == b"honest"


def test_trailers_become_no_headers_and_no_answer() -> None:
    chunks = b"2\r\nok\r\n0\r\nSet-Cookie: evil=1\r\nContent-Length: 9\r\n\r\n"
    script = scripts.in_turn(
        scripts.say(HEAD + b"Transfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n" + chunks),
        scripts.ok,
    )
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        response = client.request()
        assert response.body == b"ok"
        assert response.value("set-cookie") is None
        assert response.value("trailer") is None
        assert client.request().body == b"ok"


# -- framing that contradicts itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2, 3",
        b"Content-Length: +2",
        b"Content-Length: -2",
        b"Content-Length: 0x2",
        b"Content-Length: 2 2",
        b"Content-Length: two",
        b"Content-Length: ",
        b"Content-Length: ,",
        b"Content-Length: 99999999999999999999",
        b"Content-Length : 2",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding:\x0bchunked",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: chunked;q=1",
    ],
)
def test_an_answer_with_framing_that_can_be_read_in_two_ways_is_a_502(fields: bytes) -> None:
    said = HEAD + fields + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    script = scripts.in_turn(scripts.say(said), scripts.ok)
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        response = client.request()
        assert response.status == 502
        assert response.body.startswith(b"Upstream error")
        upstream.connections[0].wait_closed()
        assert client.request().body == b"ok"
        assert front.raised == []


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 2\r\nContent-Length: 2", b"Content-Length: 2, 2"]
)
def test_a_length_that_repeats_itself_is_one_length(fields: bytes) -> None:
    """RFC 9110 §8.6 allows to take it for one; it must not cross twice."""
    script = scripts.say(HEAD + fields + b"\r\n\r\nok")
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
    assert (response.body, response.values("content-length")) == (b"ok", [b"2"])


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: +5",
        b"Content-Length: 5x",
        b"Content-Length:",
        b"Content-Length: 5, 6",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 99999999999999999999999",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_malformed_length_is_a_502(method: str, fields: bytes) -> None:
    with (
        Upstream(scripts.say(HEAD + fields + b"\r\n\r\n")) as upstream,
        relayed(upstream.url) as front,
    ):
        assert front.fetch(method=method).status == 502


def test_an_http_1_0_answer_with_a_transfer_encoding_is_a_502() -> None:
    """RFC 9112 §6.1: such a message is to be treated as if its framing were faulty."""
    said = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with Upstream(scripts.say(said)) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 502


# -- lines that are more or less than lines --------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        b"X-A: a\rX-Evil: 1",
        b"X-A: a\r X-Evil: 1",
        b"X-A: a\0b",
        b"X-A: a\x01b",
        b"X-A: a\x7fb",
        b"X-A: a\r\n X-Evil: 1",
        b"X-A: a\r\n\tX-Evil: 1",
        b" X-Evil: 1",
        b"X-A\0: a",
        b"X-A\r: a",
    ],
    ids=[
        "cr",
        "cr-space",
        "nul",
        "control",
        "delete",
        "folded",
        "folded-tab",
        "folded-first",
        "nul-name",
        "cr-name",
    ],
)
def test_no_control_character_and_no_folded_line_crosses(field: bytes) -> None:
    said = HEAD + field + b"\r\nContent-Length: 2\r\n\r\nok"
    with Upstream(scripts.say(said)) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
        assert response.status == 502
        assert b"Evil" not in response.raw_head


def test_bare_line_feeds_end_lines_and_never_cross() -> None:
    """RFC 9112 §2.2 lets a recipient take a bare LF for the end of a line."""
    said = b"HTTP/1.1 200 OK\nX-A: a\nX-B: b\r\nContent-Length: 2\n\nok"
    with Upstream(scripts.say(said)) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
    assert (response.value("x-a"), response.value("x-b")) == (b"a", b"b")
    assert response.body == b"ok"
    assert b"\n" not in response.raw_head.replace(b"\r\n", b"")


def test_a_location_with_a_line_break_is_not_followed_and_does_not_cross() -> None:
    said = b"HTTP/1.1 302 Found\r\nLocation: /a\r\n \r\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n"
    with Upstream(scripts.say(said)) as upstream:
        with relayed(upstream.url, follow_redirects=True) as front:
            assert front.fetch().status == 502
        assert len(upstream.requests) == 1


def test_a_cookie_rewriter_cannot_split_a_head() -> None:
    cookie = ("Set-Cookie", "a=b; Domain=x.test")
    settings = {"rewrite_set_cookie_domain": lambda _: "y.test\r\nX-Evil: 1"}
    with (
        Upstream(scripts.answer(headers=[cookie])) as upstream,
        relayed(upstream.url, **settings) as front,
    ):
        response = front.fetch()
        assert response.status == 500
        assert b"Evil" not in response.raw_head
        assert [type(error) for error in front.raised] == [ValueError]
