"""Signals, waited for in the main thread together with time and with other threads."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

ENDING = (signal.SIGINT, signal.SIGTERM)
ORDERS = (signal.SIGHUP, signal.SIGUSR1)
HANDLED = (*ENDING, *ORDERS)

DONE = 0
"""What `Signals.ring` sends; no signal has this number."""


@contextlib.contextmanager
def orders_wait() -> Iterator[None]:
    """Has what would end the process by default, and is not meant to, wait for `Signals`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Signals:
    """Collects signals instead of obeying them, while the block lasts.

    The interpreter writes their numbers into a socket, whichever thread the system interrupts.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, Any] = {}
        self._wakeup = -1
        self._mask: set[signal.Signals | int] = set()

    def __enter__(self) -> Signals:
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            self._before[number] = signal.signal(number, lambda *_: None)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float | None = None) -> int | None:
        """The next number that has come; None after so many seconds."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        return self._reader.recv(1)[0] if ready else None

    def ring(self) -> None:
        """Has `wait` return `DONE`; from any thread."""
        with contextlib.suppress(OSError):
            self._writer.send(bytes([DONE]))
