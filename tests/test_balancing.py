"""Who gets which request: each policy over several upstreams, and weights.

Consistent hashing is in test_balancing_hash, cookies that pin a client are in test_sticky, what
goes to the target that was chosen is in test_balancing_requests.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from asgi_relay import HealthCheck, Target

from .support.exchange import Gate
from .support.fleet import answers, ask, asked, fleet, relay_to, status_of, until, upstreams
from .support.load import Load

if TYPE_CHECKING:
    from .support.exchange import Exchange, Script

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

POLICIES = [
    "round_robin",
    "weighted_round_robin",
    "random",
    "p2c",
    "least_connections",
    "least_latency",
]


def slow(name: str, gate: Gate) -> Script:
    """Answers its name, but for `/wait`, which waits for the gate."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.target == b"/wait":
            exchange.wait(gate)
        exchange.respond(body=name.encode())

    return script


# -- in turn ---------------------------------------------------------------------------------------


async def test_round_robin_asks_one_after_the_other() -> None:
    with upstreams("a", "b", "c") as three:
        async with relay_to(*three, balance="round_robin") as relay:
            said = await answers(relay, 12)
    assert {*said[:3]} == {"a", "b", "c"}
    assert said == said[:3] * 4


async def test_weighted_round_robin_gives_each_its_share_of_every_round() -> None:
    with upstreams("a", "b", "c") as (a, b, c):
        several = [Target(a.url, weight=5), Target(b.url), Target(c.url)]
        async with relay_to(*several, balance="weighted_round_robin") as relay:
            said = await answers(relay, 28)
    for begin in range(21):
        assert Counter(said[begin : begin + 7]) == {"a": 5, "b": 1, "c": 1}
    # Smooth: the light ones do not come in one block behind the heavy one's.
    assert not {("b", "c"), ("c", "b")} & {*itertools.pairwise(said)}


async def test_round_robin_of_requests_at_the_same_time() -> None:
    with fleet("a", "b", "c") as three:
        async with relay_to(*three, balance="round_robin") as relay:
            calls = await asyncio.gather(*(ask(relay) for _ in range(300)))
    assert Counter(call.body for call in calls) == {b"a": 100, b"b": 100, b"c": 100}


# -- by chance -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "least"),
    [("random", 0.25), ("p2c", 0.0), ("least_connections", 0.0), ("least_latency", 0.0)],
)
async def test_no_target_is_starved_when_all_are_alike(policy: str, least: float) -> None:
    with fleet("a", "b", "c") as three:
        async with relay_to(*three, balance=policy) as relay, Load(relay, pause=0) as load:
            await load.more(600)
    shares = load.bodies()
    assert not load.bad
    # The busier of two on a busy machine rightly gets less; by chance a share is a share.
    assert min(shares[name] for name in "abc") > least * len(load.answers), shares


async def test_random_is_fair() -> None:
    with upstreams("a", "b", "c") as three:
        async with relay_to(*three, balance="random") as relay:
            said = await answers(relay, 600)
    # Six standard deviations.
    assert all(abs(count - 200) < 70 for count in Counter(said).values()), Counter(said)
    # Two in a row are independent of each other: a third of them are the same.
    same = sum(one == next_one for one, next_one in itertools.pairwise(said))
    assert 130 < same < 270


async def test_random_minds_the_weights() -> None:
    with upstreams("a", "b") as (a, b):
        async with relay_to(Target(a.url, weight=3), b, balance="random") as relay:
            shares = Counter(await answers(relay, 400))
    assert 244 < shares["a"] < 356


# -- by load ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["p2c", "least_connections"])
async def test_the_one_that_is_busy_is_left_alone(policy: str) -> None:
    gate = Gate()
    with upstreams(*(slow(name, gate) for name in "abc")) as three:
        async with relay_to(*three, balance=policy) as relay:
            waiting = asyncio.ensure_future(ask(relay, "/wait"))
            await until(lambda: any(one.requests for one in three), "the request")
            (busy,) = [one for one in three if one.requests]
            said = await answers(relay, 60)
            gate.throw_open()
            await waiting
    assert len(asked(busy)) == 1
    assert len({*said}) == 2
    assert min(Counter(said).values()) >= 10


