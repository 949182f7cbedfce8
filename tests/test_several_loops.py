"""One relay on several event loops: one after another, and at once in threads of their own."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from asgi_relay import Relay

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.upstream import Upstream
from .support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .support.asgi import Message
    from .support.leaks import Leaks

LOOPS: list[dict[str, Any]] = [
    {"backend": "asyncio"},
    {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    {"backend": "trio"},
]

each_loop = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop", "trio"])


@pytest.fixture(scope="module", autouse=True)
def warm_loops() -> None:
    """What a loop's library makes once and keeps is no leak of ours."""
    for loop in LOOPS:
        run(anyio.lowlevel.checkpoint, loop)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.ok) as upstream:
        yield upstream


def run(work: Callable[[], Awaitable[Any]], loop: dict[str, Any] = LOOPS[0]) -> Any:
    """Run something on a loop of its own, which is closed after it."""
    return anyio.run(work, **loop)


async def ask(relay: Relay) -> None:
    call = await Call()(relay)
    assert (call.status, call.body, call.ended) == (200, b"ok", True)


@each_loop
def test_one_loop_after_another(loop: dict[str, Any], upstream: Upstream, leaks: Leaks) -> None:
    relay = Relay(upstream.url)

    async def life() -> None:
        await relay.startup()
        await ask(relay)
        await relay.shutdown()

    for _ in range(3):
        run(life, loop)


@each_loop
def test_a_loop_that_ended_without_a_shutdown(
    loop: dict[str, Any], upstream: Upstream, leaks: Leaks
) -> None:
    # What a test client without a lifespan does: a loop each time, and never a goodbye.
    relay = Relay(upstream.url)

    async def one_request() -> None:
        await ask(relay)

    for _ in range(3):
        run(one_request, loop)
    run(relay.shutdown, loop)


@each_loop
def test_started_on_one_loop_and_ended_on_another(
    loop: dict[str, Any], upstream: Upstream, leaks: Leaks
) -> None:
    relay = Relay(upstream.url)

    async def one_request() -> None:
        await ask(relay)

    run(relay.startup, loop)
    run(one_request, LOOPS[0])
    run(one_request, LOOPS[2])
    run(relay.shutdown, loop)
    assert "not started" in repr(relay)


@each_loop
def test_connections_outlive_the_loop_that_made_them(
    loop: dict[str, Any], upstream: Upstream
) -> None:
    relay = Relay(upstream.url)

    async def one_request() -> None:
        await ask(relay)

    run(one_request, loop)
    run(one_request, loop)
    run(relay.shutdown, loop)
    assert len(upstream.connections) == 1


def test_a_relay_that_is_dropped_takes_everything_along(upstream: Upstream, leaks: Leaks) -> None:
    async def one_request() -> None:
        await ask(Relay(upstream.url))

    run(one_request)
    gc.collect()
    upstream.connections[0].wait_closed()


def test_a_relay_that_is_dropped_while_another_runs_closes_its_connections(
    upstream: Upstream,
) -> None:
    async def one_request() -> None:
        async with Relay("http://127.0.0.1:1"):
            await ask(Relay(upstream.url))
            await anyio.to_thread.run_sync(upstream.connections[0].wait_closed)

    run(one_request)


def test_many_threads_with_a_loop_each_at_once(upstream: Upstream, leaks: Leaks) -> None:
    relay = Relay(upstream.url)
    barrier = threading.Barrier(6)

    async def many_requests() -> None:
        barrier.wait(10)
        async with anyio.create_task_group() as tasks:
            for _ in range(25):
                tasks.start_soon(ask, relay)

    with ThreadPoolExecutor(6) as pool:
        # Each kind of loop twice.
        futures = [pool.submit(run, many_requests, loop) for loop in LOOPS * 2]
        for future in futures:
            future.result(30)
    assert len(upstream.requests) == 150
    run(relay.shutdown)


def test_threads_that_start_and_end_a_relay_at_once(upstream: Upstream, leaks: Leaks) -> None:
    relay = Relay(upstream.url)
    barrier = threading.Barrier(4)

    async def lives() -> None:
        for _ in range(10):
            barrier.wait(10)
            await relay.startup()
            await ask(relay)
            await relay.shutdown()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(run, lives, loop) for loop in (*LOOPS, LOOPS[0])]
        for future in futures:
            future.result(30)
    run(relay.shutdown)


def test_a_stream_on_one_loop_goes_on_while_another_loop_ends() -> None:
    gate = Gate()
    script = scripts.by_path({b"/stream": scripts.drip(gate, [b"a", b"b"]), b"/": scripts.ok})
    with Upstream(script) as upstream:
        relay = Relay(upstream.url)

        async def stream() -> bytes:
            call = await Call(target="/stream")(relay)
            assert call.ended
            return call.body

        async def one_request() -> None:
            await ask(relay)

        with ThreadPoolExecutor(1) as pool:
            streaming = pool.submit(run, stream)
            upstream.wait_requests()
            gate.open()
            for loop in LOOPS:
                run(one_request, loop)
            gate.open()
            assert streaming.result(10) == b"ab"
        run(relay.shutdown)


def test_loops_that_come_and_go_leave_nothing(upstream: Upstream, leaks: Leaks) -> None:
    relay = Relay(upstream.url)

    async def one_request() -> None:
        await ask(relay)

    for _ in range(50):
        asyncio.run(one_request())
    asyncio.run(relay.shutdown())


def test_a_cancelled_main_task_leaves_nothing(leaks: Leaks) -> None:
    # asyncio.run cancels what is left on its loop when the main task ends.
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url)

        async def leave_early() -> None:
            pending = asyncio.ensure_future(Call()(relay))
            await asyncio.to_thread(upstream.wait_requests)
            assert not pending.done()

        asyncio.run(leave_early())
        upstream.connections[0].wait_closed()
        asyncio.run(relay.shutdown())


# What asyncio says of a task that is lost with its loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_loop_that_is_closed_over_a_request_leaves_nothing(kind: str, leaks: Leaks) -> None:
    """The loop, its task and what that waits for hold one another, by way of the engine."""
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url)
        loops = [closed_over_a_request(relay, kind, upstream) for _ in range(3)]
        for connection in upstream.connections[:2]:
            gc.collect()
            connection.wait_closed()
        asyncio.run(relay.shutdown())

        def gone() -> bool:
            gc.collect()
            return all(loop() is None for loop in loops)

        # The engine's threads let go of what they have of it in their own time.
        wait_until(gone, "the loops' end")


def closed_over_a_request(
    relay: Relay, kind: str, upstream: Upstream
) -> weakref.ref[asyncio.AbstractEventLoop]:
    async def receive() -> Message:
        await asyncio.sleep(0 if kind == "websocket" and next(messages) == 0 else 3600)
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    loop, messages, before = asyncio.new_event_loop(), itertools.count(), len(upstream.requests)
    scope = {**Call().scope(), "type": kind}
    task = loop.create_task(cast("Any", relay(scope, receive, send)))
    while len(upstream.requests) == before:
        loop.run_until_complete(asyncio.sleep(0.01))
    assert not task.done()
    loop.close()
    return weakref.ref(loop)
