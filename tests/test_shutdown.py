"""The end of a relay while requests are in flight: they get their time, and then a visible cut."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import ConnectError, Limits, Relay, RelayError, Timeout

from .support import scripts
from .support.client import Client, TruncatedError
from .support.direct import Call
from .support.exchange import Gate
from .support.servers import accepts, serve
from .support.tidy import Tidy
from .support.upstream import Upstream, refusing, silent
from .support.waiting import AT_ONCE, wait_until

if TYPE_CHECKING:
    from .support.exchange import Exchange

pytestmark = pytest.mark.anyio

GRACE = 0.3


def half(exchange: Exchange) -> None:
    """Half of a body, and then silence."""
    exchange.read_body()
    exchange.start(length=8)
    exchange.send(b"half")
    exchange.hang()


async def until_received(upstream: Upstream, count: int = 1) -> None:
    await anyio.to_thread.run_sync(upstream.wait_requests, count)


def has_body(call: Call) -> bool:
    return len(call.sent) > 1


async def test_a_request_in_flight_is_finished_within_the_grace() -> None:
    gate, call = Gate(), Call()
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until_received(upstream)
            ended = anyio.Event()

            async def end() -> None:
                await relay.shutdown()
                ended.set()

            tasks.start_soon(end)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            gate.open()
        assert ended.is_set()
        upstream.connections[0].wait_closed()
    assert (call.status, call.body, call.ended) == (200, b"ok", True)


async def test_an_upload_in_flight_is_finished_within_the_grace() -> None:
    gate = Gate()
    call = Call("POST", headers=[(b"transfer-encoding", b"chunked")], pieces=[b"a", b"b", b"c"])
    with Upstream(scripts.gated(gate, scripts.echo)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until_received(upstream)
            tasks.start_soon(relay.shutdown)
            gate.open()
    assert (call.status, call.body, call.ended) == (200, b"abc", True)


async def test_a_request_without_a_head_is_answered_for_when_the_grace_is_over() -> None:
    call = Call()
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url, shutdown_grace=GRACE, timeout=Timeout(read=60))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until_received(upstream)
            before = time.monotonic()
            await relay.shutdown()
            took = time.monotonic() - before
        upstream.connections[0].wait_closed()
    assert GRACE <= took < GRACE + AT_ONCE
    assert (call.status, call.ended) == (502, True)
    assert call.body.startswith(b"Upstream error")
    assert call.response_values("content-type") == [b"text/plain; charset=utf-8"]


async def test_a_response_that_is_not_over_is_cut_when_the_grace_is() -> None:
    call = Call()
    with Upstream(half) as upstream:
        relay = Relay(upstream.url, shutdown_grace=GRACE)
        errors: list[RelayError] = []

        async def request() -> None:
            try:
                await call(relay)
            except RelayError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request)
            # Before its head is there it would be a whole 502.
            await call.until(functools.partial(has_body, call))
            await relay.shutdown()
        upstream.connections[0].wait_closed()
    assert (call.status, call.body, call.ended) == (200, b"half", False)
    assert len(errors) == 1


async def test_no_grace_cuts_at_once() -> None:
    call = Call()
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until_received(upstream)
            before = time.monotonic()
            await relay.shutdown()
            # By default the grace is 5 seconds.
            assert time.monotonic() - before < 4
    assert call.status == 502


async def test_requests_that_wait_for_a_connection_or_a_retry_are_cut_too() -> None:
    tidy = await Tidy.look_around()
    calls = [Call(), Call(), Call(), Call()]
    with Upstream(scripts.hang) as upstream, silent() as dead, refusing() as closed:
        limited = Relay(upstream.url, limits=Limits(max_connections=1), shutdown_grace=GRACE)
        connecting = Relay(dead, timeout=None, shutdown_grace=GRACE)
        retrying = Relay(
            closed,
            max_retries=5,
            retry_backoff_factor=100,
            retry_exceptions=(ConnectError,),
            shutdown_grace=GRACE,
        )
        async with anyio.create_task_group() as tasks:
            for call, relay in zip(calls, (limited, limited, connecting, retrying), strict=True):
                tasks.start_soon(call, relay)
            await until_received(upstream)
            for relay in (limited, connecting, retrying):
                tasks.start_soon(relay.shutdown)
    assert [call.status for call in calls] == [502] * 4
    await tidy.check()


async def test_a_request_that_comes_during_the_end_is_served() -> None:
    gate = Gate()
    late, early = Call(), Call()
    script = scripts.in_turn(scripts.gated(gate, scripts.ok), scripts.ok)
    with Upstream(script) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early, relay)
            await until_received(upstream)
            tasks.start_soon(relay.shutdown)
            await anyio.wait_all_tasks_blocked()
            await late(relay)
            gate.open()
        await relay.shutdown()
    assert (early.body, late.body) == (b"ok", b"ok")


async def test_an_end_that_is_cancelled_leaves_nothing() -> None:
    tidy = await Tidy.look_around()
    call = Call()
    with Upstream(scripts.hang) as upstream:
        relay = Relay(upstream.url, shutdown_grace=60)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until_received(upstream)
            with anyio.move_on_after(0.05):
                await relay.shutdown()
            # The impatient caller's next try: what was in flight is over by then, or is cut now.
            tasks.cancel_scope.cancel()
        await relay.shutdown()
        upstream.connections[0].wait_closed()
    await tidy.check()


async def test_streams_in_flight_leave_nothing() -> None:
    tidy = await Tidy.look_around()
    calls = [Call() for _ in range(20)]
    with Upstream(scripts.stall()) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0)

        async def stream(call: Call) -> None:
            with contextlib.suppress(RelayError):
                await call(relay)

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(stream, call)
            for call in calls:
                # Its head must be there: before that it would be a whole 502.
                await call.until(functools.partial(has_body, call))
            await relay.shutdown()
    assert not any(call.ended for call in calls)
    await tidy.check()


# -- with real clients, from other threads -------------------------------------------------------


def test_the_client_of_a_server_sees_the_cut() -> None:
    with Upstream(half) as upstream:
        relay = Relay(upstream.url, shutdown_grace=GRACE)
        # From another loop than the server's, while the server goes on.
        with serve(relay) as server, Client(server.port) as client:
            client.start()
            pieces = client.pieces(client.read_head())
            assert next(pieces).data == b"half"
            asyncio.run(relay.shutdown())
            with pytest.raises(TruncatedError) as cut:
                list(pieces)
        assert cut.value.after == len(b"half")


def test_a_server_that_stops_lets_its_requests_finish() -> None:
    gate = Gate()
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)
        with contextlib.ExitStack() as serving:
            server = serving.enter_context(serve(relay))
            client = Client(server.port)
            client.start()
            upstream.wait_requests()
            stopping = threading.Thread(target=serving.close)
            stopping.start()
            wait_until(lambda: not accepts(server.port), "the server to stop accepting")
            gate.open()
            response = client.read()
            client.close()
            stopping.join()
    assert (response.status, response.body) == (200, b"ok")


def test_another_loop_waits_for_the_requests_of_the_first() -> None:
    gate = Gate()
    calls: list[Call] = []
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=30)

        def serve_one() -> None:
            async def main() -> None:
                calls.append(await Call()(relay))

            asyncio.run(main())

        serving = threading.Thread(target=serve_one)
        serving.start()
        upstream.wait_requests()

        async def end() -> None:
            ending = asyncio.create_task(relay.shutdown())
            await asyncio.sleep(0)
            assert not ending.done()
            gate.open()
            await ending

        asyncio.run(end())
        serving.join(10)
    assert (calls[0].status, calls[0].body) == (200, b"ok")
