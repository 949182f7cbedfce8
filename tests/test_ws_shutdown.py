"""The end of a relay, or of its server, while WebSockets are open: both sides are told at once.

What is left behind is looked for after each: descriptors, threads, tasks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.to_thread import run_sync as aside

from asgi_relay import Relay

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.servers import serve
from .support.session import Session
from .support.tidy import Tidy
from .support.upstream import Upstream
from .support.waiting import AT_ONCE
from .support.websocket import Accept, WebSocketClient, echo, through

if TYPE_CHECKING:
    from .support.exchange import Exchange
    from .support.websocket import UpstreamPeer

pytestmark = pytest.mark.anyio

BEFORE = 4.0
"""Seconds within which all is over: before the five that an upstream has to answer a close."""

in_company = pytest.mark.parametrize("company", [False, True], ids=["alone", "another-runs"])
"""The engine's thread ends with the last relay; the sockets of one end with that one."""


def another(company: bool) -> Any:
    return Relay("http://127.0.0.1:1") if company else contextlib.nullcontext()


async def test_shutdown_closes_both_sides_with_1001() -> None:
    tidy = await Tidy.look_around()
    accept = Accept()
    with Upstream(accept) as upstream:
        # At once, whatever time requests in flight are given.
        relay = Relay(upstream.url, shutdown_grace=60)
        async with anyio.create_task_group() as tasks, Session().run(relay) as session:
            await session.accepted()
            begin = time.monotonic()
            tasks.start_soon(relay.shutdown)
            assert await session.closed() == (1001, "")
            assert (await aside(accept.peer().answer_close))[0] == 1001
        assert time.monotonic() - begin < AT_ONCE
        await aside(upstream.connections[0].wait_closed)
    await tidy.check()


async def test_shutdown_closes_many_at_once() -> None:
    tidy = await Tidy.look_around()
    sessions = [Session() for _ in range(50)]
    codes: list[int] = []

    def note_close(peer: UpstreamPeer) -> None:
        codes.append(peer.answer_close()[0])

    with Upstream(Accept(note_close)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=60)
        async with anyio.create_task_group() as tasks:

            async def hold(session: Session) -> None:
                async with session.run(relay):
                    assert await session.closed() == (1001, "")

            for session in sessions:
                tasks.start_soon(hold, session)
            for session in sessions:
                await session.accepted()
            begin = time.monotonic()
            await relay.shutdown()
        assert time.monotonic() - begin < 2 * AT_ONCE
    assert codes == [1001] * len(sessions)
    await tidy.check()


@in_company
async def test_shutdown_does_not_wait_for_an_upstream_that_never_answers_its_close(
    company: bool,
) -> None:
    tidy = await Tidy.look_around()
    accept = Accept()
    with Upstream(accept) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.2)
        async with another(company), Session().run(relay) as session:
            await session.accepted()
            begin = time.monotonic()
            await relay.shutdown()
            assert time.monotonic() - begin < BEFORE
            assert await session.closed() == (1001, "")
            assert await aside(accept.peer().expect_close) == (1001, "")
            assert await aside(upstream.connections[0].wait_closed) - begin < BEFORE
    await tidy.check()


async def test_shutdown_ends_a_handshake_too() -> None:
    tidy = await Tidy.look_around()
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.2)
        async with Session().run(relay) as session:
            await aside(upstream.wait_requests)
            await relay.shutdown()
        await aside(upstream.connections[0].wait_closed)
    assert session.state == "over"
    assert "websocket.accept" not in session.types
    await tidy.check()


@in_company
async def test_shutdown_does_not_wait_for_a_client_that_does_not_read(company: bool) -> None:
    tidy = await Tidy.look_around()

    def flood(peer: UpstreamPeer) -> None:
        while True:
            peer.send_binary(bytes(100_000))

    with Upstream(Accept(flood)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.2)
        async with another(company), Session().run(relay) as session:
            await session.accepted()
            session.stop_reading()
            await session.until(lambda: len(session.sent) > 1)
            begin = time.monotonic()
            await relay.shutdown()
            assert time.monotonic() - begin < BEFORE
            # A call that has returned has left the client's close to its server.
            session.go_on_reading()
            await session.ended()
            assert await aside(upstream.connections[0].wait_closed) - begin < BEFORE
    await tidy.check()


async def test_requests_in_flight_have_their_time_while_websockets_are_closed() -> None:
    gate, call = Gate(), Call(target="/slow")
    accept = Accept(echo)
    slow = scripts.gated(gate, scripts.ok)

    def script(exchange: Exchange) -> None:
        (slow if exchange.request.target == b"/slow" else accept)(exchange)

    with Upstream(script) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)
        async with Session().run(relay) as session, anyio.create_task_group() as tasks:
            await session.accepted()
            tasks.start_soon(call, relay)
            await aside(upstream.wait_requests, 2)
            tasks.start_soon(relay.shutdown)
            assert await session.closed() == (1001, "")
            assert not call.sent
            gate.open()
    assert (call.status, call.body) == (200, b"ok")


# -- with a server ---------------------------------------------------------------------------------


def test_the_client_of_a_server_sees_the_relay_go_away() -> None:
    with through() as ends:
        ending = threading.Thread(target=anyio.run, args=(ends.front.relay.shutdown,))
        ending.start()
        assert ends.client.answer_close() == (1001, "")
        assert ends.peer.answer_close() == (1001, "")
        ending.join()


def test_a_server_that_stops_says_so_and_the_upstream_hears_it() -> None:
    """uvicorn calls it a restart (1012)."""
    accept = Accept()
    with Upstream(accept) as upstream, contextlib.ExitStack() as serving:
        server = serving.enter_context(serve(Relay(upstream.url)))
        with WebSocketClient(server.port) as client:
            client.open()
            stopping = threading.Thread(target=serving.close)
            stopping.start()
            assert client.answer_close()[0] == 1012
            assert accept.peer().answer_close()[0] == 1012
            stopping.join()


def test_a_server_that_cancels_its_apps_is_1001_upstream() -> None:
    accept = Accept()
    with Upstream(accept) as upstream, contextlib.ExitStack() as serving:
        server = serving.enter_context(serve(Relay(upstream.url), "hypercorn-asyncio"))
        with WebSocketClient(server.port) as client:
            client.open()
            stopping = threading.Thread(target=serving.close)
            stopping.start()
            assert accept.peer().answer_close()[0] == 1001
            stopping.join()
