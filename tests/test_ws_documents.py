"""What the documents say of WebSockets: Ravyn's page, fastapi-reverse-proxy's and PyServe's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from ravyn import Include, Ravyn
from ravyn.testclient import RavynTestClient
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_relay import Relay

from .support import scripts
from .support.client import fetch
from .support.exchange import Gate
from .support.front import relayed
from .support.session import Session
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo, through
from .support.websocket_servers import serve_websockets
from .test_documents import example

if TYPE_CHECKING:
    from .support.authority import Authority

TITLE = "Enable WebSocket Support"


# -- Ravyn ---------------------------------------------------------------------------------------


def test_ravyn_frames_stream_both_ways_without_any_configuration() -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        app = example(TITLE, "chat-service:8000", upstream)["app"]
        with serve_websockets(app) as server, WebSocketClient(server.port) as client:
            # ws://app/ws/room → ws://chat-service:8000/room
            client.open("/ws/room")
            peer = accept.peer()
            assert peer.request.target == b"/room"
            for message in ("text", b"\0binary"):
                client.send_message(message)
                assert peer.receive_message() == message
                peer.send_message(message)
                assert client.receive_message() == message
            # "On upstream close: emits 1000 (normal closure)"
            peer.close(1000)
            assert client.answer_close() == (1000, "")
            peer.answer_close()


def test_ravyn_an_error_emits_1011() -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        app = example(TITLE, "chat-service:8000", upstream)["app"]
        with serve_websockets(app) as server, WebSocketClient(server.port) as client:
            client.open("/ws/room")
            accept.peer().vanish()
            assert client.answer_close()[0] == 1011


def test_ravyn_a_timeout_emits_1011() -> None:
    with through(ws_ping_interval=0.1, ws_ping_timeout=0.1) as ends:
        assert ends.client.answer_close()[0] == 1011


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
def test_ravyn_in_memory_testing() -> None:
    """The page's style of test, with a WebSocket in the place of its request."""

    async def room(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat")
        await websocket.send_text(f"hello, {await websocket.receive_text()}")
        await websocket.close(4000, "enough")

    upstream_app = Starlette(routes=[WebSocketRoute("/room", room)])
    proxy = Relay("http://upstream", transport=httpx.ASGITransport(app=upstream_app))
    app = Ravyn(
        routes=[Include("/proxy", app=proxy)],
        on_startup=[proxy.startup],
        on_shutdown=[proxy.shutdown],
    )
    with (
        RavynTestClient(app) as client,
        client.websocket_connect("/proxy/room", subprotocols=["chat"]) as session,
    ):
        assert session.accepted_subprotocol == "chat"
        session.send_text("Ravyn")
        assert session.receive_text() == "hello, Ravyn"
        assert session.receive()["code"] == 4000


def test_lilya_defect_websockets_connect() -> None:
    with through(Accept(echo)) as ends:
        ends.client.send_text("connected")
        assert ends.client.receive_message() == "connected"


# -- fastapi-reverse-proxy -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_fastapi_reverse_proxy_negotiation_is_deferred(anyio_backend: Any) -> None:
    gate = Gate()
    accept = Accept(subprotocol="v2")
    with Upstream(scripts.gated(gate, accept)) as upstream:
        session = Session(subprotocols=["v1", "v2"])
        relay = Relay(upstream.url, shutdown_grace=0.1)
        async with relay, session.run(relay):
            # 1. The client's subprotocols come from the scope, 2. the upstream's connection first,
            request = await anyio.to_thread.run_sync(upstream.wait_requests)
            assert request.value("sec-websocket-protocol") in (b"v1, v2", b"v1,v2")
            assert session.sent == []
            gate.open()
            # 3. and once it has accepted one, the client is accepted with it.
            assert (await session.accepted())["subprotocol"] == "v2"
            session.leave(1000)


def test_fastapi_reverse_proxy_defect_two_mebibytes_pass() -> None:
    message = b"\xff" * (2 << 20)
    with through(Accept(echo)) as ends:
        ends.client.send_binary(message, mask=b"\0\0\0\0")
        assert (ends.client.receive_message() == message) is True


def test_fastapi_reverse_proxy_the_tunnel_ends_with_the_task() -> None:
    with through() as ends:
        ends.client.vanish()
        assert ends.peer.answer_close()[0] == 1001


# -- PyServe -------------------------------------------------------------------------------------


def test_pyserve_http_and_websocket_of_one_configuration() -> None:
    script = scripts.by_path({b"/page": scripts.ok, b"/socket": Accept(echo)})
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        # "WebSocket connections are automatically detected by headers"
        client.open("/socket")
        client.send_text("hello")
        assert fetch(front.port, "/page").body == b"ok"
        assert client.receive_message() == "hello"


def test_pyserve_the_longer_path_of_two() -> None:
    chat, notes = Accept(), Accept()
    with Upstream(chat) as one, Upstream(notes) as two:
        relays = [Relay(url, shutdown_grace=0.1) for url in (one.url, two.url)]
        app = Starlette(
            routes=[
                Mount("/ws/notifications", app=relays[1]),
                Mount("/ws/chat", app=relays[0]),
                Route("/ws/chat2", endpoint=relays[1]),
            ]
        )
        with (
            serve_websockets(app) as server,
            WebSocketClient(server.port) as first,
            WebSocketClient(server.port) as second,
        ):
            first.open("/ws/chat/1")
            second.open("/ws/notifications/2")
        assert chat.peer().request.target == b"/1"
        assert notes.peer().request.target == b"/2"


@pytest.mark.parametrize("connection", ["keep-alive, Upgrade", "upgrade", "Upgrade, keep-alive"])
def test_pyserve_defect_upgrade_among_other_tokens(connection: str) -> None:
    lines = [
        b"GET /x HTTP/1.1",
        b"Host: relay.test",
        b"Upgrade: WebSocket",
        b"Connection: " + connection.encode(),
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ]
    with (
        Upstream(Accept(echo)) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        client.send(b"\r\n".join(lines) + b"\r\n\r\n")
        assert client.http.read_head().status == 101
        client.send_text("hello")
        assert client.receive_message() == "hello"


@pytest.mark.parametrize("scheme", ["wss", "https"])
def test_pyserve_secure_websockets(authority: Authority, scheme: str) -> None:
    # Lilya's defect: `wss` becomes `ws`.
    with Upstream(Accept(echo), tls=authority.server("127.0.0.1")) as upstream:
        url = upstream.url.replace("https", scheme)
        with (
            relayed(url, verify=str(authority.pem)) as front,
            WebSocketClient(front.port) as client,
        ):
            client.open("/x")
            client.send_text("secret")
            assert client.receive_message() == "secret"


def test_pyserve_a_certificate_that_nobody_trusts_is_a_502(authority: Authority) -> None:
    with (
        Upstream(Accept(echo), tls=authority.server("127.0.0.1")) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.shake()
    assert response.status == 502
    assert response.body.startswith(b"Upstream error")
