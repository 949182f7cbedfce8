"""Consistent hashing: a key stays where it is, and as few as possible move when targets change."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import ConsistentHash, Relay, Target

from .support import scripts
from .support.exchange import Gate
from .support.fleet import ask, asked, relay_to, says, until, upstreams

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

KEYS = [f"user-{number}" for number in range(200)]
by_user = {"balance": ConsistentHash(header="X-User")}


def sent_by(user: str) -> dict[str, Any]:
    return {"headers": [(b"host", b"relay.test"), (b"x-user", user.encode())]}


async def homes(relay: Relay, keys: Iterable[str] = KEYS) -> dict[str, str]:
    """Who answers each key."""
    return {key: (await ask(relay, **sent_by(key))).body.decode() for key in keys}


async def test_a_key_stays_and_the_keys_spread() -> None:
    with upstreams("a", "b", "c", "d") as four:
        async with relay_to(*four, **by_user) as relay:
            first = await homes(relay)
            assert await homes(relay) == first
    shares = Counter(first.values())
    assert all(20 <= shares[name] <= 90 for name in "abcd"), shares


async def test_another_relay_finds_the_same_homes() -> None:
    with upstreams("a", "b", "c") as three:
        async with relay_to(*three, **by_user) as one, relay_to(*three[::-1], **by_user) as other:
            assert await homes(one) == await homes(other)


async def test_only_the_keys_of_a_target_that_goes_move_and_they_come_back_with_it() -> None:
    with upstreams("a", "b", "c", "d") as four:
        async with relay_to(*four, **by_user) as relay:
            before = await homes(relay)
            relay.targets.remove(four[3].url)
            without = await homes(relay)
            relay.targets.add(four[3].url)
            again = await homes(relay)
    stayed = {key: home for key, home in before.items() if home != "d"}
    assert {key: without[key] for key in stayed} == stayed
    # Those that had to move went to all of the others.
    assert {without[key] for key in before.keys() - stayed.keys()} == {"a", "b", "c"}
    assert again == before


async def test_a_key_whose_home_is_out_goes_to_another_and_stays_there() -> None:
    with upstreams("a", "b", "c") as three:
        async with relay_to(*three, **by_user) as relay:
            before = await homes(relay, KEYS[:30])
            relay.targets.drain(three[0].url)
            after = await homes(relay, KEYS[:30])
            assert await homes(relay, KEYS[:30]) == after
    assert "a" not in after.values()
    assert all(after[key] == home for key, home in before.items() if home != "a")


async def test_weights_are_shares_of_the_keys() -> None:
    with upstreams("a", "b") as (a, b):
        async with relay_to(Target(a.url, weight=3), b, **by_user) as relay:
            shares = Counter((await homes(relay)).values())
    assert 110 <= shares["a"] <= 185, shares


async def test_without_a_key_it_is_by_chance() -> None:
    with upstreams("a", "b") as two:
        async with relay_to(*two, **by_user) as relay:
            said = Counter([(await ask(relay)).body for _ in range(100)])
    assert min(said.values()) >= 20


async def test_the_key_may_be_a_cookie() -> None:
    def with_cookie(text: str) -> dict[str, Any]:
        return {"headers": [(b"host", b"relay.test"), (b"cookie", text.encode())]}

    with upstreams(scripts.reflect, scripts.reflect) as two:
        async with relay_to(*two, balance=ConsistentHash(cookie="user")) as relay:
            for key in KEYS[:20]:
                asked_before = [len(asked(one)) for one in two]
                # What is beside it does not count; and it is the client's to see, so it goes on.
                for text in (f"user={key}", f"a=1; user={key}; b=2", f"other=x; user={key}"):
                    assert text.encode() in (await ask(relay, **with_cookie(text))).body
                grown = [len(asked(one)) - old for one, old in zip(two, asked_before, strict=True)]
                assert sorted(grown) == [0, 3]
    assert all(asked(one) for one in two)


async def test_the_key_may_be_the_clients_address() -> None:
    with upstreams("a", "b", "c") as three:
        async with relay_to(*three, balance=ConsistentHash(client_address=True)) as relay:
            homes_of: dict[int, set[bytes]] = {}
            for host in [*range(60)] * 2:
                for port in (50007, 50008):
                    client = {"client": (f"192.0.2.{host}", port)}
                    call = await ask(relay, extra=client)
                    homes_of.setdefault(host, set()).add(call.body)
            # A server on a Unix socket knows no client.
            assert (await ask(relay, extra={"client": None})).status == 200
    assert all(len(found) == 1 for found in homes_of.values())
    assert set.union(*homes_of.values()) == {b"a", b"b", b"c"}


async def test_a_key_that_everyone_has_is_spread_all_the_same() -> None:
    """Bounded load: no target has more than 1.25 times its share in flight."""
    gate = Gate()
    with upstreams(*[scripts.gated(gate, says(name)) for name in "abcd"]) as four:
        async with relay_to(*four, **by_user) as relay:
            waiting = [asyncio.ensure_future(ask(relay, **sent_by("hot"))) for _ in range(16)]
            await until(lambda: sum(len(one.requests) for one in four) == 16, "all requests")
            counts = [len(one.requests) for one in four]
            gate.throw_open()
            await asyncio.gather(*waiting)
            # With room again the key is at home again.
            later = [(await ask(relay, **sent_by("hot"))).body for _ in range(5)]
    # A quarter of 16, and a quarter more.
    assert max(counts) <= 5, counts
    assert len(set(later)) == 1
