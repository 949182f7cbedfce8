"""A relay to several as it lives: started again, asked from other threads, forked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from asgi_relay import HealthCheck, PassiveHealth, Relay

from .support import scripts
from .support.direct import Call
from .support.fleet import (
    answers,
    ask,
    fleet,
    probed,
    relay_to,
    says,
    state_of,
    status_of,
    upstreams,
)
from .support.load import Load
from .support.processes import ROOT
from .support.upstream import Upstream

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def each(relay: Relay, key: str) -> list[Any]:
    return [dict(one)[key] for one in relay.status()["targets"].values()]


@pytest.mark.anyio
async def test_it_outlives_a_shutdown() -> None:
    with upstreams("a") as (a,):
        relay = relay_to(a, health_check=HealthCheck(interval=60))
        await relay.startup()
        assert each(relay, "state") == ["healthy"]
        await relay.shutdown()
        assert each(relay, "in_flight") == [0]
        assert status_of(relay, a)["requests"] == 0
        await relay.startup()
        assert each(relay, "state") == ["healthy"]
        await relay.shutdown()


@pytest.mark.anyio
async def test_changes_of_the_set_outlive_a_shutdown() -> None:
    with upstreams("a", "b", "c") as (a, b, c):
        relay = relay_to(a, c)
        assert set(await answers(relay, 20)) == {"a", "c"}
        relay.targets.add(b.url)
        relay.targets.drain(c.url)
        relay.targets.remove(a.url)
        await relay.shutdown()
        assert set(relay.targets) == {b.url, c.url}
        assert await answers(relay, 3) == ["b"] * 3
        assert state_of(relay, c) == "draining"
        await relay.shutdown()


@pytest.mark.anyio
@asyncio_only
async def test_an_ejection_does_not_outlive_it() -> None:
    """Who starts anew asks everyone anew."""
    passive = PassiveHealth(consecutive_failures=1, eject_time=60)
    script = scripts.in_turn(scripts.answer(500), says("a"))
    with upstreams(script, "b") as (a, b):
        relay = relay_to(a, b, balance="round_robin", passive_health=passive)
        for _ in range(2):
            await ask(relay)
        assert state_of(relay, a) == "ejected"
        await relay.shutdown()
        assert sorted(await answers(relay, 4)) == ["a", "a", "b", "b"]
        await relay.shutdown()


@pytest.mark.anyio
@asyncio_only
async def test_what_a_shutdown_ends_is_not_in_flight_any_more() -> None:
    with upstreams(scripts.hang) as (a,):
        relay = relay_to(a, shutdown_grace=0)
        calls = [asyncio.ensure_future(Call()(relay)) for _ in range(3)]
        await asyncio.to_thread(a.wait_requests, 3)
        assert each(relay, "in_flight") == [3]
        await relay.shutdown()
        await asyncio.gather(*calls)
        assert each(relay, "in_flight") == [0]
        # Nobody but us ended them.
        assert each(relay, "failures") == [0]


@pytest.mark.anyio
@asyncio_only
async def test_it_may_be_asked_for_in_any_thread_under_load() -> None:
    stop = threading.Event()
    wrong: list[Any] = []

    def look(relay: Relay) -> None:
        while not stop.is_set():
            found = relay.status()["targets"].values()
            wrong.extend(one for one in found if not 0 <= one["in_flight"] <= 16)

    with fleet("a", "b") as two:
        async with relay_to(*two) as relay:
            threads = [threading.Thread(target=look, args=(relay,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            async with Load(relay, 16) as load:
                await load.more(300)
            stop.set()
            for thread in threads:
                thread.join()
            total = sum(each(relay, "requests"))
            assert each(relay, "in_flight") == [0, 0]
    assert wrong == []
    assert total == len(load.answers)


# -- after a fork ----------------------------------------------------------------------------------


def played(*several: Upstream) -> list[str]:
    """What the program printed; it has to end by itself, and without a word on stderr."""
    program = [sys.executable, "-Wignore::DeprecationWarning", "-m", "tests.programs.balancing"]
    done = subprocess.run(
        [*program, *(one.url for one in several)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_child_has_targets_of_its_own() -> None:
    with upstreams("a", "b") as two:
        said = played(*two)
    assert said == [
        "parent healthy 4 requests",
        "child healthy 2 requests",
        "status 0",
        "parent healthy 6 requests",
    ]
    # The parent checked them when it started, and the child when it did.
    assert [len(probed(one)) for one in two] == [2, 2]
