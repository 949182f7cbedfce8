"""Looking for what is left behind from inside an event loop, which needs its turns to tidy up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from pathlib import Path

import anyio
import sniffio
import trio

from .leaks import Snapshot

PATIENCE = 10.0


class Tidy:
    """How the process and the loop are now: `await tidy.check()` compares with it later."""

    def __init__(self) -> None:
        self._descriptors = Snapshot.take(collect=False).descriptors
        self._threads = _threads()
        self._tasks = _tasks()

    @classmethod
    async def look_around(cls) -> Tidy:
        # A loop makes some of its descriptors when it first waits.
        await _a_moment()
        return cls()

    async def check(self, within: float = PATIENCE) -> None:
        """AssertionError with what is there and was not before: threads, descriptors, tasks."""
        deadline = time.monotonic() + within
        while (left := self._left()) and time.monotonic() < deadline:
            gc.collect()
            await _a_moment()
        if left:
            raise AssertionError(f"left behind: {left}")

    def _left(self) -> dict[str, list[str]]:
        descriptors = Snapshot.take(collect=False).descriptors - self._descriptors
        threads = _threads()
        left = {
            "descriptors": sorted(descriptors.elements()),
            "threads": [threads[number] for number in threads.keys() - self._threads.keys()],
            "tasks": sorted(map(str, _tasks() - self._tasks)),
        }
        return {kind: found for kind, found in left.items() if found}


async def expect_engine_threads(count: int) -> None:
    """AssertionError where the engine does not have so many threads; a new one is named late."""
    deadline = time.monotonic() + PATIENCE
    while (found := _engine_threads()) != count and time.monotonic() < deadline:
        await _a_moment()
    assert found == count


def _engine_threads() -> int:
    return list(_threads().values()).count("asgi-relay")


def _threads() -> dict[int, str]:
    """The kernel's numbers and names of them, without the workers that trio and anyio keep."""
    workers = {
        thread.native_id
        for thread in threading.enumerate()
        if thread.name.startswith(("Trio thread", "AnyIO worker thread"))
    }
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found[int(task.name)] = (task / "comm").read_text().strip()
    return {number: name for number, name in found.items() if number not in workers}


async def _a_moment() -> None:
    # Nothing tells when a descriptor or a thread has gone, so whoever waits looks again and again.
    await anyio.sleep(0.005)


def _tasks() -> set[object]:
    """The tasks of the running loop; trio's system tasks included."""
    if sniffio.current_async_library() == "asyncio":
        return set(asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    found: set[object] = set()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        found.add(task)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found
