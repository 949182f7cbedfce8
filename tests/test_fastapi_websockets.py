"""`proxy_pass_websocket`: the upstream first, then the client, and everything crosses both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketState

from asgi_relay.fastapi import proxy_pass_websocket

from .support import scripts
from .support.frames import BINARY, TEXT
from .support.servers import serve
from .support.session import Session
from .support.site import FRAMEWORKS, Site, make_app, served
from .support.upstream import Upstream, refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("unowned")


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


def test_messages_and_close_codes_cross_both_ways(site: Site) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        site.passing(upstream)
        for closes in ("client", "upstream"):
            with WebSocketClient(site.port) as client:
                client.open("/a%2Fb?c=%2F")
                peer = accept.peer(0 if closes == "client" else 1)
                for message in ("text", b"\0\xff", "", b"", "x" * 3_000_000):
                    client.send_message(message)
                    assert peer.receive_message() == message
                    peer.send_message(message)
                    assert client.receive_message() == message
                if closes == "client":
                    client.close(4001, "bye")
                    assert peer.answer_close() == (4001, "bye")
                else:
                    peer.close(4002, "done")
                    assert client.answer_close() == (4002, "done")
        assert {request.target for request in upstream.requests} == {b"/a%2Fb?c=%2F"}


def test_the_handshake_carries_the_clients_headers_and_ours(site: Site) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream, additional_headers={"X-Api-Key": "ours"}, path="/ws?a=b")
        headers = [("Cookie", "c=1"), ("x-api-key", "theirs"), ("Sec-WebSocket-Extensions", "foo")]
        client.open("/x?q", headers)
        request = accept.peer().request
        assert request.target == b"/ws?a=b&q"
        assert request.value("cookie") == b"c=1"
        assert request.values("x-api-key") == [b"ours"]
        assert request.value("host") == upstream.authority.encode()
        assert request.value("x-forwarded-host") == b"relay.test"
        assert request.value("x-forwarded-for") == b"127.0.0.1"
        assert request.value("sec-websocket-extensions") is None
        assert request.values("sec-websocket-protocol") == []


def test_override_headers_stand_for_the_clients(site: Site) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream, override_headers={"A": "1"}, forward_query=False)
        client.open("/x?q", [("Cookie", "c=1")])
        request = accept.peer().request
        assert (request.target, request.value("a"), request.value("cookie")) == (b"/x", b"1", None)


@pytest.mark.parametrize(
    ("offered", "arguments", "arrives", "chosen"),
    [
        (["a", "b"], {}, b"a, b", "b"),
        (["a", "b"], {}, b"a, b", None),
        (["a"], {"subprotocols": ["a", "c"]}, b"a, c", "a"),
        (["a"], {"subprotocols": ["a", "c"]}, b"a, c", "c"),
        ([], {"subprotocols": ["c"]}, b"c", "c"),
        ([], {}, None, None),
    ],
)
def test_the_subprotocol_is_the_upstreams_choice_if_the_client_knows_it(
    site: Site,
    offered: list[str],
    arguments: dict[str, Any],
    arrives: bytes | None,
    chosen: str | None,
) -> None:
    accept = Accept(subprotocol=chosen)
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream, **arguments)
        response = client.open("/", subprotocols=offered)
        known = chosen.encode() if chosen in offered else None
        assert response.value("sec-websocket-protocol") == known
        assert accept.peer().request.value("sec-websocket-protocol") == arrives


def test_a_refusal_passes_on_whole(site: Site) -> None:
    with (
        Upstream(scripts.answer(401, [("WWW-Authenticate", "Basic")], b"who?")) as upstream,
        WebSocketClient(site.port) as client,
    ):
        site.passing(upstream)
        response = client.shake("/")
        assert (response.status, response.body) == (401, b"who?")
        assert response.value("www-authenticate") == b"Basic"


def test_an_upstream_that_is_down_is_a_502_and_one_that_is_silent_a_504(site: Site) -> None:
    with refusing() as url, WebSocketClient(site.port) as client:
        site.passing(url)
        assert client.shake("/").status == 502
    with Upstream(scripts.hang) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream, timeout=0.2)
        assert client.shake("/").status == 504


def test_an_upstream_that_vanishes_is_1011(site: Site) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream)
        client.open("/")
        accept.peer().reset()
        assert client.expect_close()[0] == 1011


def test_a_client_that_vanishes_is_noticed_upstream(site: Site) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        site.passing(upstream)
        with WebSocketClient(site.port) as client:
            client.open("/")
            peer = accept.peer()
        assert peer.expect_close()[0] == 1001


def test_after_it_the_endpoint_sees_a_closed_websocket(site: Site) -> None:
    states: list[tuple[WebSocketState, WebSocketState]] = []

    async def websocket_endpoint(websocket: WebSocket) -> None:
        assert websocket.application_state is WebSocketState.CONNECTING
        await proxy_pass_websocket(websocket, upstream.url)
        states.append((websocket.client_state, websocket.application_state))

    accept = Accept(echo)
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.doing(site.call, websocket_endpoint)
        client.open("/")
        assert client.finish_close(1000) == (1000, "")
        wait_until(lambda: bool(states), "the endpoint to return")
    assert states == [(WebSocketState.DISCONNECTED, WebSocketState.DISCONNECTED)]


@pytest.mark.anyio
async def test_one_that_was_accepted_already_is_refused_by_name(anyio_backend: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        with pytest.raises(RuntimeError, match="accepts the WebSocket itself"):
            await proxy_pass_websocket(websocket, "http://127.0.0.1:9")
        await websocket.close()

    async with Session("/").run(app) as session:
        await session.closed()


@pytest.mark.parametrize("kind", ["hypercorn-asyncio", "hypercorn-trio", "granian"])
def test_under_other_servers(kind: str) -> None:
    site = Site("starlette")
    accept = Accept(echo)
    with (
        Upstream(accept) as upstream,
        serve(make_app(site.passing(upstream)), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        client.open("/")
        client.send_text("hello")
        assert (frame := client.receive_data()).opcode == TEXT
        assert frame.payload == b"hello"
        client.send_binary(b"\0")
        assert client.receive_data().opcode == BINARY
        client.finish_close(1000)


def test_in_a_mounted_app_the_whole_path_goes() -> None:
    site = Site()
    app = FastAPI()
    app.mount("/in", make_app(site))
    accept = Accept()
    with Upstream(accept) as upstream, serve(app) as server:
        site.passing(upstream)
        with WebSocketClient(server.port) as client:
            client.open("/in/a%2Fb?c")
            assert accept.peer().request.target == b"/in/a%2Fb?c"
