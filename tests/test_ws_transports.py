"""WebSockets of upstreams in this process, by our transport, httpx's and httpx2's: all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from asgi_relay import ASGITransport, Relay, Timeout

from .support import asgi
from .support.direct import Call
from .support.in_process import TRANSPORTS, URL, WebSocketApp, echo, opened, relay_to
from .support.tidy import Tidy
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from .support.asgi import Receive, Scope, Send

pytestmark = pytest.mark.anyio


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# -- handshake -----------------------------------------------------------------------------------


async def test_the_app_gets_the_scope_that_a_server_would_make(kind: str) -> None:
    app = WebSocketApp()
    headers = [
        (b"host", b"client.test"),
        (b"connection", b"keep-alive, Upgrade, x-hop"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"sec-websocket-protocol", b"v1, v2"),
        (b"cookie", b"a=1"),
        (b"origin", b"https://client.test"),
        (b"x-hop", b"gone"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]
    relay = relay_to(app, kind)
    async with opened(
        relay, "/a%2Fb//c?x=%2F&y", headers=headers, subprotocols=["v1", "v2"]
    ) as session:
        await session.accepted()
        session.leave(1000)
    [scope] = app.scopes
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
    assert scope["asgi"]["version"] == "3.0"
    assert scope["raw_path"] == b"/base/a%2Fb//c"
    assert scope["path"] == "/base/a/b//c"
    assert scope["query_string"] == b"x=%2F&y"
    assert scope["root_path"] == ""
    assert scope["subprotocols"] == ["v1", "v2"]
    assert scope["server"] == ("app.test", 8000)
    assert "websocket.http.response" in scope["extensions"]
    assert "method" not in scope
    end_to_end = [line for line in scope["headers"] if not line[0].startswith(b"sec-websocket-")]
    assert sorted(end_to_end) == [
        (b"connection", b"Upgrade"),
        (b"cookie", b"a=1"),
        (b"host", b"app.test:8000"),
        (b"origin", b"https://client.test"),
        (b"upgrade", b"websocket"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-host", b"client.test"),
        (b"x-forwarded-proto", b"http"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]


async def test_without_subprotocols_none_are_offered(kind: str) -> None:
    app = WebSocketApp()
    async with opened(relay_to(app, kind)) as session:
        assert (await session.accepted()).get("subprotocol") is None
        session.leave(1000)
    [scope] = app.scopes
    assert scope["subprotocols"] == []
    assert b"sec-websocket-protocol" not in dict(scope["headers"])


async def test_its_acceptance_arrives_by_the_policies(kind: str) -> None:
    headers = [
        (b"set-cookie", b"a=1; Domain=app.test"),
        (b"x-room", b"7"),
        (b"x-secret", b"gone"),
        (b"set-cookie", b"b=2"),
    ]
    app = WebSocketApp(subprotocol="v2", headers=headers)
    relay = relay_to(
        app,
        kind,
        rewrite_set_cookie_domain=lambda domain: "",
        drop_response_headers=["X-Secret"],
    )
    async with opened(relay, subprotocols=["v1", "v2"]) as session:
        accept = await session.accepted()
        session.leave(1000)
    assert accept["subprotocol"] == "v2"
    assert session.response_values("set-cookie") == [b"a=1", b"b=2"]
    assert session.response_values("x-room") == [b"7"]
    assert len(session.response_headers) == 3


async def test_a_subprotocol_that_was_not_offered_is_a_502(kind: str) -> None:
    async with opened(
        relay_to(WebSocketApp(subprotocol="v3"), kind), subprotocols=["v1"]
    ) as session:
        await session.returned.wait()
    assert session.status == 502


async def test_its_refusal_arrives_as_it_is(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "websocket.http.response.start", "status": 401}
        cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({**start, "headers": [(b"www-authenticate", b"Basic"), *cookies]})
        body = {"type": "websocket.http.response.body"}
        await send({**body, "body": b"who are ", "more_body": True})
        await send({**body, "body": b"you?"})

    async with opened(relay_to(app, kind)) as session:
        await session.returned.wait()
    assert (session.status, session.body) == (401, b"who are you?")
    assert session.response_values("www-authenticate") == [b"Basic"]
    assert session.response_values("set-cookie") == [b"a=1", b"b=2"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_refusal_that_it_does_not_end_has_an_end(kind: str, begun: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        if begun:
            body = {"type": "websocket.http.response.body", "body": b"who "}
            await send({**body, "more_body": True})

    async with opened(relay_to(app, kind, timeout=None)) as session:
        await session.returned.wait()
        session.take_error()
    assert session.state != "over"


async def test_its_close_before_the_acceptance_is_a_403(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.close", "code": 4000})
        # For an app that waits for it, as under a server.
        assert (await receive())["type"] == "websocket.disconnect"

    async with opened(relay_to(app, kind)) as session:
        await session.returned.wait()
    assert (session.status, session.body) == (403, b"")
    async with opened(relay_to(app, kind), extensions=None) as session:
        await session.returned.wait()
    assert session.types == ["websocket.close"]


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
async def test_an_app_without_an_answer_is_a_502(
    kind: str, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if fails:
            raise LookupError("a secret of the inside")

    async with opened(relay_to(app, kind)) as session:
        await session.returned.wait()
    assert session.status == 502
    assert session.body.startswith(b"Upstream error")
    assert b"secret" not in session.body
    # For whoever has to mend the app, there is a traceback.
    assert ("a secret of the inside" in caplog.text) is fails


async def test_an_app_that_does_not_answer_in_time_is_a_504(kind: str) -> None:
    tidy = await Tidy.look_around()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep_forever()

    async with opened(relay_to(app, kind, timeout=Timeout(read=0.1))) as session:
        await session.returned.wait()
    assert (session.status, session.body) == (504, b"Gateway Timeout")
    await tidy.check()


async def test_a_client_that_leaves_while_the_app_thinks(kind: str) -> None:
    tidy = await Tidy.look_around()
    begun, gone = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            gone.set()

    async with opened(relay_to(app, kind, timeout=Timeout(60))) as session:
        await begun.wait()
        session.leave(1006)
        with anyio.fail_after(AT_ONCE):
            await gone.wait()
    assert session.sent == []
    await tidy.check()


async def test_messages_cross_both_ways_and_so_do_closes(kind: str) -> None:
    app = WebSocketApp(echo)
    async with opened(relay_to(app, kind)) as session:
        for message in ("", b"", "text", b"\0\xff"):
            session.say(message)
            assert await session.message() == message
        session.leave(4000, "bye")
    assert app.received[-1] == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}


async def test_relays_may_be_chained(kind: str) -> None:
    inner = Relay("http://last.test", transport=ASGITransport(WebSocketApp(echo, subprotocol="v1")))
    async with opened(relay_to(inner, kind), subprotocols=["v1"]) as session:
        assert (await session.accepted())["subprotocol"] == "v1"
        session.say("hello")
        assert await session.message() == "hello"
        session.leave(4000, "bye")
    await inner.shutdown()


async def test_a_transport_that_takes_no_websockets_is_a_502() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="ok"))
    relay = Relay(URL, transport=transport)
    async with opened(relay) as session:
        await session.returned.wait()
        assert session.status == 502
        assert session.body.startswith(b"Upstream error")
        # It still serves what it can.
        assert (await Call()(relay)).body == b"ok"


async def test_the_same_app_answers_both(kind: str) -> None:
    web_socket = WebSocketApp(echo)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await web_socket(scope, receive, send)
        else:
            await asgi.respond(send, b"http")

    async with opened(relay_to(app, kind)) as session:
        session.say("hello")
        assert await session.message() == "hello"
        session.leave(1000)
        call = Call()
        relay = relay_to(app, kind)
        async with relay:
            assert (await call(relay)).body == b"http"
