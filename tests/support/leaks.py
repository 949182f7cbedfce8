"""What a test must leave as it found it: descriptors, threads (Rust's too), asyncio tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .waiting import wait_until


@dataclass(frozen=True)
class Snapshot:
    """What this process holds at one moment."""

    descriptors: Counter[str]
    """By what they are open on; sockets and pipes by their kind, since their inodes change."""
    threads: Counter[str]
    """By the kernel's name of them: Rust's threads have no other."""
    python_threads: Counter[str]

    @classmethod
    def take(cls, *, collect: bool = True) -> Snapshot:
        """`collect` has the garbage collected first, which takes its time."""
        if collect:
            gc.collect()
        return cls(
            Counter(_describe(entry) for entry in Path("/proc/self/fd").iterdir()),
            Counter(_name(entry) for entry in Path("/proc/self/task").iterdir()),
            Counter(thread.name for thread in threading.enumerate()),
        )

    def growth(self, before: Snapshot) -> dict[str, list[str]]:
        """What is there now and was not there before, by kind."""
        grown = {
            "descriptors": self.descriptors - before.descriptors,
            "threads": self.threads - before.threads,
            "python threads": self.python_threads - before.python_threads,
        }
        return {kind: sorted(more.elements()) for kind, more in grown.items() if more}


class Leaks:
    """Compares the process with how it was when this was made, or at the last `settle`."""

    def __init__(self) -> None:
        self.before = Snapshot.take()

    def settle(self) -> None:
        """Take the present state for the clean one, after a warm-up say."""
        self.before = Snapshot.take()

    def check(self, within: float = 10.0) -> None:
        """AssertionError with what is left, if it has not gone within so many seconds."""
        growth: dict[str, list[str]] = {}

        def clean() -> bool:
            nonlocal growth
            growth = Snapshot.take().growth(self.before)
            return not growth

        # Only the last growth is worth reading, so it replaces the message of the wait.
        with contextlib.suppress(AssertionError):
            wait_until(clean, "nothing to be left", within)
        if growth:
            raise AssertionError(f"left behind: {growth}")


def other_tasks() -> set[asyncio.Task[object]]:
    """The tasks of the running loop beside the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def resident_bytes() -> int:
    """The memory that this process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _describe(entry: Path) -> str:
    try:
        link = os.readlink(entry)
    except OSError:  # the descriptor of the listing itself
        return "gone"
    if not link.startswith("socket:"):
        return link.split(":[")[0] if ":[" in link else link
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=os.dup(int(entry.name)))
        with sock:
            return f"{sock.family.name} {sock.type.name} socket"
    return "socket"


def _name(entry: Path) -> str:
    try:
        return (entry / "comm").read_text().strip()
    except OSError:
        return "gone"