async def test_least_connections_fills_all_evenly() -> None:
    gate = Gate()
    with upstreams(*(slow(name, gate) for name in "abc")) as three:
        async with relay_to(*three, balance="least_connections") as relay:
            waiting = [asyncio.ensure_future(ask(relay, "/wait")) for _ in range(12)]
            await until(lambda: sum(len(one.requests) for one in three) == 12, "all requests")
            assert [status_of(relay, one)["in_flight"] for one in three] == [4, 4, 4]
            gate.throw_open()
            await asyncio.gather(*waiting)
    assert [len(asked(one)) for one in three] == [4, 4, 4]


async def test_p2c_does_not_herd() -> None:
    gate = Gate()
    with upstreams(*(slow(name, gate) for name in "abcd")) as four:
        async with relay_to(*four, balance="p2c") as relay:
            waiting = [asyncio.ensure_future(ask(relay, "/wait")) for _ in range(40)]
            await until(lambda: sum(len(one.requests) for one in four) == 40, "all requests")
            gate.throw_open()
            await asyncio.gather(*waiting)
    # The difference that two choices leave grows with log log n; a single choice gives 10 ± 8.
    assert all(5 <= len(asked(one)) <= 15 for one in four), [len(asked(one)) for one in four]


@pytest.mark.parametrize("policy", ["p2c", "least_connections", "least_latency"])
async def test_a_slow_one_gets_less(policy: str) -> None:
    with fleet("a", "b", "slow") as (a, b, slow_one):
        slow_one.tell("delay 1")
        async with relay_to(a, b, slow_one, balance=policy) as relay, Load(relay) as load:
            await load.more(400)
    assert not load.bad
    assert 1 <= load.bodies()["slow"] < 0.1 * len(load.answers)


async def test_least_latency_leaves_the_slow_one_after_it_was_tried() -> None:
    with fleet("a", "slow") as (a, slow_one):
        slow_one.tell("delay 1")
        async with relay_to(a, slow_one, balance="least_latency") as relay:
            said = Counter(await answers(relay, 60))
            assert status_of(relay, slow_one)["latency_ms"] >= 750
            assert status_of(relay, a)["latency_ms"] < 750
    assert said["slow"] <= 3


async def test_least_latency_knows_from_the_probes_which_one_is_slow() -> None:
    with fleet("a", "slow") as (a, slow_one):
        slow_one.tell("delay 1")
        settings = {"balance": "least_latency", "health_check": HealthCheck()}
        async with relay_to(a, slow_one, **settings) as relay:
            assert status_of(relay, slow_one)["latency_ms"] >= 750
            said = Counter(await answers(relay, 30))
    assert said["slow"] <= 1


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_weight_of_0_gets_nothing(policy: str) -> None:
    with upstreams("a", "b", "none") as (a, b, none):
        async with relay_to(a, Target(none.url, weight=0), b, balance=policy) as relay:
            await answers(relay, 40)
            assert status_of(relay, none)["state"] == "draining"
    assert none.connections == []
    assert len(asked(a)) + len(asked(b)) == 40


@pytest.mark.parametrize("policy", POLICIES)
async def test_one_of_several_is_enough(policy: str) -> None:
    with upstreams("a") as (a,):
        async with relay_to(a, balance=policy) as relay:
            assert await answers(relay, 5) == ["a"] * 5


# -- asked without a request -----------------------------------------------------------------------


async def test_pick_names_a_target_that_could_be_asked() -> None:
    with upstreams("a", "b") as (a, b):
        async with relay_to(a, b, balance="round_robin") as relay:
            picked = [relay.pick() for _ in range(4)]
            assert Counter(picked) == {a.url: 2, b.url: 2}
            relay.targets.drain(a.url)
            assert [relay.pick() for _ in range(3)] == [b.url] * 3
            relay.targets.drain(b.url)
            assert relay.pick() is None
            # It counts for nothing.
            assert [status_of(relay, one)["requests"] for one in (a, b)] == [0, 0]
            assert [status_of(relay, one)["in_flight"] for one in (a, b)] == [0, 0]
    assert a.requests == b.requests == []
