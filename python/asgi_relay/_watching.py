"""Tells of changes of the targets' states, on the loop that a relay runs on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import _engine
from ._loop import Job, Port
from ._pump import log_event
from .balancing import TargetChange

_log = logging.getLogger("asgi_relay")


class Watch:
    """Calls a callback and writes log lines, from the first `on` to the `stop`."""

    def __init__(
        self,
        callback: Callable[[TargetChange], object] | None,
        logger: logging.Logger | None,
    ) -> None:
        self._callback = callback
        self._logger = logger
        self._running: tuple[Port, Job] | None = None

    def on(self, port: Port, engine: _engine.Relay) -> None:
        """Tell of changes on this port's loop from now on, and no longer on another's."""
        if self._callback is None and self._logger is None:
            return
        if self._running is None or self._running[0] is not port:
            self._running = port, port.spawn(self._tell(engine.watch(port.engine), port))

    async def stop(self) -> None:
        """End it; on another loop there is nothing to wait for."""
        running, self._running = self._running, None
        if running is not None and running[0].is_current():
            running[1].cancel()
            await running[1].wait()

    async def _tell(self, changes: _engine.Changes, port: Port) -> None:
        while True:
            waiter = port.create_waiter()
            if changes.park(waiter):
                await waiter
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
