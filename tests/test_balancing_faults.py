"""Real backends that die, freeze, fail and come back under load: what the clients see of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from asgi_relay import HealthCheck, PassiveHealth, Relay, Timeout, TransportError

from .support.crowd import Crowd
from .support.fleet import fleet, relay_to, state_of, status_of, until
from .support.load import Load
from .support.servers import serve

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

CLIENTS = 8
FAILURES = 3
STUCK = 2.0
"""Seconds until a request to a frozen backend is given up; a busy machine's others are faster."""

# Out after three failures in a row, and then for so long that no trial comes within a test.
passive = PassiveHealth(consecutive_failures=FAILURES, failure_rate=None, eject_time=60)
# By default a request is not tried again whose fresh connection breaks before the head comes.
saved: dict[str, Any] = {
    "max_retries": 1,
    "passive_health": passive,
    "retry_exceptions": [TransportError],
}
for_a_moment = PassiveHealth(consecutive_failures=FAILURES, failure_rate=None, eject_time=0.2)
checked: dict[str, Any] = {"health_check": HealthCheck(interval=0.05, timeout=10, fall=1)}


# -- killed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["p2c", "round_robin", "least_connections", "least_latency"])
async def test_a_backend_that_is_killed_is_not_missed(policy: str) -> None:
    with fleet("a", "b", "c") as (a, b, c):
        async with (
            relay_to(a, b, c, balance=policy, **saved) as relay,
            Load(relay, CLIENTS) as load,
        ):
            await load.more(200)
            b.kill()
            dead = time.monotonic()
            await load.more(300)
            # By its latency it is out before it has failed three times.
            assert policy == "least_latency" or state_of(relay, b) == "ejected"
            assert status_of(relay, b)["failures"] <= FAILURES + CLIENTS
    assert load.statuses == {200: len(load.answers)}
    assert "b" not in {answer.body for answer in load.answers if answer.began > dead}


