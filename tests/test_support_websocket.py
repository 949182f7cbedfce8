"""The tests' own WebSocket peers, against the `websockets` package at the other end."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from .support import frames, scripts
from .support.client import Client
from .support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from .support.session import Session
from .support.upstream import Upstream
from .support.websocket import Accept, PeerClosedError, UpstreamPeer, WebSocketClient, echo
from .support.wire import ClosedError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .support.asgi import Receive, Scope, Send

MESSAGES: list[str | bytes] = ["hé\N{GRINNING FACE}", b"\0\xff", "", b"", "x" * 125, b"y" * 126]
MESSAGES += [b"z" * 65535, "x" * 65536, bytes(range(256)) * 20_000]


def address(upstream: Upstream, path: str = "/") -> str:
    return upstream.url.replace("http", "ws") + path


@contextlib.contextmanager
def server(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[int]:
    """The port of a server of the `websockets` package."""
    with serve(handler, "127.0.0.1", 0, max_size=None, **options) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving.socket.getsockname()[1]
        serving.shutdown()
    thread.join()


def echo_all(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


# -- the upstream ----------------------------------------------------------------------------------


def test_the_upstream_s_echo_and_its_record_of_the_handshake() -> None:
    accept = Accept(echo, subprotocol="b", headers=[("X-A", "1")])
    with Upstream(accept) as upstream:
        with connect(address(upstream, "/x?y"), subprotocols=["a", "b"], max_size=None) as client:  # type: ignore[list-item]
            assert client.subprotocol == "b"
            assert client.response is not None
            assert client.response.headers["X-A"] == "1"
            for message in MESSAGES:
                client.send(message)
                assert client.recv() == message
            client.send(["frag", "men", "ted"])
            assert client.recv() == "fragmented"
            client.close(4001, "bye")
        assert (client.close_code, client.close_reason) == (4001, "bye")
        assert upstream.requests[0].target == b"/x?y"
        upstream.connections[0].wait_done()


def test_the_upstream_on_the_test_s_own_thread() -> None:
    accept = Accept()
    with Upstream(accept) as upstream, connect(address(upstream)) as client:
        peer = accept.peer()
        assert peer.request.target == b"/"
        peer.send_fragments(TEXT, [b"a", b"", b"b"])
        peer.send_message("c")
        peer.ping(b"p")
        assert [client.recv(), client.recv()] == ["ab", "c"]
        pong = peer.receive()
        assert (pong.opcode, pong.payload) == (PONG, b"p")
        client.ping("q")
        client.send(b"d")
        assert peer.receive().opcode == PING
        assert peer.receive_message() == b"d"
        assert peer.finish_close(3000, "é" * 61) == (3000, "é" * 61)
        peer.finish()
        peer.expect_end()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "é" * 61)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda peer: peer.send_text("x", mask=True), 1002),
        (lambda peer: peer.send_text("x", rsv=1), 1002),
        (lambda peer: peer.send_frame(3, b"x"), 1002),
        (lambda peer: peer.send_frame(PING, b"x", fin=False), 1002),
        (lambda peer: peer.send_frame(PING, b"x" * 126), 1002),
        (lambda peer: peer.send_frame(CONTINUATION, b"x"), 1002),
        (lambda peer: peer.send_frame(CLOSE, b"x"), 1002),
        (lambda peer: peer.close(1005), 1002),
        (lambda peer: peer.close(1000, b"\xff"), 1007),
    ],
)
def test_the_upstream_can_do_wrong(wrong: Callable[[UpstreamPeer], None], code: int) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, connect(address(upstream)) as client:
        peer = accept.peer()
        wrong(peer)
        assert peer.expect_close()[0] == code
        peer.vanish()
        with pytest.raises(ConnectionClosed):
            client.recv()


@pytest.mark.parametrize("leave", [UpstreamPeer.vanish, UpstreamPeer.reset])
def test_the_upstream_can_vanish(leave: Callable[[UpstreamPeer], None]) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, connect(address(upstream)) as client:
        peer = accept.peer()
        peer.send_frame(BINARY, b"half", length=100)
        leave(peer)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"accept": b"wrong"},
        {"accept": None},
        {"upgrade": None},
        {"upgrade": b"h2c"},
        {"connection": None},
        {"connection": b"close"},
        {"subprotocol": "never-offered"},
        {"headers": [("Sec-WebSocket-Extensions", "x-unknown")]},
    ],
)
def test_the_upstream_can_answer_the_handshake_wrongly(wrong: dict[str, Any]) -> None:
    with Upstream(Accept(**wrong)) as upstream, pytest.raises(InvalidHandshake):
        connect(address(upstream))


def test_the_upstream_can_say_its_first_words_with_the_handshake() -> None:
    first = frames.encode(TEXT, b"first")
    accept = Accept(followed_by=first)
    with Upstream(accept) as upstream, connect(address(upstream)) as client:
        assert client.recv() == "first"
        accept.peer().vanish()


def test_the_upstream_can_refuse() -> None:
    with (
        Upstream(scripts.answer(403, body=b"no")) as upstream,
        pytest.raises(InvalidStatus) as refused,
    ):
        connect(address(upstream))
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"no")


def test_the_upstream_complains_of_what_is_no_handshake() -> None:
    def exchange() -> None:
        with Upstream(Accept()) as upstream, Client(upstream.port) as client:
            client.start()
            client.read_until_closed()

    with pytest.raises(MalformedError):
        exchange()


# -- the client ------------------------------------------------------------------------------------


def test_the_client_against_a_server() -> None:
    with (
        server(echo_all, subprotocols=["b"]) as port,
        WebSocketClient(port) as client,
    ):
        response = client.open("/x", [("Origin", "http://x.test")], subprotocols=["a", "b"])
        assert response.value("sec-websocket-protocol") == b"b"
        for message in MESSAGES:
            client.send_message(message)
            assert client.receive_message() == message
        client.send_fragments(BINARY, [b"a", b"b"])
        assert client.receive().payload == b"ab"
        client.ping(b"p")
        assert client.receive().payload == b"p"
        assert client.finish_close(4000, "é") == (4000, "é")
        client.expect_end()


def test_the_client_sees_a_close() -> None:
    with server(lambda connection: connection.close(1001, "away")) as port:
        with WebSocketClient(port) as client:
            client.open()
            assert client.answer_close() == (1001, "away")
            client.expect_end()
        with WebSocketClient(port) as client:
            client.open()
            with pytest.raises(PeerClosedError) as closed:
                client.receive_message()
            assert (closed.value.code, closed.value.reason) == (1001, "away")


def test_the_client_can_do_wrong() -> None:
    with server(echo_all) as port, WebSocketClient(port) as client:
        client.open()
        client.send_text("x", mask=False)
        assert client.expect_close()[0] == 1002


@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
def test_the_client_can_vanish(leave: Callable[[WebSocketClient], None]) -> None:
    left = threading.Event()

    def wait(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        if closed.value.rcvd is None:
            left.set()

    with server(wait) as port, WebSocketClient(port) as client:
        client.open()
        leave(client)
        assert left.wait(10)


# -- both strict readers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        frames.encode(TEXT, b"x", mask=b"abcd"),
        frames.encode(TEXT, b"x", rsv=4),
        frames.encode(3),
        frames.encode(PING, fin=False),
        frames.encode(PING, b"x" * 126),
        frames.encode(CLOSE, b"x"),
        frames.encode(CLOSE, frames.close_payload(1006)),
        b"\x81\x7e\x00\x01x",
        b"\x81\x7f\0\0\0\0\0\0\0\x01x",
    ],
)
def test_what_nobody_should_send_is_seen(octets: bytes) -> None:
    with (
        Upstream(Accept(followed_by=octets)) as upstream,
        WebSocketClient(upstream.port) as client,
    ):
        client.open()
        with pytest.raises(MalformedError):
            client.receive()


def test_the_upstream_wants_masks() -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(upstream.port) as client:
        client.open()
        client.send_text("x", mask=False)
        with pytest.raises(MalformedError):
            accept.peer().receive()


def test_the_end_of_a_connection_is_no_frame() -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(upstream.port) as client:
        client.open()
        accept.peer().send_frame(TEXT, b"half", length=5)
        accept.peer().vanish()
        with pytest.raises(ClosedError):
            client.receive()


# -- a session with no server ----------------------------------------------------------------------


async def small_app(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/refuse":
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"n", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"o"})
        return
    await send({"type": "websocket.accept", "headers": [(b"x-a", b"1")]})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000, "reason": "so soon"})
            return
        await send({**message, "type": "websocket.send"})
    if message["code"] == 4004:
        raise ZeroDivisionError
    if message["code"] == 4005:
        await send({"type": "websocket.accept"})


@pytest.mark.anyio
async def test_a_session() -> None:
    async with Session("/x").run(small_app) as session:
        await session.accepted()
        assert session.response_values("x-a") == [b"1"]
        session.say("a", b"b", "")
        assert [await session.message() for _ in range(3)] == ["a", b"b", ""]
        session.say("bye")
        assert await session.closed() == (4000, "so soon")
    assert session.messages == ["a", b"b", ""]


@pytest.mark.anyio
async def test_a_session_that_is_refused_left_cancelled_or_in_error() -> None:
    async with Session("/refuse").run(small_app) as session:
        pass
    assert (session.status, session.body) == (403, b"no")
    async with Session().run(small_app) as session:
        session.leave(1001)
    async with Session().run(small_app) as session:
        await session.accepted()
        session.cancel()
    with pytest.raises(ZeroDivisionError):
        async with Session().run(small_app) as session:
            session.leave(4004)
    with pytest.raises(AssertionError, match="while open"):
        async with Session().run(small_app) as session:
            session.leave(4005)
    with pytest.raises(AssertionError):
        async with Session("/refuse", extensions=None).run(small_app) as session:
            pass


@pytest.mark.anyio
async def test_a_session_that_does_not_read() -> None:
    async with Session().run(small_app) as session:
        await session.accepted()
        session.stop_reading()
        session.say("a", "b")
        await anyio.wait_all_tasks_blocked()
        assert session.messages == ["a"]
        session.go_on_reading()
        assert [await session.message() for _ in range(2)] == ["a", "b"]
        session.leave()
