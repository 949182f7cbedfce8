"""One measurement: a load on one contestant, and what it cost the contestant's processes."""

import asyncio
import os
import resource
import time

from benchmarks.columns import headline
from benchmarks.load import LoadError, hold, play
from benchmarks.payloads import IDLE_PATH
from benchmarks.probe import (
    MachineTime,
    cpu_seconds,
    own_kib,
    process_tree,
    settled_kib,
)
from benchmarks.processes import Server
from benchmarks.results import Figures
from benchmarks.scenarios import (
    CPU,
    CPU_PER_100MB,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MEGABYTES_PER_CPU,
    MEMORY,
    MESSAGES,
    OPENING,
    OTHERS,
    P50,
    P99,
    REQUESTS,
    Scenario,
)
from benchmarks.tools import Tools

WARM_UP_CONNECTIONS = 20
SETTLE_SECONDS = 0.3
QUIET_STEP = 0.05
QUIET_AT_MOST = 2.0


def measure_load(
    tools: Tools, scenario: Scenario, server: Server, upstream: Server, seconds: float
) -> tuple[Figures, dict[str, int]]:
    """The figures of one round, and the errors that the load saw, by kind."""
    proxy = process_tree(server.pid)
    ours = [*proxy, *process_tree(upstream.pid)]
    cpu, known = -cpu_seconds(proxy), -cpu_seconds(ours) - _load_seconds()
    machine, began = MachineTime.now(), time.monotonic()
    load = play(tools, scenario, server, seconds)
    cpu += cpu_seconds(proxy)
    known += cpu_seconds(ours) + _load_seconds()
    others = MachineTime.now().since(machine) - known
    capacity = (time.monotonic() - began) * (os.cpu_count() or 1)
    _wait_until_quiet(proxy)
    if not load.count:
        raise LoadError(f"not one answer; errors: {load.errors}")
    rate, cost = (MESSAGES, CPU_PER_MESSAGE) if scenario.is_websocket else (REQUESTS, CPU)
    figures = {
        rate: load.count / load.seconds,
        cost: cpu / load.count * 1e6,
        P50: load.p50_ms,
        P99: load.p99_ms,
        MEGABYTES: load.bytes / load.seconds / 1e6,
        CPU_PER_100MB: cpu * 1e3 / (load.bytes / 1e8),
        MEGABYTES_PER_CPU: load.bytes / 1e6 / cpu,
        OTHERS: max(0.0, others / capacity * 100),
    }
    return figures, load.errors


def _load_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _wait_until_quiet(pids: list[int]) -> None:
    """Some contestants do not notice that the load has left and go on reading."""
    end = time.monotonic() + QUIET_AT_MOST
    while time.monotonic() < end:
        before = cpu_seconds(pids)
        time.sleep(QUIET_STEP)
        if cpu_seconds(pids) - before < QUIET_STEP * 0.02:
            return


async def measure_held(scenario: Scenario, server: Server) -> Figures:
    """The growth in memory from an idle process to one that holds the connections."""
    pids = process_tree(server.pid)
    # What the first of them load and allocate once is no part of what each costs.
    async with hold(scenario, server.port, WARM_UP_CONNECTIONS):
        await asyncio.sleep(SETTLE_SECONDS)
    before, began = await _held(scenario, pids), time.monotonic()
    async with hold(scenario, server.port, scenario.connections):
        opening = time.monotonic() - began
        held = await _held(scenario, pids)
    each, _ = headline(scenario)
    return {each: (held - before) / scenario.connections, MEMORY: held / 1024, OPENING: opening}


async def _held(scenario: Scenario, pids: list[int]) -> int:
    """Streams and WebSockets are in use; a connection without a request may come to hold less."""
    if scenario.path == IDLE_PATH:
        return await settled_kib(pids)
    await asyncio.sleep(SETTLE_SECONDS)
    return own_kib(pids)