async def test_a_backend_that_is_killed_while_it_works_is_not_missed() -> None:
    """Each request takes its time, so that some are lost half way and have to be asked again."""
    settings = {**saved, "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        for one in (a, b, c):
            one.tell("delay 0.03")
        async with relay_to(a, b, c, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(30)
            await load.until(lambda: status_of(relay, b)["in_flight"] >= 2, "work")
            b.kill()
            await load.more(60)
    assert load.statuses == {200: len(load.answers)}


async def test_no_post_is_done_twice_when_a_backend_is_killed() -> None:
    settings = {**saved, "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        for one in (a, b, c):
            one.tell("delay 0.01")
        async with (
            relay_to(a, b, c, **settings) as relay,
            Load(relay, CLIENTS, "POST") as load,
        ):
            await load.more(60)
            b.kill()
            await load.more(120)
        done = a.posted + c.posted
    assert len(done) == len(set(done))
    # What may have reached the dead one is told as a failure, and is not done by another.
    assert set(load.statuses) <= {200, 502}
    assert len(load.bad) <= CLIENTS
    assert not {answer.target for answer in load.bad} & {*done}


async def test_killed_and_started_again_on_the_same_port() -> None:
    settings = {**saved, "passive_health": for_a_moment, "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            b.kill()
            await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
            b.start()
            await load.until(lambda: state_of(relay, b) == "healthy", "the way back")
            since = len(load.answers)
            await load.more(120)
    assert not load.bad
    assert load.bodies(since)["b"] >= 20


async def test_killed_and_started_again_with_checks() -> None:
    settings = {**saved, **checked, "passive_health": None, "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            b.kill()
            await load.until(lambda: state_of(relay, b) == "unhealthy", "the check")
            seen = status_of(relay, b)["requests"]
            await load.more(100)
            assert status_of(relay, b)["requests"] <= seen + CLIENTS
            b.start()
            await load.until(lambda: state_of(relay, b) == "healthy", "the check")
            since = len(load.answers)
            await load.more(120)
    assert not load.bad
    assert load.bodies(since)["b"] >= 20


async def test_an_outage_of_all_ends_when_they_are_back() -> None:
    settings = {**saved, "passive_health": for_a_moment}
    with fleet("a", "b", "c") as three:
        async with relay_to(*three, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            for one in three:
                one.kill()
            await load.until(lambda: load.answers[-1].status != 200, "the outage")
            await load.more(100)
            assert {answer.status for answer in load.answers[-80:]} <= {502, 503}
            for one in three:
                one.start()
            await load.until(
                lambda: {state_of(relay, one) for one in three} == {"healthy"}, "the way back"
            )
            since = len(load.answers) + CLIENTS
            await load.more(200)
    assert {answer.status for answer in load.answers[since:]} == {200}
    assert set(load.bodies(since)) == {"a", "b", "c"}


# -- frozen ----------------------------------------------------------------------------------------


async def test_one_that_freezes_costs_time_and_no_answer() -> None:
    """SIGSTOP: the kernel goes on accepting, and nothing is ever answered."""
    settings = {**saved, "timeout": Timeout(read=STUCK), "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c, **settings) as relay:
            async with Load(relay, CLIENTS) as load:
                await load.more(50)
                b.freeze()
                await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
                await load.more(100)
            # Not its requests: it may still have answered some as the signal came.
            stuck = status_of(relay, b)["failures"]
    assert load.statuses == {200: len(load.answers)}
    # Out after three failures; those that were sent meanwhile are one of each client at most.
    assert FAILURES <= stuck <= FAILURES + CLIENTS


async def test_one_that_freezes_costs_a_stated_share_of_the_posts() -> None:
    settings = {**saved, "timeout": Timeout(read=STUCK), "balance": "round_robin"}
    with fleet("a", "b", "c") as (a, b, c):
        async with (
            relay_to(a, b, c, **settings) as relay,
            Load(relay, CLIENTS, "POST") as load,
        ):
            await load.more(50)
            b.freeze()
            await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
            out = time.monotonic()
            await load.more(100)
    # Each may have been seen, so none is sent again: three failures and what was sent meanwhile.
    assert set(load.statuses) == {200, 504}
    assert len(load.bad) <= FAILURES + CLIENTS
    assert all(answer.began < out for answer in load.bad)


async def test_one_that_thaws_comes_back() -> None:
    settings = {**saved, "timeout": Timeout(read=STUCK), "passive_health": for_a_moment}
    with fleet("a", "b") as (a, b):
        async with (
            relay_to(a, b, balance="round_robin", **settings) as relay,
            Load(relay, CLIENTS) as load,
        ):
            await load.more(50)
            b.freeze()
            await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
            b.thaw()
            await load.until(lambda: state_of(relay, b) == "healthy", "the way back")
            since = len(load.answers)
            await load.more(100)
    assert not load.bad
    assert load.bodies(since)["b"] >= 20


async def test_a_check_finds_the_one_that_is_frozen() -> None:
    check = HealthCheck(interval=0.05, timeout=2, fall=1)
    settings = {"health_check": check, "passive_health": None, "balance": "round_robin"}
    with fleet("a", "b") as (a, b):
        async with relay_to(a, b, **settings) as relay:
            b.freeze()
            async with Load(relay, 1) as load:
                await load.until(lambda: state_of(relay, b) == "unhealthy", "the check")
                b.thaw()
                await load.until(lambda: state_of(relay, b) == "healthy", "the check")
                await load.more(20)
    # Nobody's request timed out: the one that was stuck was answered after the thaw.
    assert not load.bad


# -- failing and slow ------------------------------------------------------------------------------


async def test_one_that_answers_500_is_out_after_its_share() -> None:
    with fleet("a", "b", "c") as (a, b, c):
        settings = {"balance": "round_robin", "passive_health": passive}
        async with relay_to(a, b, c, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            b.tell("status 500 Internal Server Error")
            await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
            out = time.monotonic()
            await load.more(200)
    assert set(load.statuses) == {200, 500}
    assert FAILURES <= len(load.bad) <= FAILURES + CLIENTS
    assert all(answer.began < out for answer in load.bad)


async def test_503s_are_saved_by_a_retry() -> None:
    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c, **saved) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            b.tell("status 503 Service Unavailable")
            await load.until(lambda: state_of(relay, b) == "ejected", "the ejection")
            await load.more(100)
    assert load.statuses == {200: len(load.answers)}


async def test_one_that_is_mute_holds_nobody_up_for_long() -> None:
    settings = {**saved, "timeout": Timeout(read=STUCK), "max_in_flight": 2}
    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c, **settings) as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            c.tell("mute")
            await load.more(200)
            times = [answer.ended - answer.began for answer in load.answers]
    assert not load.bad
    assert sum(time > STUCK * 0.95 for time in times) <= FAILURES + CLIENTS


# -- changed at run time ---------------------------------------------------------------------------


async def test_a_rolling_restart_loses_nothing() -> None:
    """Drain one, wait until it has nothing in flight, start it anew, and on to the next."""
    with fleet("a", "b", "c") as three:
        async with (
            relay_to(*three, balance="round_robin") as relay,
            Load(relay, CLIENTS, "POST") as load,
        ):
            for one in three:
                await load.more(60)
                relay.targets.drain(one.url)
                await load.until(
                    lambda one=one: status_of(relay, one)["in_flight"] == 0,  # type: ignore[misc]
                    "the last request",
                )
                relay.targets.remove(one.url)
                one.kill()
                await asyncio.to_thread(one.start)
                relay.targets.add(one.url)
            since = len(load.answers) + CLIENTS
            await load.more(90)
    assert load.statuses == {200: len(load.answers)}
    assert min(load.bodies(since)[name] for name in "abc") >= 20


async def test_a_target_that_is_added_gets_its_share_at_once() -> None:
    with fleet("a", "b") as (a, b):
        async with relay_to(a, balance="round_robin") as relay, Load(relay, CLIENTS) as load:
            await load.more(50)
            relay.targets.add(b.url)
            since = len(load.answers) + CLIENTS
            await load.more(100)
            await load.until(lambda: len(load.answers) >= since + 50, "answers")
    assert not load.bad
    shares = load.bodies(since)
    assert abs(shares["a"] - shares["b"]) <= 2 * CLIENTS


# -- clients that leave ----------------------------------------------------------------------------


async def test_clients_that_leave_at_random_leave_nothing_in_flight() -> None:
    async with Crowd(seed=4) as crowd:
        # One upstream by two names, so that what it says is from a known crowd.
        names = [f"http://{host}:{crowd.port}" for host in ("127.0.0.1", "localhost")]
        relay = relay_to(*names, max_in_flight=20, queue_timeout=5, max_retries=1)
        with serve(relay) as server:
            await crowd.run(server.port, 600)
            await until(lambda: in_flight(relay) == [0, 0], "the ends")
            statuses = relay.status()["targets"].values()
    assert crowd.tally.failures == []
    assert [one["failures"] for one in statuses] == [0, 0]
    assert min(one["requests"] for one in statuses) > 100


def in_flight(relay: Relay) -> list[int]:
    return [one["in_flight"] for one in relay.status()["targets"].values()]
