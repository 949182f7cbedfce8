"""Thousands of requests whose clients leave at random: everything is back to where it was."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from .support.client import fetch
from .support.crowd import Crowd, Tally
from .support.processes import run_process

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
PATIENCE = 30.0

OBSERVED = "tests.programs.observed:app"
UVICORN = ["-m", "uvicorn", OBSERVED, "--port", "{port}", "--log-level", "critical"]
# On trio it keeps a connection whose client has left for as long as an idle one: a second, here.
HYPERCORN = ["-m", "hypercorn", OBSERVED, "--bind", "127.0.0.1:{port}"]
HYPERCORN += ["--worker-class", "trio", "--keep-alive", "1", "--log-level", "critical"]

# How to serve, how many requests, and how often to look.
SERVERS = [
    pytest.param([*UVICORN, "--loop", "uvloop", "--http", "httptools"], 6000, 0.1, id="uvloop"),
    pytest.param([*UVICORN, "--loop", "asyncio", "--http", "h11"], 3000, 0.1, id="asyncio"),
    pytest.param(HYPERCORN, 1000, 1.2, id="trio"),
]


State = dict[str, Any]


async def state(port: int) -> State:
    found: State = json.loads((await asyncio.to_thread(fetch, port, "/-/state")).body)
    return found


async def settled(port: int, crowd: Crowd, interval: float, before: State | None = None) -> State:
    """The state once the upstream has no connection left, and there is no more than before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        await asyncio.sleep(interval)
        now = await state(port)
        back = before is None or not growth(now, before)
        if (crowd.connections == 0 and back) or time.monotonic() > deadline:
            return now


def growth(now: State, before: State) -> dict[str, Any]:
    """What there is more of, memory apart."""
    more: dict[str, Any] = {
        kind: Counter(now[kind]) - Counter(before[kind]) for kind in ("descriptors", "threads")
    }
    more["tasks"] = max(0, now["tasks"] - before["tasks"])
    return {kind: count for kind, count in more.items() if count}


@pytest.mark.parametrize(("arguments", "requests", "interval"), SERVERS)
def test_a_crowd_that_comes_and_goes_leaves_nothing(
    arguments: list[str], requests: int, interval: float, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Crowd(seed=7) as crowd:
            # mimalloc would give pages back to the system later, or never.
            environment = {
                "UPSTREAM": f"http://127.0.0.1:{crowd.port}",
                "MIMALLOC_PURGE_DELAY": "0",
            }
            with run_process(arguments, tmp_path / "log", environment) as process:
                await asyncio.to_thread(fetch, process.port, "/small")
                before = await settled(process.port, crowd, interval)
                # Memory is compared with what the first half needed: the allocator's blocks get to
                # where they stay ever more slowly, some 50 MiB up after 24,000 and after 96,000.
                await crowd.run(process.port, requests // 2)
                warm = await settled(process.port, crowd, interval, before)
                await crowd.run(process.port, requests - requests // 2)
                after = await settled(process.port, crowd, interval, before)
                # asyncio's own word on a client that left between two writes.
                output = process.output.replace("socket.send() raised exception.\n", "")
        assert output == ""
        assert crowd.connections == 0
        assert growth(after, before) == {}
        assert after["resident"] - warm["resident"] < 16 * MIB
        check(crowd.tally, requests)

    asyncio.run(main())


def check(tally: Tally, requests: int) -> None:
    assert tally.failures == []
    # A fair part of each, or the seed tells nothing.
    assert tally.answered + tally.left == requests
    assert min(tally.answered, tally.left) > requests // 5
    # What a client did not send whole never looked whole.
    assert tally.uploads_taken <= tally.uploads_sent
    assert len(tally.uploads_taken) > requests // 20
