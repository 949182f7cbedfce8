"""One measurement: a load on one contestant, and what it cost the contestant's processes."""

import asyncio
import os
import resource
import time

from benchmarks.load import LoadError, open_streams, run_wrk
from benchmarks.probe import MachineTime, cpu_seconds, process_tree, resident_kib
from benchmarks.processes import Server
from benchmarks.results import Figures
from benchmarks.scenarios import (
    CPU,
    CPU_PER_100MB,
    MEGABYTES,
    OPENING,
    OTHERS,
    P50,
    P99,
    REQUESTS,
    RESIDENT,
    STREAM,
    Scenario,
)

WARM_UP_STREAMS = 20
SETTLE_SECONDS = 0.3
QUIET_STEP = 0.05
QUIET_AT_MOST = 2.0


def measure_requests(
    wrk: str, scenario: Scenario, server: Server, upstream: Server, seconds: int
) -> tuple[Figures, dict[str, int]]:
    """The figures of one round, and the errors that wrk saw, by kind."""
    proxy = process_tree(server.pid)
    ours = [*proxy, *process_tree(upstream.pid)]
    cpu, known = -cpu_seconds(proxy), -cpu_seconds(ours) - _wrk_seconds()
    machine, began = MachineTime.now(), time.monotonic()
    url = server.url + scenario.path
    load = run_wrk(wrk, url, scenario.connections, seconds, post=scenario.is_upload)
    cpu += cpu_seconds(proxy)
    known += cpu_seconds(ours) + _wrk_seconds()
    others = MachineTime.now().since(machine) - known
    capacity = (time.monotonic() - began) * (os.cpu_count() or 1)
    _wait_until_quiet(proxy)
    if not load.requests:
        raise LoadError(f"not one request was answered; errors: {load.errors}")
    figures = {
        REQUESTS: load.requests / load.seconds,
        CPU: cpu / load.requests * 1e6,
        P50: load.p50_ms,
        P99: load.p99_ms,
        MEGABYTES: load.bytes / load.seconds / 1e6,
        CPU_PER_100MB: cpu * 1e3 / (load.bytes / 1e8),
        OTHERS: max(0.0, others / capacity * 100),
    }
    return figures, load.errors


def _wrk_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _wait_until_quiet(pids: list[int]) -> None:
    """Some contestants do not notice that wrk has left and go on reading from the upstream."""
    end = time.monotonic() + QUIET_AT_MOST
    while time.monotonic() < end:
        before = cpu_seconds(pids)
        time.sleep(QUIET_STEP)
        if cpu_seconds(pids) - before < QUIET_STEP * 0.02:
            return


async def measure_streams(server: Server, count: int) -> Figures:
    """The growth in resident memory from an idle process to one that holds `count` streams."""
    pids = process_tree(server.pid)
    # What the first streams load and allocate once is no part of what a stream costs.
    async with open_streams(server.port, WARM_UP_STREAMS):
        await asyncio.sleep(SETTLE_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = resident_kib(pids), time.monotonic()
    async with open_streams(server.port, count):
        opening = time.monotonic() - began
        await asyncio.sleep(SETTLE_SECONDS)
        held = resident_kib(pids)
    return {STREAM: (held - before) / count, RESIDENT: held / 1024, OPENING: opening}
