"""Whoever does not read stops whoever sends: little is held between them, nothing is lost."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Relay

from .support.kernel import buffered, forget_peak, memory, wait_still
from .support.processes import run_process
from .support.session import Session
from .support.stream import MeteredMessages, Stream
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo, through
from .support.websocket_servers import DEPRECATED, WEBSOCKET_SERVERS, serve_websockets

if TYPE_CHECKING:
    from pathlib import Path

    from .support.asgi import Message
    from .support.websocket import UpstreamPeer, WebSocketPeer

pytestmark = pytest.mark.filterwarnings(DEPRECATED)

MIB = 1024 * 1024
MESSAGE = 65_536
OFFERED = 200_000_000 // MESSAGE
FLAT = 16 * MIB
MUCH = 32 * MIB // MESSAGE
"""More than fits into all the buffers on the way."""
SMALL = 64 * 1024
"""A buffer of the kernel's that is full soon."""


def relay_to(upstream: Upstream) -> Relay:
    # Some leave without an answer to the relay's close, which need not be waited for.
    return Relay(upstream.url, shutdown_grace=0.1)


def left(sender: WebSocketPeer, stream: Stream) -> int:
    """How much the other side has taken from its socket, without a message that is half sent."""
    (_, port), (_, other) = sender.sock.getsockname(), sender.sock.getpeername()
    return stream.sent * stream.size - buffered(port, other)


def reached(receiver: WebSocketPeer, stream: Stream) -> int:
    """How much the other side has put into its socket."""
    (_, port), (_, other) = receiver.sock.getsockname(), receiver.sock.getpeername()
    return receiver.reader.received + buffered(other, port)


# -- memory --------------------------------------------------------------------------------------


