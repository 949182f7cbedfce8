"""WebSockets through Relay mounted in each framework, under servers and under test clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lilya.testclient
import litestar.testing
import pytest
import ravyn.testclient
import starlette.testclient

from asgi_relay import ASGITransport, Relay

from .support import scripts
from .support.apps import FRAMEWORKS, mount
from .support.client import fetch
from .support.in_process import WebSocketApp, echo
from .support.upstream import Upstream, refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient
from .support.websocket import echo as echo_peer
from .support.websocket_servers import DEPRECATED, serve_websockets

if TYPE_CHECKING:
    from .support.asgi import ASGIApp, Receive, Send

pytestmark = pytest.mark.filterwarnings(DEPRECATED)

KINDS = ["uvicorn-sansio", "hypercorn-asyncio", "granian"]

PATHS = ["/room/1?token=%2F", "/a%2Fb%20c", "/%E2%82%AC", "/", "//x", "/a/", "/auth/auth", "/?"]
"""Below the mount, as the client sends it; a bare ? may go."""

HEADERS = [("Set-Cookie", "a=1; Path=/"), ("X-Room", "7"), ("Set-Cookie", "b=2")]


def mounted(framework: str, relay: Relay) -> ASGIApp:
    return mount(framework, "/auth", relay, relay.startup, relay.shutdown)


# -- under servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_conversation(framework: str, kind: str) -> None:
    accept = Accept(subprotocol="v2", headers=HEADERS)
    with Upstream(accept) as upstream:
        app = mounted(framework, Relay(upstream.url, shutdown_grace=0.1))
        with serve_websockets(app, kind) as server, WebSocketClient(server.port) as client:
            response = client.open(
                "/auth/room%2F1?x=%20", [("Cookie", "user=a")], subprotocols=["v1", "v2"]
            )
            peer = accept.peer()
            assert response.value("sec-websocket-protocol") == b"v2"
            if kind != "granian":
                assert response.values("set-cookie") == [b"a=1; Path=/", b"b=2"]
                assert response.value("x-room") == b"7"
            for message in ("text", b"\0\xff", "", b""):
                client.send_message(message)
                assert peer.receive_message() == message
                peer.send_message(message)
                assert client.receive_message() == message
            peer.close(4001, "enough")
            assert client.answer_close() == (4001, "enough")
            assert peer.expect_close() == (4001, "enough")
        assert upstream.requests[0].target == b"/room%2F1?x=%20"
        assert upstream.requests[0].value("cookie") == b"user=a"
        assert upstream.requests[0].value("host") == upstream.authority.encode()
        assert upstream.requests[0].value("x-forwarded-host") == b"relay.test"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_paths_closes_and_refusals(framework: str) -> None:
    refusal = scripts.answer(401, [("WWW-Authenticate", "Basic"), *HEADERS], b"who are you?")
    accept = Accept()
    with Upstream(scripts.by_path({b"/private": refusal, b"/open": accept})) as upstream:
        app = mounted(framework, Relay(upstream.url, shutdown_grace=0.1))
        with serve_websockets(app) as server:
            for path in PATHS:
                with WebSocketClient(server.port) as client:
                    assert client.shake("/auth" + path).status == 404
            arrived = [request.target.decode() for request in upstream.requests]
            assert arrived == [path.removesuffix("?") for path in PATHS]

            with WebSocketClient(server.port) as client:
                response = client.shake("/auth/private")
            assert (response.status, response.body) == (401, b"who are you?")
            assert response.value("www-authenticate") == b"Basic"
            assert response.values("set-cookie") == [b"a=1; Path=/", b"b=2"]

            with WebSocketClient(server.port) as client:
                client.open("/auth/open")
                assert client.finish_close(4002, "bye") == (4002, "bye")
                assert accept.peer().answer_close() == (4002, "bye")

            with WebSocketClient(server.port) as client:
                client.open("/auth/open")
                accept.peer(1).vanish()
                assert client.answer_close()[0] == 1011


def test_an_upstream_that_is_down(framework: str) -> None:
    with (
        refusing() as url,
        serve_websockets(mounted(framework, Relay(url))) as server,
        WebSocketClient(server.port) as client,
    ):
        response = client.shake("/auth/x")
    assert response.status == 502
    assert response.body.startswith(b"Upstream error")


def test_http_and_websockets_share_a_mount_that_no_hook_starts(framework: str) -> None:
    script = scripts.by_path({b"/page": scripts.ok, b"/socket": Accept(echo_peer)})
    with Upstream(script) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.1)
        with (
            serve_websockets(mount(framework, "/auth", relay)) as server,
            WebSocketClient(server.port) as client,
        ):
            client.open("/auth/socket")
            for _ in range(3):
                assert fetch(server.port, "/auth/page").body == b"ok"
                client.send_text("hello")
                assert client.receive_message() == "hello"
            client.finish_close()


# -- under test clients --------------------------------------------------------------------------

CLIENTS: dict[str, tuple[str, Any]] = {
    "ravyn": ("ravyn", ravyn.testclient.RavynTestClient),
    "lilya": ("lilya", lilya.testclient.TestClient),
    "starlette": ("starlette", starlette.testclient.TestClient),
    "fastapi": ("fastapi", starlette.testclient.TestClient),
    "litestar": ("litestar", litestar.testing.TestClient),
    "plain": ("plain", starlette.testclient.TestClient),
}

IN_TEST_CLIENTS = [
    pytest.mark.usefixtures("collected"),
    # Lilya's, Ravyn's and Starlette's clients do it with an app that does nothing, too.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


class Clients:
    """The test client of a framework in which a Relay is mounted."""

    def __init__(self, name: str, backend: str) -> None:
        self.framework, self._make = CLIENTS[name]
        self._backend = backend

    def __call__(self, relay: Relay) -> Any:
        return self._make(mounted(self.framework, relay), backend=self._backend)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=CLIENTS)
def clients(request: pytest.FixtureRequest, backend: str) -> Clients:
    return Clients(request.param, backend)


class TestUnderTestClients:
    pytestmark = IN_TEST_CLIENTS

    def test_an_upstream_in_memory(self, clients: Clients) -> None:
        app = WebSocketApp(echo, subprotocol="v2", headers=[(b"x-room", b"7")])
        relay = Relay("http://upstream", transport=ASGITransport(app))
        with (
            clients(relay) as client,
            client.websocket_connect("/auth/room%2F1?x=%20", subprotocols=["v1", "v2"]) as session,
        ):
            assert session.accepted_subprotocol == "v2"
            for text in ("hello", ""):
                session.send_text(text)
                assert session.receive_text() == text
            session.send_bytes(b"\0\xff")
            assert session.receive_bytes() == b"\0\xff"
            session.close(4001)
            # Some clients cancel what has not ended when they leave.
            wait_until(app.gone.is_set, "the upstream to end")
        assert app.scopes[0]["raw_path"] == b"/room%2F1"
        assert app.scopes[0]["query_string"] == b"x=%20"
        assert app.received[-1]["code"] == 4001

    def test_an_upstream_over_a_socket(self, clients: Clients) -> None:
        accept = Accept(echo_peer)
        with Upstream(accept) as upstream:
            relay = Relay(upstream.url, shutdown_grace=0.1)
            with clients(relay) as client, client.websocket_connect("/auth/room?x=%20") as session:
                session.send_text("hello")
                assert session.receive_text() == "hello"
                session.send_json({"a": 1})
                assert session.receive_json() == {"a": 1}
            assert upstream.requests[0].target == b"/room?x=%20"

    def test_the_upstream_closes(self, clients: Clients) -> None:
        async def talk(receive: Receive, send: Send) -> None:
            await send({"type": "websocket.close", "code": 4003, "reason": "enough"})

        relay = Relay("http://upstream", transport=ASGITransport(WebSocketApp(talk)))
        with clients(relay) as client, client.websocket_connect("/auth/x") as session:
            with pytest.raises(Exception) as closed:
                session.receive_text()
            assert type(closed.value).__name__ == "WebSocketDisconnect"
            assert closed.value.code == 4003  # type: ignore[attr-defined]

    def test_the_upstream_refuses(self, clients: Clients) -> None:
        with Upstream(scripts.answer(401, body=b"who are you?")) as upstream:
            with (
                clients(Relay(upstream.url)) as client,
                pytest.raises(Exception) as refused,
                client.websocket_connect("/auth/x"),
            ):
                pass
            # Starlette's client has the extension; the others are told of a close.
            assert type(refused.value).__name__ in {
                "WebSocketDenialResponse",
                "WebSocketDisconnect",
            }
            assert getattr(refused.value, "status_code", 401) == 401
