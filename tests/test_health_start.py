"""The first round of checks, before the first request, and the end of all checks.

What happens when nobody is healthy is in test_health_outage.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import HealthCheck, Relay, Target

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.fleet import (
    answers,
    ask,
    asked,
    fleet,
    probed,
    relay_to,
    says,
    state_of,
    status_of,
    until,
    upstreams,
)
from .support.tidy import Tidy, expect_engine_threads
from .support.upstream import refusing, silent
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from .support.exchange import Exchange
    from .support.leaks import Leaks

pytestmark = pytest.mark.anyio
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# The first probe decides: one that is well must not be taken for one that hangs.
checked: dict[str, Any] = {"health_check": HealthCheck(interval=0.05, timeout=10)}


def hanging(url: str) -> Target:
    """One whose probes need not be waited for."""
    return Target(url, health_check=HealthCheck(interval=0.05, timeout=0.3))


# -- the first round -------------------------------------------------------------------------------


async def test_no_request_goes_out_before_the_first_check_is_in() -> None:
    gate = Gate()
    with upstreams(scripts.gated(gate, says("a"))) as (a,):
        async with anyio.create_task_group() as tasks:
            relay = relay_to(a, health_check=HealthCheck())
            calls = [Call() for _ in range(3)]
            for call in calls:
                tasks.start_soon(call, relay)
            await until(lambda: bool(a.requests), "the probe")
            await anyio.sleep(0.05)
            assert asked(a) == []
            gate.throw_open()
        await relay.shutdown()
    assert [call.body for call in calls] == [b"a"] * 3
    assert len(probed(a)) == 1


async def test_startup_waits_for_it() -> None:
    gate = Gate()
    with upstreams(scripts.gated(gate, says("a"))) as (a,):
        relay = relay_to(a, health_check=HealthCheck())
        done = anyio.Event()

        async def start() -> None:
            await relay.startup()
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await until(lambda: bool(probed(a)), "the probe")
            assert not done.is_set()
            assert state_of(relay, a) == "unhealthy"
            gate.throw_open()
        assert state_of(relay, a) == "healthy"
        await relay.shutdown()


@asyncio_only
async def test_a_probe_that_hangs_delays_the_start_by_its_timeout_alone() -> None:
    with upstreams(scripts.hang, "b") as (a, b):
        begin = time.monotonic()
        async with relay_to(hanging(a.url), b, **checked) as relay:
            assert 0.28 <= time.monotonic() - begin < AT_ONCE
            assert (state_of(relay, a), state_of(relay, b)) == ("unhealthy", "healthy")
            assert await answers(relay, 5) == ["b"] * 5


@asyncio_only
async def test_so_does_a_connect_that_never_ends() -> None:
    with silent() as url, upstreams("b") as (b,):
        async with relay_to(hanging(url), b, **checked) as relay:
            assert state_of(relay, url) == "unhealthy"
            assert await answers(relay, 5) == ["b"] * 5


@asyncio_only
async def test_one_that_is_down_at_the_start_is_never_asked() -> None:
    with refusing() as url, upstreams("b", "c") as (b, c):
        async with relay_to(url, b, c, balance="round_robin", **checked) as relay:
            assert sorted(await answers(relay, 6)) == ["b"] * 3 + ["c"] * 3
            status = status_of(relay, url)
    assert status["state"] == "unhealthy"
    assert status["requests"] == 0
    assert "ConnectError" in status["last_error"]


@asyncio_only
async def test_the_first_result_decides_at_once_whatever_rise_and_fall_are() -> None:
    check = HealthCheck(interval=60, rise=3, fall=3)
    with refusing() as url, upstreams("b") as (b,):
        async with relay_to(url, b, health_check=check) as relay:
            assert (state_of(relay, url), state_of(relay, b)) == ("unhealthy", "healthy")


@asyncio_only
async def test_one_that_starts_late_is_found() -> None:
    with fleet("a", "b") as (a, b):
        a.kill()
        async with relay_to(a, b, balance="round_robin", **checked) as relay:
            assert await answers(relay, 4) == ["b"] * 4
            a.start()
            await until(lambda: state_of(relay, a) == "healthy", "the check")
            assert sorted(await answers(relay, 4)) == ["a", "a", "b", "b"]


async def test_a_shutdown_in_the_first_round_answers_those_who_wait() -> None:
    with upstreams(scripts.hang) as (a,):
        relay = relay_to(a, health_check=HealthCheck(timeout=60))
        call = Call()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, relay)
            await until(lambda: bool(a.requests), "the probe")
            with anyio.fail_after(5):
                await relay.shutdown()
    assert call.status in (502, 503)


async def test_whoever_leaves_in_the_first_round_is_forgotten() -> None:
    gate = Gate()
    with upstreams(scripts.gated(gate, says("a"))) as (a,):
        async with anyio.create_task_group() as tasks:
            relay = relay_to(a, health_check=HealthCheck(interval=60))
            tasks.start_soon(Call(), relay)
            await until(lambda: bool(a.requests), "the probe")
            tasks.cancel_scope.cancel()
        gate.throw_open()
        assert await answers(relay, 1) == ["a"]
        await relay.shutdown()
    assert len(asked(a)) == 1


async def test_a_round_may_be_asked_for() -> None:
    status = [200]

    def script(exchange: Exchange) -> None:
        exchange.respond(status[0])

    with upstreams(script) as (a,):
        async with relay_to(a, health_check=HealthCheck(interval=60, fall=1)) as relay:
            status[0] = 503
            await relay.check_targets()
            assert state_of(relay, a) == "unhealthy"
            status[0] = 200
            await relay.check_targets()
            assert state_of(relay, a) == "healthy"
    assert len(probed(a)) == 3


# -- the end ---------------------------------------------------------------------------------------


@asyncio_only
async def test_the_checks_end_with_the_relay_and_begin_with_it_again() -> None:
    with upstreams("a") as (a,):
        relay = relay_to(a, **checked)
        await relay.startup()
        await until(lambda: len(probed(a)) >= 3, "probes")
        await relay.shutdown()
        await asyncio.to_thread(a.settle)
        seen = len(probed(a))
        await asyncio.sleep(0.3)
        assert len(probed(a)) == seen
        await relay.startup()
        assert await answers(relay, 1) == ["a"]
        await until(lambda: len(probed(a)) >= seen + 3, "probes")
        await relay.shutdown()


async def test_nothing_is_left_behind() -> None:
    with refusing() as url, upstreams("a", scripts.hang) as (a, b):
        three = (a, hanging(b.url), url)
        await relay_to(*three, **checked).shutdown()
        tidy = await Tidy.look_around()
        for _ in range(2):
            relay = relay_to(*three, **checked, on_target_change=print)
            async with relay:
                await answers(relay, 3)
        await tidy.check()
        await expect_engine_threads(0)


@asyncio_only
async def test_a_shutdown_does_not_wait_for_a_probe() -> None:
    slow = scripts.in_turn(says("a"), scripts.hang)
    with upstreams(slow) as (a,):
        relay = relay_to(a, health_check=HealthCheck(interval=0.02, timeout=60), shutdown_grace=30)
        await relay.startup()
        await until(lambda: len(probed(a)) == 2, "the probe that hangs")
        begin = time.monotonic()
        await relay.shutdown()
        assert time.monotonic() - begin < 5
        await asyncio.to_thread(a.connections[-1].wait_closed)


def test_a_relay_that_is_dropped_takes_its_checks_along(leaks: Leaks) -> None:
    async def one_request(url: str) -> None:
        relay = Relay(url, health_check=HealthCheck(interval=0.05))
        assert (await ask(relay)).status == 200

    with upstreams("a") as (a,):
        asyncio.run(one_request(a.url))
        gc.collect()
        seen = len(probed(a))
        time.sleep(0.3)
        assert len(probed(a)) <= seen + 1
