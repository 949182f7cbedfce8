"""WebSockets and the life of a relay, of its app's tasks and of its event loops.

What is left behind is looked for after each: descriptors, threads, tasks. The end of a relay is in
test_ws_shutdown.
"""

from __future__ import annotations

import random
import threading
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync as aside

from asgi_relay import Limits, Relay

from .support import scripts
from .support.direct import Call
from .support.frames import CLOSE
from .support.session import Session
from .support.tidy import Tidy, expect_engine_threads
from .support.upstream import Upstream
from .support.waiting import PATIENCE
from .support.websocket import Accept, PeerClosedError, echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support.exchange import Exchange
    from .support.websocket import UpstreamPeer

pytestmark = pytest.mark.anyio


async def converse(session: Session, count: int = 30) -> None:
    """So many messages through an echo that the event loop reads them by itself."""
    await session.accepted()
    for number in range(count):
        session.say(f"{number}", b"%d" % number)
        assert [await session.message(), await session.message()] == [f"{number}", b"%d" % number]


# -- starting --------------------------------------------------------------------------------------


async def test_a_relay_that_was_never_started_starts_with_its_first_websocket() -> None:
    tidy = await Tidy.look_around()
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url)
        async with Session().run(relay) as session:
            await converse(session)
            await expect_engine_threads(1)
            session.leave(1000)
        await relay.shutdown()
    await tidy.check()


async def test_a_relay_lives_again_after_its_end() -> None:
    tidy = await Tidy.look_around()
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url)
        for _ in range(3):
            async with Session().run(relay) as session:
                await converse(session)
                await relay.shutdown()
                assert await session.closed() == (1001, "")
    await tidy.check()


# -- the end of the app's call ---------------------------------------------------------------------


async def test_a_cancelled_app_says_1001_upstream() -> None:
    tidy = await Tidy.look_around()
    accept = Accept()
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay:
            async with Session().run(relay) as session:
                await session.accepted()
                session.cancel()
            assert await aside(accept.peer().answer_close) == (1001, "")
            await aside(upstream.connections[0].wait_closed)
    await tidy.check()


async def test_a_cancelled_handshake_closes_the_upstream_s_connection() -> None:
    tidy = await Tidy.look_around()
    with Upstream(scripts.hang) as upstream:
        async with Relay(upstream.url) as relay:
            async with Session().run(relay) as session:
                await aside(upstream.wait_requests)
                session.cancel()
            await aside(upstream.connections[0].wait_closed)
    await tidy.check()


async def test_a_cancelled_app_whose_client_does_not_read_says_1001_upstream() -> None:
    tidy = await Tidy.look_around()
    accept = Accept()
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay:
            async with Session().run(relay) as session:
                await session.accepted()
                session.stop_reading()
                await aside(accept.peer().send_text, "stuck")
                await session.until(lambda: bool(session.messages))
                session.cancel()
            assert await aside(accept.peer().answer_close) == (1001, "")
    await tidy.check()


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
@pytest.mark.parametrize("when", ["accept", "message", "close"])
async def test_a_send_that_raises_ends_the_upstream_s_side(
    kind: type[Exception], when: str
) -> None:
    """As servers raise when the client has left."""
    tidy = await Tidy.look_around()
    error = kind("the client has left")
    accept = Accept()
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay:
            session = Session()
            if when == "accept":
                session.send_error = error
            async with session.run(relay):
                if when != "accept":
                    await session.accepted()
                    session.send_error = error
                peer = await aside(accept.peer)
                if when == "message":
                    await aside(peer.send_text, "too late")
                elif when == "close":
                    await aside(peer.close, 4000)
                await session.ended()
                assert session.take_error() in {error, None}
            assert (await aside(peer.expect_close))[0] == (4000 if when == "close" else 1001)
            peer.vanish()
    error.__traceback__ = None  # its frames would keep alive what is looked for
    await tidy.check()


