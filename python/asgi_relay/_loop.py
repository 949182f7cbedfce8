"""The event loop's end of the bridge: one port per loop, shared by all relays on it.

The engine rings a port's descriptor; the loop then wakes everyone whose mailbox has something.
asyncio (with uvloop) and trio are both served; nothing else of this package knows which it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import sys
import weakref
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from . import _engine

if TYPE_CHECKING:
    import trio


class Waiter(Protocol):
    """Something to be awaited once."""

    def __await__(self) -> Any: ...


class Job(Protocol):
    """A task beside the pump."""

    def cancel(self) -> None:
        """Have it end soon."""

    async def wait(self) -> None:
        """Wait until it has ended."""


class Port(Protocol):
    """What the pump needs from its event loop."""

    engine: _engine.Port
    users: weakref.WeakSet[Any]

    @property
    def loop(self) -> object:
        """What tells one loop from another."""

    def is_current(self) -> bool:
        """Whether the caller runs on this port's loop."""

    def create_waiter(self) -> Any:
        """A waiter, to be parked with the engine and awaited."""

    def wake(self, waiter: Any) -> None:
        """Let whoever awaits the waiter go on."""

    def flush_soon(self) -> None:
        """Hand the exchanges that begin in this round of the loop to the engine together."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> Job:
        """Run something beside the pump; it must handle its own exceptions."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have it called on the loop's thread, from any; not at all once the loop has ended."""

    def close(self) -> None:
        """Stop listening to the engine; on its own loop."""


class AsyncioPort:
    """The port of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.engine = _engine.Port()
        self.key = 0
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._flushing = False
        self.create_waiter: Callable[[], asyncio.Future[None]] = loop.create_future
        loop.add_reader(self.engine.fileno(), self._wake_all, self.engine.answer)
        loop.add_reader(self.engine.lookout_fileno(), self._wake_all, self.engine.look)

    def _wake_all(self, rung: Callable[[], list[Any]]) -> None:
        for waiter in rung():
            if not waiter.done():
                waiter.set_result(None)

    def is_current(self) -> bool:
        return _get_running_loop() is self.loop

    def wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        _engine.flush()

    def spawn(self, work: Coroutine[Any, Any, None]) -> Job:
        return _AsyncioJob(self.loop.create_task(work))

    def call_soon(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        _forget(self)
        self.loop.remove_reader(self.engine.fileno())
        self.loop.remove_reader(self.engine.lookout_fileno())
        self._wake_all(self.engine.answer)


class _AsyncioJob:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()

    async def wait(self) -> None:
        # Unlike awaiting the task, this does not confuse its cancellation with our own.
        await asyncio.wait([self._task])


class TrioPort:
    """The port of a trio run."""

    def __init__(self) -> None:
        import trio  # noqa: PLC0415 - only there where trio is running already

        self._trio = trio
        self.loop = self
        self.token = trio.lowlevel.current_trio_token()
        self.engine = _engine.Port()
        self.key = 0
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._listening = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._listen)

    async def _listen(self) -> None:
        with self._listening:
            async with self._trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, self.engine.fileno(), self.engine.answer)
                nursery.start_soon(self._hear, self.engine.lookout_fileno(), self.engine.look)

    async def _hear(self, fileno: int, rung: Callable[[], list[Any]]) -> None:
        while True:
            await self._trio.lowlevel.wait_readable(fileno)
            self._wake_all(rung)

    def _wake_all(self, rung: Callable[[], list[Any]]) -> None:
        for waiter in rung():
            waiter.event.set()

    def is_current(self) -> bool:
        try:
            return self._trio.lowlevel.current_trio_token() is self.token
        except RuntimeError:
            return False

    def create_waiter(self) -> _TrioWaiter:
        return _TrioWaiter(self._trio.Event())

    def wake(self, waiter: _TrioWaiter) -> None:
        waiter.event.set()

    def flush_soon(self) -> None:
        _engine.flush()

    def spawn(self, work: Coroutine[Any, Any, None]) -> Job:
        return _TrioJob(self._trio, work)

    def call_soon(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self.token.run_sync_soon(callback)

    def close(self) -> None:
        _forget(self)
        self._listening.cancel()
        self._wake_all(self.engine.answer)


class _TrioWaiter:
    def __init__(self, event: trio.Event) -> None:
        self.event = event

    def __await__(self) -> Any:
        return self.event.wait().__await__()


class _TrioJob:
    """A system task, as the pump has no nursery of its own; cancelled through its scope."""

    def __init__(self, library: Any, work: Coroutine[Any, Any, None]) -> None:
        self._scope = library.CancelScope()
        self._ended = library.Event()
        library.lowlevel.spawn_system_task(self._run, work, context=contextvars.copy_context())

    async def _run(self, work: Awaitable[None]) -> None:
        try:
            with self._scope:
                await work
        finally:
            self._ended.set()

    def cancel(self) -> None:
        self._scope.cancel()

    async def wait(self) -> None:
        await self._ended.wait()


async def parked(
    ends: _engine.WebSocket | _engine.Call, park: Callable[[Any], int | None], port: Port
) -> None:
    """Wait, and leave nothing behind when the waiting is cancelled."""
    waiter = port.create_waiter()
    key = park(waiter)
    if key is not None:
        try:
            await waiter
        except BaseException:
            ends.unpark(key)
            raise


async def over(work: _engine.Round | _engine.Drain | None, port: Port) -> None:
    """Wait for something of the engine's to be over; `None` is."""
    if work is not None:
        waiter = port.create_waiter()
        if work.park(waiter):
            await waiter


# Kept alive by their loops, which they listen on, and by the relays that use them.
_ports: weakref.WeakValueDictionary[int, AsyncioPort | TrioPort] = weakref.WeakValueDictionary()


def current_port() -> Port:
    """The port of the running event loop."""
    loop = _get_running_loop()
    if loop is not None:
        key = id(loop)
    elif "trio" in sys.modules:
        key = id(sys.modules["trio"].lowlevel.current_trio_token())
    else:
        raise RuntimeError("a Relay needs a running asyncio or trio event loop")
    port = _ports.get(key)
    if port is None or not port.is_current():
        port = TrioPort() if loop is None else AsyncioPort(loop)
        port.key = key
        _ports[key] = port
    return port


def _forget(port: AsyncioPort | TrioPort) -> None:
    """A closed port must not be handed out again."""
    if _ports.get(port.key) is port:
        del _ports[port.key]


def _after_fork() -> None:
    """In a forked child: the parent's loops and its engine are not ours."""
    _engine.after_fork()
    _ports.clear()


# Where there is no fork, there is nothing to forget.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
