"""Tells of changes of the targets' states, on the loop that a relay runs on."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable

from . import _engine
from ._loop import Port
from ._pump import log_event
from .balancing import TargetChange

_log = logging.getLogger("asgi_relay")


class Watch:
    """Calls a callback and writes log lines, for as long as the relay is there.

    No task waits for changes: a port's waiter has something done instead of letting go on.
    """

    def __init__(
        self,
        callback: Callable[[TargetChange], object] | None,
        logger: logging.Logger | None,
    ) -> None:
        self._callback = callback
        self._logger = logger
        self._changes: _engine.Changes | None = None
        self._number = 0

    def on(self, port: Port, engine: _engine.Relay) -> None:
        """Tell of changes on this port's loop from now on, and no longer on another's."""
        if self._callback is not None or self._logger is not None:
            self._number += 1
            self._changes = engine.watch(port.engine)
            self.tell(port, self._number)

    def off(self) -> None:
        """Tell of nothing any more, and let go of the port."""
        self._changes = None

    def tell(self, port: Port, number: int) -> None:
        """Tell of what has changed, and wait for more; unless it is another loop's turn."""
        changes = self._changes
        if changes is None or number != self._number:
            return
        while not changes.park(_Listener(self, port, number)):
            for url, before, after in changes.take():
                try:
                    self._tell_of(TargetChange(url, before, after))
                except Exception:
                    _log.exception("on_target_change failed")
                except BaseException:
                    port.call_soon(_Listener(self, port, number).go_on)
                    raise

    def _tell_of(self, change: TargetChange) -> None:
        fields = {"url": change.url, "before": change.before, "after": change.after}
        log_event(self._logger, "target_changed", fields)
        if self._callback is not None:
            self._callback(change)


class _Listener:
    """What asyncio's and trio's ports take for a waiter; it keeps no relay alive.

    What it does is not done at once: others wait to be woken in the same round.
    """

    def __init__(self, watch: Watch, port: Port, number: int) -> None:
        self._watch = weakref.ref(watch)
        self._port = port
        self._number = number

    @property
    def event(self) -> _Listener:
        return self

    def done(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        self.set()

    def set(self) -> None:
        self._port.call_soon(self.go_on)

    def go_on(self) -> None:
        watch = self._watch()
        if watch is not None:
            watch.tell(self._port, self._number)