async def test_a_receive_that_raises_ends_the_upstream_s_side() -> None:
    tidy = await Tidy.look_around()
    accept = Accept()
    broken = RuntimeError("broken server")
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay, Session().run(relay) as session:
            await session.accepted()
            session.arrive(broken)
            assert (await aside(accept.peer().answer_close))[0] in {1001, 1011}
            await session.ended()
            assert session.take_error() in {broken, None}
    await tidy.check()


# -- many ------------------------------------------------------------------------------------------


async def test_websockets_do_not_count_as_connections() -> None:
    accept = Accept(echo)

    def script(exchange: Exchange) -> None:
        (scripts.ok if exchange.request.target == b"/ok" else accept)(exchange)

    with Upstream(script) as upstream:
        async with (
            Relay(upstream.url, limits=Limits(max_connections=1)) as relay,
            Session().run(relay) as one,
            Session().run(relay) as two,
        ):
            await converse(one)
            await converse(two)
            assert (await Call(target="/ok")(relay)).body == b"ok"
            one.leave(1000)
            two.leave(1000)


def whim(chance: random.Random, peer: UpstreamPeer) -> None:
    """An upstream that ends in its own way and time."""
    try:
        for _ in range(chance.randrange(6)):
            peer.send_message(peer.receive_message())
    except PeerClosedError as closed:
        peer.close(closed.code)
        return
    how: list[Callable[[], object]] = [
        partial(peer.close, 4000),
        partial(peer.finish_close, 3000),
        peer.reset,
        partial(peer.send_frame, CLOSE, b"x"),
        lambda: None,
    ]
    chance.choice(how)()


async def test_200_sessions_that_end_anyhow_leave_nothing() -> None:
    tidy = await Tidy.look_around()
    chance = random.Random(3)
    turns = threading.Lock()

    def upstream_whim(peer: UpstreamPeer) -> None:
        with turns:
            own = random.Random(chance.random())
        whim(own, peer)

    async def one(relay: Relay, seed: int) -> None:
        own = random.Random(seed)
        async with Session().run(relay) as session:
            for _ in range(own.randrange(6)):
                session.say("x" * own.randrange(1000))
                await anyio.lowlevel.checkpoint()
            if own.random() < 0.3:
                await session.until(lambda: bool(session.sent))
            if own.random() < 0.3:
                session.cancel()
            else:
                session.leave(own.choice([1000, 1001, 1005, 1006, 4000, None]))
        assert session.error is None

    with Upstream(Accept(upstream_whim)) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as tasks:
            for seed in range(200):
                tasks.start_soon(one, relay, seed)
    await tidy.check()


async def test_a_session_that_ended_leaves_nothing_before_the_relay_does() -> None:
    with Upstream(Accept(echo)) as upstream:
        async with Relay(upstream.url) as relay:
            async with Session().run(relay) as session:
                await converse(session)
                session.leave(1000)
            tidy = await Tidy.look_around()
            for _ in range(20):
                async with Session().run(relay) as session:
                    await converse(session)
                    session.leave(1000)
            await tidy.check()


# -- loops -----------------------------------------------------------------------------------------


def test_two_loops_at_once() -> None:
    """A relay belongs to no loop: the WebSockets of each are served in it, all end together."""
    opened, errors = threading.Barrier(3), list[BaseException]()
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url)

        def live(backend: str) -> None:
            async def main() -> None:
                async with Session().run(relay) as session:
                    await converse(session)
                    await aside(opened.wait, PATIENCE)
                    assert await session.closed() == (1001, "")

            try:
                anyio.run(main, backend=backend)
            except BaseException as error:
                errors.append(error)

        loops = [threading.Thread(target=live, args=(name,)) for name in ("asyncio", "trio")]
        for loop in loops:
            loop.start()
        opened.wait(PATIENCE)
        anyio.run(relay.shutdown)
        for loop in loops:
            loop.join(PATIENCE)
    assert errors == []


def test_one_loop_after_another() -> None:
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url)

        async def main() -> None:
            async with Session().run(relay) as session:
                await converse(session)
                session.leave(1000)

        for backend in ("asyncio", "trio", "asyncio"):
            anyio.run(main, backend=backend)
        anyio.run(relay.shutdown)
