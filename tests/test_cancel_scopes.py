"""A relay is cancelled as any coroutine is, by each means of asyncio, anyio and trio.

There is no server here: the app is called directly, and what ends the call is around it.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Limits, Relay, Timeout

from .support import asgi, scripts
from .support.client import fetch
from .support.conversation import Conversation, silence
from .support.direct import Call
from .support.kernel import wait_still
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from .support.asgi import Receive, Scope, Send

pytestmark = pytest.mark.anyio

MUCH = 64 * 1024 * 1024

Work = Callable[[], Coroutine[Any, Any, None]]
Means = Callable[[Work, Work], Awaitable[float]]
"""Runs the first, cancels it once the second is over; the time.monotonic() at which it did."""

ON_ASYNCIO = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)


# -- the phases: what the client does, and what shows that the exchange has got there ------------

CHUNKED = (b"transfer-encoding", b"chunked")


def half_sent(call: Conversation, upstream: Upstream) -> None:
    request = upstream.wait_requests()
    upstream.wait_until(lambda: request.body_size == 4, "half of the upload")


def uploading_a_known_length() -> Conversation:
    return Conversation("POST", "/hang", [(b"content-length", b"9")], [b"half"], half_sent)


def uploading_chunks() -> Conversation:
    return Conversation("POST", "/hang", [CHUNKED], [b"half"], half_sent)


def stuck_in_an_upload() -> Conversation:
    def stuck(call: Conversation, upstream: Upstream) -> None:
        upstream.wait_requests()
        wait_still(lambda: len(call.pieces))

    return Conversation("POST", "/unread", [CHUNKED], [bytes(65536)] * 1000, stuck)


def waiting_for_the_head() -> Conversation:
    return Conversation("GET", "/hang", [], [], lambda _, upstream: upstream.wait_requests())


def idle_stream() -> Conversation:
    return Conversation("GET", "/idle", [], [], lambda call, _: call.wait_body())


def stuck_in_a_download() -> Conversation:
    return Conversation("GET", "/flood", [], [], lambda call, _: call.wait_body(), send_blocks=True)


PHASES = [
    uploading_a_known_length,
    uploading_chunks,
    stuck_in_an_upload,
    waiting_for_the_head,
    idle_stream,
    stuck_in_a_download,
]
SCRIPT = scripts.by_path(
    {
        b"/ok": scripts.ok,
        b"/hang": scripts.hang,
        b"/unread": scripts.unread,
        b"/idle": scripts.stall(b"data: 1\n\n"),
        b"/flood": scripts.flood(MUCH),
    }
)


# -- the means -----------------------------------------------------------------------------------


async def cancel_scope(work: Work, reached: Work) -> float:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await reached()
        cancelled = time.monotonic()
        group.cancel_scope.cancel()
    return cancelled


async def move_on_after(work: Work, reached: Work) -> float:
    with anyio.move_on_after(math.inf) as limit:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await reached()
            cancelled = time.monotonic()
            limit.deadline = anyio.current_time()
    assert limit.cancelled_caught
    return cancelled


async def task_cancel(work: Work, reached: Work) -> float:
    task = asyncio.ensure_future(work())
    await reached()
    cancelled = time.monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return cancelled


ASYNCIO_MEANS: list[Means] = [task_cancel]

if sys.version_info >= (3, 11):

    async def asyncio_timeout(work: Work, reached: Work) -> float:
        limit = asyncio.timeout(None)

        async def limited() -> None:
            async with limit:
                await work()

        task = asyncio.create_task(limited())
        await reached()
        cancelled = time.monotonic()
        limit.reschedule(asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            await task
        return cancelled

    ASYNCIO_MEANS.append(asyncio_timeout)


# -- what a cancellation does --------------------------------------------------------------------


def relay_to(upstream: Upstream) -> Relay:
    timeout = Timeout(read=60, write=60, pool=AT_ONCE)
    return Relay(upstream.url, limits=Limits(max_connections=1), timeout=timeout)


async def assert_free(relay: Relay) -> None:
    """The one connection is to be had."""
    assert (await Call("GET", "/ok")(relay)).body == b"ok"


async def assert_cancelled(means: Means, phase: Callable[[], Conversation]) -> None:
    call = phase()
    with Upstream(SCRIPT, receive_buffer=65536) as upstream:
        async with relay_to(upstream) as relay:
            cancelled = await means(lambda: call(relay), lambda: call.reached(upstream))
            request = upstream.requests[0]
            assert request.connection.wait_closed() - cancelled < AT_ONCE
            assert request.complete.is_set() == (request.method == b"GET")
            await assert_free(relay)


@pytest.mark.parametrize("means", [cancel_scope, move_on_after])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_scope_that_is_cancelled_closes_the_upstream_exchange(
    anyio_backend: Any, means: Means, phase: Callable[[], Conversation]
) -> None:
    await assert_cancelled(means, phase)


@ON_ASYNCIO
@pytest.mark.parametrize("means", ASYNCIO_MEANS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_task_that_is_cancelled_closes_the_upstream_exchange(
    anyio_backend: Any, means: Means, phase: Callable[[], Conversation]
) -> None:
    await assert_cancelled(means, phase)


async def test_a_call_that_is_cancelled_before_it_begins_takes_nothing(anyio_backend: Any) -> None:
    with Upstream(SCRIPT) as upstream:
        async with relay_to(upstream) as relay:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await Call("GET", "/hang")(relay)
            await assert_free(relay)


async def test_cancelling_at_any_moment_takes_nothing(anyio_backend: Any) -> None:
    moments = random.Random(4)
    with Upstream(SCRIPT) as upstream:
        async with relay_to(upstream) as relay:
            for _ in range(100):
                with anyio.move_on_after(moments.uniform(0, 0.005)):
                    await Call("GET", "/ok")(relay)
            await assert_free(relay)


class GoneError(OSError):
    """What a server may raise from `send` when the client has left."""


@pytest.mark.parametrize("target", ["/idle", "/flood"])
async def test_a_send_that_raises_closes_the_upstream_exchange(
    anyio_backend: Any, target: str
) -> None:
    async def send(message: Any) -> None:
        if message.get("body"):
            raise GoneError

    with Upstream(SCRIPT) as upstream:
        async with relay_to(upstream) as relay:
            with pytest.raises(GoneError):
                await relay(Call("GET", target).scope(), silence, send)
            raised = time.monotonic()
            assert upstream.connections[0].wait_closed() - raised < AT_ONCE
            await assert_free(relay)


async def test_a_receive_that_raises_closes_the_upstream_exchange(anyio_backend: Any) -> None:
    pieces = [b"half"]

    async def receive() -> Any:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}
        await anyio.to_thread.run_sync(upstream.wait_requests)
        raise GoneError

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with Upstream(SCRIPT) as upstream:
        async with relay_to(upstream) as relay:
            with pytest.raises(GoneError):
                await relay(Call("POST", "/hang", headers=[CHUNKED]).scope(), receive, send)
            raised = time.monotonic()
            assert upstream.connections[0].wait_closed() - raised < AT_ONCE
            assert not upstream.requests[0].complete.is_set()
            await assert_free(relay)


@pytest.mark.parametrize("kind", ["uvicorn-uvloop-httptools", "hypercorn-trio"])
def test_an_app_may_put_a_time_limit_around_a_relay(kind: str) -> None:
    with Upstream(SCRIPT) as upstream:
        relay = relay_to(upstream)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with anyio.move_on_after(math.inf) as limit:
                async with anyio.create_task_group() as tasks:
                    if scope["type"] == "http" and scope["path"] == "/hang":
                        tasks.start_soon(end, limit)
                    await relay(scope, receive, send)
            if limit.cancelled_caught:
                await asgi.respond(send, b"took too long", 503)

        async def end(limit: anyio.CancelScope) -> None:
            """Its time is over as soon as the upstream has it."""
            await anyio.to_thread.run_sync(upstream.wait_requests)
            limit.deadline = anyio.current_time()

        with serve(app, kind) as server:
            response = fetch(server.port, "/hang")
            assert (response.status, response.body) == (503, b"took too long")
            assert upstream.connections[0].wait_closed() - response.at < AT_ONCE
            assert fetch(server.port, "/ok").body == b"ok"
