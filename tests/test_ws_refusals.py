"""Upstreams that answer a handshake otherwise: the client gets their answer as it is.

What is no answer at all (refused, silent, broken off) is in test_ws_failures.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Relay

from .support import scripts, wire
from .support.each import EACH
from .support.exchange import Gate
from .support.front import relayed
from .support.processes import run_process
from .support.servers import serve
from .support.session import Session, given
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve
    from .support.client import Response
    from .support.exchange import Exchange, Script

COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
BODY = b'{"error": "not you", "sign": "\xe2\x82\xac"}'
MUCH = b"".join(b"%07d\n" % number for number in range(131_072))


def shaken(script: Script, target: str = "/x", **settings: Any) -> Response:
    """The answer that a client gets to its handshake, through a server."""
    with (
        Upstream(script) as upstream,
        relayed(upstream.url, **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.shake(target)
        assert front.raised == []
        return response


def refused(script: Script, session: Session | None = None, **settings: Any) -> Session:
    """What a server is told of it."""
    with Upstream(script) as upstream:
        return given(session or Session("/x"), upstream.url, **settings)


# -- as they are -----------------------------------------------------------------------------------


HEADERS = [
    ("Content-Type", "application/json"),
    ("WWW-Authenticate", 'Bearer realm="x"'),
    ("Retry-After", "7"),
    ("Set-Cookie", "a=1; Path=/"),
]


def assert_whole(response: Response, status: int) -> None:
    assert (response.status, response.body) == (status, BODY)
    for name, value in HEADERS:
        assert response.value(name) == value.encode()


@pytest.mark.parametrize("status", [401, 503])
@pytest.mark.parametrize("pieces", [1, 5])
def test_status_headers_and_body_arrive_on_every_server(
    server: Serve, status: int, pieces: int, request: pytest.FixtureRequest
) -> None:
    # It can refuse with one message alone, for which the relay gathers the pieces for a second.
    in_time = request.node.callspec.params["server"] == "granian"

    def script(exchange: Exchange) -> None:
        if in_time:
            exchange.respond(status, HEADERS, BODY)
            return
        exchange.start(status, HEADERS, len(BODY))
        size = len(BODY) // pieces + 1
        for start in range(0, len(BODY), size):
            exchange.send(BODY[start : start + size])
            time.sleep(0.01)  # a segment of its own each

    with Upstream(script) as upstream:
        port = server(Relay(upstream.url)).port
        with WebSocketClient(port) as client:
            assert_whole(client.shake(), status)


@pytest.mark.parametrize("kind", [kind for kind in EACH if kind != "granian"])
def test_set_cookie_lines_stay_separate(kind: str) -> None:
    with (
        Upstream(scripts.answer(401, COOKIES)) as upstream,
        serve(Relay(upstream.url), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        assert client.shake().values("set-cookie") == [b"a=1", b"b=2"]


def test_a_repeated_header_does_not_bring_granian_down(tmp_path: Path) -> None:
    """Of a refusal with one granian 2.8 makes an end of the whole process."""
    command = ["-m", "granian", "--interface", "asgi", "--port", "{port}"]
    with (
        Upstream(scripts.answer(401, COOKIES, BODY)) as upstream,
        run_process(
            [*command, "tests.support.relay_app:app"],
            tmp_path / "granian.log",
            {"RELAY_TARGET": upstream.url},
        ) as process,
    ):
        for _ in range(3):
            with WebSocketClient(process.port) as client:
                response = client.shake()
            assert (response.status, response.body) == (401, BODY)
            assert response.values("set-cookie")
        assert process.popen.poll() is None


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 410, 418, 426, 429, 500, 502, 503])
def test_any_status_arrives(status: int) -> None:
    headers = [("Content-Type", "application/json"), ("Sec-WebSocket-Version", "13")]
    session = refused(scripts.answer(status, headers, BODY))
    assert (session.status, session.body) == (status, BODY)
    assert session.response_values("content-type") == [b"application/json"]


@pytest.mark.parametrize("framing", ["length", "chunked", "none"])
@pytest.mark.parametrize("body", [b"", b"x", BODY, MUCH], ids=["0", "1", "some", "1MB"])
def test_bodies_of_any_framing_arrive_whole(framing: str, body: bytes) -> None:
    def script(exchange: Exchange) -> None:
        if framing == "none":
            exchange.send(b"HTTP/1.1 403 Forbidden\r\n\r\n", body)
            exchange.close()
            return
        exchange.start(403, length=len(body) if framing == "length" else None)
        for start in range(0, len(body), 50_000):
            piece = body[start : start + 50_000]
            exchange.send(piece if framing == "length" else wire.chunk(piece))
        if framing == "chunked":
            exchange.end()

    session = refused(script)
    assert (session.status, session.body) == (403, body)
    response = shaken(script)
    assert (response.status, response.body) == (403, body)
    if framing == "length":
        assert response.value("content-length") == str(len(body)).encode()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_has_none(status: int) -> None:
    session = refused(scripts.say(wire.status_head(status, [("X-A", "1")])))
    assert (session.status, session.body) == (status, b"")
    assert session.response_values("x-a") == [b"1"]


def test_a_body_that_breaks_off_does_not_look_whole() -> None:
    with Upstream(scripts.cut_length(b"half")) as upstream:
        session = Session()

        async def run() -> None:
            async with Relay(upstream.url) as relay, session.run(relay):
                pass
            session.take_error()

        anyio.run(run)
    assert session.state != "over"


def test_a_body_without_an_end_goes_out_as_it_comes() -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(200, [("Content-Type", "text/event-stream")])
        exchange.chunk(b"data: 1\n\n")
        exchange.wait(first)
        exchange.chunk(b"data: 2\n\n")
        exchange.hang()

    async def run(url: str) -> None:
        async with Relay(url) as relay, Session().run(relay) as session:
            await session.until(lambda: len(session.sent) >= 2)
            first.open()
            await session.until(lambda: len(session.sent) >= 3)
            session.leave(1006)
        assert session.status == 200
        bodies = [(message["body"], message["more_body"]) for message in session.sent[1:]]
        assert bodies == [(b"data: 1\n\n", True), (b"data: 2\n\n", True)]

    first = Gate()
    with Upstream(script) as upstream:
        anyio.run(run, upstream.url)
        upstream.connections[0].wait_done()


def test_an_encoded_body_is_not_decoded() -> None:
    body = b"\x1f\x8b no gzip at all"
    session = refused(scripts.answer(403, [("Content-Encoding", "gzip")], body))
    assert session.body == body
    assert session.response_values("content-encoding") == [b"gzip"]


# -- policies --------------------------------------------------------------------------------------


def test_the_policies_on_responses_are_those_of_http() -> None:
    headers = [
        ("Set-Cookie", "a=1; Domain=up.test; Path=/"),
        ("Keep-Alive", "timeout=5"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("X-Internal", "1"),
        ("X-A", "1"),
    ]
    session = refused(
        scripts.answer(403, headers, b"no"),
        rewrite_set_cookie_domain=lambda _: "",
        drop_response_headers=["x-internal"],
    )
    assert session.response_values("set-cookie") == [b"a=1; Path=/"]
    found = {name for name, _ in session.response_headers} - {b"date"}
    assert found == {b"set-cookie", b"x-a", b"content-length"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_passed_on_even_if_those_of_http_are_followed(status: int) -> None:
    script = scripts.in_turn(
        scripts.answer(status, [("Location", "/elsewhere")], b"over there"), Accept(echo)
    )
    with Upstream(script) as upstream:
        session = given(Session("/x"), upstream.url, follow_redirects=True)
        assert len(upstream.requests) == 1
    assert (session.status, session.body) == (status, b"over there")
    assert session.response_values("location") == [b"/elsewhere"]


def test_a_retryable_status_arrives_whole_once_the_retries_are_used_up() -> None:
    script = scripts.answer(503, [("Retry-After", "7")], b"come back later")
    with Upstream(script) as upstream:
        session = given(Session(), upstream.url, max_retries=2, retry_backoff_factor=0)
        assert len(upstream.requests) == 3
    assert (session.status, session.body) == (503, b"come back later")
    assert session.response_values("retry-after") == [b"7"]


def test_a_retryable_status_is_not_the_last_word() -> None:
    script = scripts.in_turn(scripts.answer(503), Accept(echo))
    with Upstream(script) as upstream:
        session = given(Session(), upstream.url, max_retries=1, retry_backoff_factor=0)
        keys = {request.value("sec-websocket-key") for request in upstream.requests}
        assert len(upstream.requests) == 2
    assert session.sent[0]["type"] == "websocket.accept"
    assert None not in keys


# -- servers that can only close -------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [None, {}, {"websocket.other": {}}], ids=str)
@pytest.mark.parametrize(
    "script",
    [scripts.answer(403, body=b"no"), scripts.answer(503, body=MUCH), scripts.answer(302)],
    ids=["403", "503", "302"],
)
def test_without_the_extension_it_is_a_close_before_the_acceptance(
    extensions: dict[str, Any] | None, script: Script
) -> None:
    session = refused(script, Session(extensions=extensions))
    (close,) = session.sent
    assert close["type"] == "websocket.close"
    assert close.get("code", 1000) == 1000


def test_without_the_extension_the_upstream_s_connection_is_given_back() -> None:
    endless = scripts.flood(1 << 30)
    with Upstream(endless) as upstream:
        session = given(Session(extensions={}), upstream.url)
        upstream.connections[0].wait_done()
    assert [message["type"] for message in session.sent] == ["websocket.close"]
