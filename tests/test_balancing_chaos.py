"""Backends that fail in any order while targets come and go: whatever happened, it heals."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, PassiveHealth, Timeout, TransportError

from .support.fleet import fleet, relay_to, state_of
from .support.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from asgi_relay import Relay

    from .support.fleet import Backend

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

passive = PassiveHealth(consecutive_failures=2, eject_time=0.1, max_ejected=1)
settings: dict[str, Any] = {
    "passive_health": passive,
    "timeout": Timeout(read=2),
    "max_in_flight": 6,
    "max_retries": 2,
    "retry_exceptions": [TransportError],
}
checked = {"health_check": HealthCheck(interval=0.05, timeout=2, fall=1)}


def disturb(backend: Backend, relay: Relay, chance: random.Random) -> None:
    """Do something to one that is well."""
    disturbances: list[Callable[[], object]] = [
        backend.kill,
        backend.freeze,
        lambda: backend.tell("status 500 Internal Server Error"),
        lambda: backend.tell("mute"),
        lambda: relay.targets.drain(backend.url),
        lambda: relay.targets.remove(backend.url),
    ]
    chance.choice(disturbances)()


async def heal(backend: Backend, relay: Relay) -> None:
    """Start it anew, whatever state it is in, and take it in again."""
    backend.kill()
    await asyncio.to_thread(backend.start)
    if backend.url not in relay.targets or state_of(relay, backend) == "draining":
        relay.targets.add(backend.url)


@pytest.mark.parametrize("checks", [{}, checked], ids=["passive", "active"])
@pytest.mark.parametrize("policy", ["p2c", "round_robin", "least_latency"])
async def test_whatever_happens_it_heals(policy: str, checks: dict[str, Any]) -> None:
    chance = random.Random(f"{policy} {bool(checks)}")
    with fleet("a", "b", "c", "d") as four:
        async with (
            relay_to(*four, balance=policy, **settings, **checks) as relay,
            Load(relay, clients=12) as load,
        ):
            for _ in range(6):
                hurt = chance.sample(four, chance.randint(1, 3))
                for backend in hurt:
                    disturb(backend, relay, chance)
                await load.more(40)
                for backend in hurt:
                    await heal(backend, relay)
            await load.until(
                lambda: {state_of(relay, one) for one in four} == {"healthy"}, "all to be well"
            )
            since = len(load.answers) + 12
            await load.more(200)
        status = relay.status()["targets"].values()
    assert set(load.statuses) <= {200, 500, 502, 503, 504}
    assert {answer.status for answer in load.answers[since:]} == {200}
    # By its latency one may be well and not be asked.
    assert policy == "least_latency" or set(load.bodies(since)) == {"a", "b", "c", "d"}
    assert [one["in_flight"] for one in status] == [0] * 4
