"""What the kernel says about processes: CPU time, memory, and how busy the whole machine was.

CPU comes from the process's CPU clock and not from /proc/<pid>/stat: the same sum (user and
system, every thread, also those that have ended), in nanoseconds where stat counts 10 ms ticks.
"""

import asyncio
import ctypes
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
SETTLED_SECONDS = 9
"""Without less memory than before; in a gateway that rests, there are up to 6 between two falls."""
SETTLED_AT_MOST = 30
SETTLED_STEP = 0.25
TICK = 1 / os.sysconf("SC_CLK_TCK")


def process_tree(root: int) -> list[int]:
    """The process and all that descend from it (nginx: its master and its worker)."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold spaces: the fields start behind the last one.
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children[int(stat[1])].append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def cpu_seconds(pids: list[int]) -> float:
    return sum(_cpu_clock(pid) for pid in pids)


def _cpu_clock(pid: int) -> float:
    clock = ctypes.c_int()
    if error := _libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, f"no CPU clock for process {pid}")
    return time.clock_gettime(clock.value)


def own_kib(pids: list[int]) -> int:
    """Resident memory, but for pages of files: code, which is loaded once and shared."""
    return sum(map(_own_kib, pids))


async def settled_kib(pids: list[int]) -> int:
    """The same once it has not become less for a while: what is idle may be let go of late."""
    least, until = own_kib(pids), time.monotonic() + SETTLED_SECONDS
    end = time.monotonic() + SETTLED_AT_MOST
    while time.monotonic() < min(until, end):
        await asyncio.sleep(SETTLED_STEP)
        if (now := own_kib(pids)) < least:
            least, until = now, time.monotonic() + SETTLED_SECONDS
    return own_kib(pids)


def _own_kib(pid: int) -> int:
    # smaps_rollup counts pages; VmRSS and statm may lag by some hundred kilobytes per thread.
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1])
    return 0


@dataclass(frozen=True)
class MachineTime:
    """What all cores have done since boot, in seconds."""

    taken: float
    """By programs, the kernel, and by the hypervisor for other machines (steal)."""

    @classmethod
    def now(cls) -> "MachineTime":
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
        return cls((user + nice + system + irq + softirq + steal) * TICK)

    def since(self, earlier: "MachineTime") -> float:
        return self.taken - earlier.taken