def offer(sender: WebSocketPeer, receiver: WebSocketPeer, pid: int) -> None:
    """Send much to somebody who reads a little, then nothing for a while, and then all."""
    warm_up = Stream(OFFERED // 20, MESSAGE)
    stream = Stream(OFFERED, MESSAGE)
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(warm_up.send, sender)
        warm_up.receive(receiver)
        sending.result()
        forget_peak(pid)
        before = memory(pid)
        sending = threads.submit(stream.send, sender)
        wait_still(lambda: stream.sent)
        assert stream.sent < OFFERED
        assert memory(pid, "VmHWM") - before < FLAT
        stream.receive(receiver)
        sending.result()
    assert memory(pid, "VmHWM") - before < FLAT


def test_a_reader_that_stops_bounds_the_memory_both_ways(tmp_path: Path) -> None:
    arguments = ["-m", "uvicorn", "tests.support.relay_app:app", "--port", "{port}"]
    accept = Accept()
    with (
        Upstream(accept) as upstream,
        run_process(arguments, tmp_path / "log", {"RELAY_TARGET": upstream.url}) as process,
        WebSocketClient(process.port) as client,
    ):
        client.open()
        offer(accept.peer(), client, process.popen.pid)
        offer(client, accept.peer(), process.popen.pid)


# -- under each server ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WEBSOCKET_SERVERS)
def test_whoever_stops_reading_stops_the_other(kind: str) -> None:
    down, up, accept = Stream(MUCH), Stream(MUCH), Accept()
    with ThreadPoolExecutor() as threads, Upstream(accept, receive_buffer=SMALL) as upstream:
        app = MeteredMessages(relay_to(upstream))
        with (
            serve_websockets(app, kind) as server,
            WebSocketClient(server.port, receive_buffer=SMALL) as client,
        ):
            client.open()
            peer = accept.peer()
            # Both at once: either way goes on while the other stands still.
            sending = threads.submit(down.send, peer)
            down.receive(client, 10)
            wait_still(lambda: down.sent)
            assert down.sent < MUCH
            assert left(peer, down) - app.taken <= MIB

            also = threads.submit(up.send, client)
            up.receive(peer, 10)
            wait_still(lambda: up.sent)
            assert up.sent < MUCH
            # The handshake and the frames' heads are some octets more.
            assert app.given - reached(peer, up) <= MIB

            up.receive(peer)
            also.result()
            assert down.sent < MUCH
            down.receive(client)
            sending.result()


# -- the relay alone -----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_send_that_waits_stops_the_upstream(anyio_backend: Any) -> None:
    stream, accept = Stream(MUCH), Accept()
    sending: threading.Thread | None = None
    with Upstream(accept) as upstream:
        async with relay_to(upstream) as relay, Session().run(relay) as session:
            await session.accepted()
            peer = await anyio.to_thread.run_sync(accept.peer)
            session.stop_reading()
            sending = threading.Thread(target=stream.send, args=[peer])
            sending.start()
            await anyio.to_thread.run_sync(wait_still, lambda: stream.sent)
            # The first may be on its way.
            await session.until(lambda: bool(session.messages))
            assert len(session.messages) == 1
            assert left(peer, stream) <= MIB
            session.go_on_reading()
            for _ in range(stream.count):
                stream.check(await session.message())
            session.leave(1000)
            sending.join()


@pytest.mark.anyio
async def test_an_upstream_that_does_not_read_stops_the_calls_of_receive(
    anyio_backend: Any,
) -> None:
    stream, accept = Stream(MUCH), Accept()
    connect: Message = {"type": "websocket.connect"}
    disconnect: Message = {"type": "websocket.disconnect", "code": 1000, "reason": ""}

    async def receive() -> Message:
        stream.sent += 1
        if stream.sent == 1:
            return connect
        if stream.sent == stream.count + 2:
            return disconnect
        return {"type": "websocket.receive", "bytes": stream.message(stream.sent - 2)}

    async def send(message: Message) -> None:
        assert message["type"] == "websocket.accept"

    with Upstream(accept, receive_buffer=SMALL) as upstream:
        async with relay_to(upstream) as relay, anyio.create_task_group() as group:
            group.start_soon(relay, Session().scope, receive, send)
            peer = await anyio.to_thread.run_sync(accept.peer)
            await anyio.to_thread.run_sync(wait_still, lambda: stream.sent)
            assert (stream.sent - 1) * stream.size - reached(peer, stream) <= MIB
            await anyio.to_thread.run_sync(stream.receive, peer)
            await anyio.to_thread.run_sync(peer.answer_close)


def test_a_close_waits_behind_what_the_client_has_not_read() -> None:
    stream = Stream(MUCH)

    def talk(peer: UpstreamPeer) -> None:
        stream.send(peer)
        peer.close(4001, "all of it")
        peer.park()

    with through(Accept(talk)) as ends:
        wait_still(lambda: stream.sent)
        assert stream.sent < MUCH
        stream.receive(ends.client)
        assert ends.client.expect_close() == (4001, "all of it")


@pytest.mark.usefixtures("ways")
def test_a_close_waits_behind_what_the_upstream_has_not_read() -> None:
    stream = Stream(MUCH)
    with ThreadPoolExecutor() as threads, through() as ends:
        sending = threads.submit(stream.send, ends.client)
        wait_still(lambda: stream.sent)
        assert stream.sent < MUCH

        def close() -> None:
            sending.result()
            ends.client.close(4002, "all of it")

        closing = threads.submit(close)
        stream.receive(ends.peer)
        assert ends.peer.expect_close() == (4002, "all of it")
        closing.result()


def send_until_the_end(stream: Stream, peer: UpstreamPeer) -> None:
    with contextlib.suppress(OSError):
        stream.send(peer)


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["close", "vanish", "cancel", "shutdown"])
async def test_an_end_while_a_send_waits(anyio_backend: Any, end: str) -> None:
    stream, accept = Stream(MUCH), Accept()
    with Upstream(accept) as upstream:
        async with relay_to(upstream) as relay:
            # The block ends when the app has returned, although its `send` would wait for ever.
            async with Session().run(relay) as session:
                await session.accepted()
                peer = await anyio.to_thread.run_sync(accept.peer)
                session.stop_reading()
                sending = threading.Thread(target=send_until_the_end, args=[stream, peer])
                sending.start()
                await anyio.to_thread.run_sync(wait_still, lambda: stream.sent)
                if end == "cancel":
                    session.cancel()
                elif end == "shutdown":
                    await relay.shutdown()
                else:
                    session.leave(1000 if end == "close" else 1006)
                frame = await anyio.to_thread.run_sync(peer.receive_data)
                assert frame.code == (1000 if end == "close" else 1001)
            peer.vanish()
            sending.join()


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["liveness", "shutdown"])
async def test_an_end_while_the_upstream_does_not_read(anyio_backend: Any, end: str) -> None:
    accept = Accept()
    pings: Any = {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.2} if end == "liveness" else {}
    with Upstream(accept, receive_buffer=SMALL) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.1, **pings)
        async with relay, Session().run(relay) as session:
            await session.accepted()
            session.say(*[bytes(100_000)] * 200)
            if end == "shutdown":
                await relay.shutdown()
            # A ping that cannot be sent is one that is not answered.
            assert (await session.closed())[0] == (1001 if end == "shutdown" else 1011)
            await anyio.to_thread.run_sync(accept.peer().wait_closed)


def test_a_client_that_stops_reading_holds_up_nobody_else() -> None:
    stream, accept = Stream(MUCH), Accept()

    def talk(peer: UpstreamPeer) -> None:
        if peer.request.target == b"/bulk":
            stream.send(peer)
            peer.park()
        echo(peer)

    accept = Accept(talk)
    with (
        Upstream(accept) as upstream,
        serve_websockets(relay_to(upstream)) as server,
        WebSocketClient(server.port, receive_buffer=SMALL) as slow,
        WebSocketClient(server.port) as quick,
    ):
        slow.open("/bulk")
        wait_still(lambda: stream.sent)
        quick.open("/")
        for number in range(100):
            quick.send_text(str(number))
            assert quick.receive_message() == str(number)
        assert stream.sent < MUCH
        stream.receive(slow)


# -- both at once --------------------------------------------------------------------------------


@pytest.mark.usefixtures("ways")
def test_an_echo_of_more_than_fits_anywhere() -> None:
    there = Stream(MUCH)
    with ThreadPoolExecutor() as threads, through(Accept(echo)) as ends:
        sending = threads.submit(there.send, ends.client)
        there.receive(ends.client)
        sending.result()
