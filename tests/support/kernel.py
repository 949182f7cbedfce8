"""What the kernel tells: octets that wait in its socket buffers, and a process's memory.

With the buffers counted exactly, what a proxy holds itself is exact too, whatever their sizes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

_STILL = 0.2
"""Seconds without a change after which something counts as standing still."""


def buffered(sender: int, receiver: int) -> int:
    """Octets between two ports of this machine that were sent and have not been received.

    They are in one of two places: the sender's buffer, and the receiver's.
    """
    waiting = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        unsent, unread = (int(queue, 16) for queue in fields[4].split(":"))
        if (local, remote) == (sender, receiver):
            waiting += unsent
        elif (local, remote) == (receiver, sender):
            waiting += unread
    return waiting


def wait_still(measure: Callable[[], int]) -> int:
    """Wait until `measure` is more than 0 and has not changed for a while; what it came to.

    Whoever is waited for may be kept waiting for longer than that by a busy machine: nothing may
    be wrong where it goes on.
    """
    value, since = measure(), time.monotonic()
    deadline = since + PATIENCE
    while not value or time.monotonic() - since < _STILL:
        time.sleep(0.01)
        if (now := measure()) != value:
            value, since = now, time.monotonic()
        if since > deadline:
            raise AssertionError(f"still moving after {PATIENCE} s, at {value}")
    return value


def memory(pid: int, kind: str = "VmRSS") -> int:
    """Octets of memory that a process has now, or has had at most (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind + ":")) * 1024


def forget_peak(pid: int) -> None:
    """Have `VmHWM` begin anew at what the process has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
