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

    No task waits for changes: a port's waiter does something instead of letting go on.
    """

    def __init__(
        self,
        callback: Callable[[TargetChange], object] | None,
        logger: logging.Logger | None,
    ) -> None:
        self._callback = callback
        self._logger = logger
        self._changes: _engine.Changes | None = None

    def on(self, port: Port, engine: _engine.Relay) -> None:
        """Tell of changes on this port's loop from now on, and no longer on another's."""
        if self._callback is not None or self._logger is not None:
            self._changes = engine.watch(port.engine)
            self.tell()

    def off(self) -> None:
        """Tell of nothing any more."""
        self._changes = None

    def tell(self) -> None:
        """Tell of what has changed, and wait for more."""
        changes = self._changes
        while changes is not None and not changes.park(_Listener(self)):
            for url, before, after in changes.take():
                fields = {"url": url, "before": before, "after": after}
                log_event(self._logger, "target_changed", fields)
                if self._callback is not None:
                    self._call(self._callback, TargetChange(url, before, after))

    def _call(self, callback: Callable[[TargetChange], object], change: TargetChange) -> None:
        try:
            callback(change)
        except Exception:
            _log.exception("on_target_change failed")


class _Listener:
    """What asyncio's and trio's ports take for a waiter; it keeps no relay alive."""

    def __init__(self, watch: Watch) -> None:
        self._watch = weakref.ref(watch)

    @property
    def event(self) -> _Listener:
        return self

    def done(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        self.set()

    def set(self) -> None:
        watch = self._watch()
        if watch is not None:
            watch.tell()
