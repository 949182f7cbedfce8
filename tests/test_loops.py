"""Relay on each event loop, with no server between: asyncio, uvloop and trio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import Relay

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .support.leaks import Leaks

pytestmark = pytest.mark.anyio


async def test_a_request(anyio_backend: object) -> None:
    with Upstream(scripts.ok) as upstream:
        async with Relay(upstream.url) as relay:
            call = await Call(target="/a%2Fb?c")(relay)
        upstream.connections[0].wait_closed()
    assert (call.status, call.body, call.ended) == (200, b"ok", True)
    assert upstream.requests[0].target == b"/a%2Fb?c"


async def test_a_streamed_upload(anyio_backend: object) -> None:
    headers = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
    pieces = [b"x" * 70_000, b"", b"y", b"z" * 300_000]
    with Upstream(scripts.echo) as upstream:
        async with Relay(upstream.url) as relay:
            call = await Call("POST", headers=headers, pieces=pieces)(relay)
    assert call.body == b"".join(pieces)


async def test_a_stream_of_events(anyio_backend: object) -> None:
    gate = Gate()
    with Upstream(scripts.drip(gate, [b"one", b"two"])) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            call = Call()
            group.start_soon(call, relay)
            await call.until(lambda: bool(call.sent))
            assert call.body == b""
            gate.open()
            await call.until(lambda: call.body == b"one")
            assert not call.ended
            gate.open()
            await call.until(lambda: call.ended)
    assert call.body == b"onetwo"


async def test_many_at_once(anyio_backend: object) -> None:
    calls = [Call(target=f"/{number}") for number in range(50)]
    with Upstream(scripts.reflect) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(call, relay)
    for number, call in enumerate(calls):
        assert call.body.startswith(b"GET /%d HTTP/1.1\r\n" % number)


async def test_a_client_that_leaves(anyio_backend: object) -> None:
    with Upstream(scripts.hang) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            call = Call()
            group.start_soon(call, relay)
            request = await anyio.to_thread.run_sync(upstream.wait_requests)
            call.leave.set()
            await anyio.to_thread.run_sync(request.connection.wait_closed)
    assert call.sent == []


async def test_a_cancelled_request(anyio_backend: object) -> None:
    with Upstream(scripts.hang) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            group.start_soon(Call(), relay)
            request = await anyio.to_thread.run_sync(upstream.wait_requests)
            group.cancel_scope.cancel()
        request.connection.wait_closed()


async def test_a_timeout_around_a_request(anyio_backend: object) -> None:
    async def limited(relay: Relay, tasks: TaskGroup) -> None:
        with anyio.fail_after(math.inf) as limit:
            tasks.start_soon(end, limit)
            await Call()(relay)

    async def end(limit: anyio.CancelScope) -> None:
        """Its time is over as soon as the upstream has it."""
        await anyio.to_thread.run_sync(upstream.wait_requests)
        limit.deadline = anyio.current_time()

    with Upstream(scripts.hang) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as tasks:
            with pytest.raises(TimeoutError):
                await limited(relay, tasks)
            upstream.connections[0].wait_closed()


async def test_a_failure(anyio_backend: object) -> None:
    with refusing() as url:
        async with Relay(url) as relay:
            call = await Call()(relay)
    assert call.status == 502
    assert call.body.startswith(b"Upstream error")


async def test_a_relay_that_was_never_started(anyio_backend: object, leaks: Leaks) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        assert (await Call()(relay)).status == 200
        await relay.shutdown()
        await relay.shutdown()
        leaks.settle()
        assert (await Call()(relay)).status == 200
        await relay.shutdown()
        upstream.connections[1].wait_closed()


async def test_shutdown_twice_at_once(anyio_backend: object) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        for _ in range(3):
            await Call()(relay)
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(relay.shutdown)
                    group.start_soon(relay.shutdown)
        assert "not started" in repr(relay)
