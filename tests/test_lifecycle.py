"""A relay's life on an event loop: started, used, shut down, started again, leaving nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Relay

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.tidy import Tidy, expect_engine_threads
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.authority import Authority

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.ok) as upstream:
        yield upstream


async def ask(relay: Relay, target: str = "/") -> bytes:
    """The body of an answer that has to be a good one."""
    call = await Call("GET", target)(relay)
    assert (call.status, call.ended) == (200, True)
    return call.body


async def test_a_relay_starts_and_ends(upstream: Upstream) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    await relay.startup()
    await expect_engine_threads(1)
    assert await ask(relay) == b"ok"
    await relay.shutdown()
    await tidy.check()


async def test_starting_and_ending_twice_is_as_once(upstream: Upstream) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    await relay.startup()
    await relay.startup()
    assert await ask(relay) == b"ok"
    await expect_engine_threads(1)
    await relay.shutdown()
    await relay.shutdown()
    await tidy.check()


async def test_a_relay_that_was_never_started_starts_with_its_first_request(
    upstream: Upstream,
) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    await expect_engine_threads(0)
    assert await ask(relay) == b"ok"
    await expect_engine_threads(1)
    await relay.shutdown()
    await tidy.check()


async def test_ending_what_never_started_does_nothing() -> None:
    tidy = await Tidy.look_around()
    await Relay("http://127.0.0.1:1").shutdown()
    await tidy.check()


async def test_making_a_relay_starts_nothing() -> None:
    tidy = await Tidy.look_around()
    relays = [Relay("https://upstream.test", verify=False) for _ in range(3)]
    await tidy.check(within=0)
    assert all("not started" in repr(relay) for relay in relays)


async def test_a_relay_lives_again_after_its_end(upstream: Upstream) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    for _ in range(3):
        await relay.startup()
        assert await ask(relay) == b"ok"
        await relay.shutdown()
        assert "not started" in repr(relay)
    await tidy.check()
    # Without a startup, too.
    assert await ask(relay) == b"ok"
    await relay.shutdown()
    await tidy.check()


async def test_a_block_starts_and_ends_a_relay(upstream: Upstream) -> None:
    tidy = await Tidy.look_around()
    async with Relay(upstream.url) as relay:
        assert "running" in repr(relay)
        assert await ask(relay) == b"ok"
    assert "not started" in repr(relay)
    await tidy.check()


async def test_a_block_that_fails_ends_a_relay(upstream: Upstream) -> None:
    tidy = await Tidy.look_around()
    relay = Relay(upstream.url)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with relay:
            assert await ask(relay) == b"ok"
            raise ZeroDivisionError
    assert "not started" in repr(relay)
    await tidy.check()


async def test_the_end_closes_the_connections_that_were_kept(upstream: Upstream) -> None:
    async with Relay(upstream.url) as relay:
        await ask(relay, "/1")
        await ask(relay, "/2")
        assert len(upstream.connections) == 1
        assert not upstream.connections[0].closed_by_peer.is_set()
    upstream.connections[0].wait_closed()


async def test_relays_share_one_thread_that_ends_with_the_last(upstream: Upstream) -> None:
    tidy = await Tidy.look_around()
    one, two = Relay(upstream.url), Relay(upstream.url)
    await one.startup()
    await two.startup()
    await expect_engine_threads(1)
    await one.shutdown()
    assert await ask(two) == b"ok"
    await expect_engine_threads(1)
    await two.shutdown()
    await tidy.check()


async def test_the_end_of_one_relay_leaves_the_requests_of_another_alone() -> None:
    gate = Gate()
    answered: list[bytes] = []
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:
        async with Relay(upstream.url) as one, anyio.create_task_group() as tasks:
            other = Relay(upstream.url)
            await other.startup()

            async def request() -> None:
                answered.append(await ask(one))

            tasks.start_soon(request)
            await anyio.to_thread.run_sync(upstream.wait_requests)
            await other.shutdown()
            gate.open()
    assert answered == [b"ok"]


async def test_a_hundred_lives_leave_nothing(upstream: Upstream) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    for _ in range(100):
        assert await ask(relay) == b"ok"
        await relay.shutdown()
    await tidy.check()


async def test_a_failed_request_leaves_nothing() -> None:
    tidy = await Tidy.look_around()
    with refusing() as url:
        async with Relay(url) as relay:
            assert (await Call()(relay)).status == 502
    await tidy.check()


def test_outside_of_a_loop_nothing_starts() -> None:
    relay = Relay("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match=r"asyncio or trio|async context"):
        relay.startup().send(None)
    assert "not started" in repr(relay)


# -- lifespan ------------------------------------------------------------------------------------


async def lifespan(relay: Relay, during: Any = None) -> list[str]:
    """Play a server's part in the lifespan protocol; what the app answered."""
    said: list[str] = []
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        kind = next(asked)
        if kind == "lifespan.shutdown" and during is not None:
            await during()
        return {"type": kind}

    async def send(message: Any) -> None:
        said.append(message["type"])

    await relay({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return said


async def test_as_a_root_app_it_answers_lifespan(upstream: Upstream) -> None:
    relay = Relay(upstream.url)
    tidy = await Tidy.look_around()
    states: list[str] = []

    async def during() -> None:
        states.append(repr(relay))
        assert await ask(relay) == b"ok"

    said = await lifespan(relay, during)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "running" in states[0]
    assert "not started" in repr(relay)
    await tidy.check()


async def test_a_start_that_fails_fails_the_lifespan(authority: Authority, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.pem.read_bytes())
    relay = Relay("https://upstream.test", verify=bundle)
    # The first start uses what the constructor has read.
    async with relay:
        bundle.unlink()
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with pytest.raises(ValueError, match="verify"):
        await relay({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert "bundle.pem" in said[0]["message"]
