"""``asgi-relay serve``: starts a gateway, reloads it, ends it. Requests never come through here."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import __version__
from .._engine import Configuration, Gateway, GatewayError
from .files import Files
from .listing import bound_to, counted, listeners, show_routes
from .screen import BOLD, GREEN, RED, YELLOW, Screen
from .signals import DONE, ENDING, Signals

if TYPE_CHECKING:
    from .arguments import Options

LOOK = 0.5
"""Seconds between two looks at the files."""


def serve(options: Options) -> int:
    """Serve until a signal ends it; the exit code."""
    _prepare_descriptors()
    screen = Screen(sys.stderr)
    # What changes from here on is not in what is read now.
    files = Files([options.config] if options.config else [])
    try:
        configuration = read(options, files)
    except GatewayError as error:
        screen.refuse(error)
        return 1 if options.config else 2
    with Signals() as signals:
        try:
            gateway = Gateway(configuration)
        except GatewayError as error:
            screen.refuse(error)
            return 1
        screen.line(screen.paint(f"asgi-relay {__version__}", BOLD))
        service = Service(options, screen, signals, files, gateway, configuration)
        service.show()
        source = f", SIGHUP or a change of {options.config} reloads it" if options.config else ""
        screen.line(screen.paint("ready", GREEN) + f"; Ctrl-C or SIGTERM ends it{source}")
        return service.run()


def read(options: Options, files: Files) -> Configuration:
    """The configuration that they name; what it names is followed, with a mistake in it, too.

    A file that is new among them may change before the first look at it: it is read once more.
    """
    own = [options.config] if options.config else []
    try:
        configuration = options.read()
    except GatewayError as error:
        if not files.follow([*own, *error.files]):
            raise
        return options.read()
    return options.read() if files.follow([*own, *configuration.files]) else configuration


def _prepare_descriptors() -> None:
    """As many as the system allows, and none of the standard streams' numbers for a connection."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems have a lower bound that they do not tell.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def fixed(configuration: Configuration) -> tuple[object, ...]:
    """What a gateway that runs does not change."""
    return configuration.workers, configuration.admin


@dataclass
class Service:
    """A gateway that runs, and what it was started by."""

    options: Options
    screen: Screen
    signals: Signals
    files: Files
    gateway: Gateway
    configuration: Configuration

    def __post_init__(self) -> None:
        self.fixed = fixed(self.configuration)

    def show(self) -> None:
        """Print where it listens, where requests go, and what there is to know."""
        screen = self.screen
        for bound in bound_to(listeners(self.configuration), self.gateway.addresses):
            screen.line(f"  listening   {bound.url}   {bound.notes}".rstrip())
        if admin := self.gateway.admin_address:
            screen.line(f"  admin       http://{admin}   /healthz, /metrics")
        screen.line()
        self._show_rest()

    def _show_rest(self) -> None:
        show_routes(self.screen, self.configuration)
        self.screen.line()
        for notice in self.configuration.notices:
            self.screen.line(self.screen.paint("notice: ", YELLOW) + notice)

    def run(self) -> int:
        """Reload and end as signals and files want it; the exit code."""
        while True:
            number = self.signals.wait(LOOK)
            if number == signal.SIGUSR1:
                self._reopen_log()
            elif number is not None:
                # Who closes a terminal wants what runs in it to end.
                if number in ENDING or self.screen.has_hung_up():
                    return self._end(number)
                self.files.use()
                self._reload("SIGHUP")
            if self.files.have_changed():
                self._reload("a file has changed")

    def _reload(self, why: str) -> None:
        try:
            configuration = read(self.options, self.files)
            self.gateway.reload(configuration)
        except GatewayError as error:
            self.screen.say(f"not reloaded ({why}), nothing has changed:\n{error}", RED)
            return
        self.configuration = configuration
        routes = counted(len(configuration.routes), "route")
        addresses = ", ".join(self.gateway.addresses)
        self.screen.say(f"reloaded ({why}): {routes}, listening on {addresses}", GREEN)
        self._show_rest()
        if fixed(configuration) != self.fixed:
            self.screen.say("workers and admin are as they were until it is started again", YELLOW)

    def _reopen_log(self) -> None:
        try:
            opened = self.gateway.reopen_log()
        except GatewayError as error:
            self.screen.say(f"access log not opened again (SIGUSR1): {error}", RED)
            return
        told = "access log opened again" if opened else "there is no access log to open again"
        self.screen.say(f"{told} (SIGUSR1)")

    def _end(self, number: int) -> int:
        grace = self.configuration.shutdown_grace
        name = signal.Signals(number).name
        self.screen.say(
            f"{name}: requests in flight have {grace:g} s to finish; a second signal ends them"
        )
        thread = threading.Thread(target=self._drain, args=(grace,), daemon=True)
        thread.start()
        while True:
            again = self.signals.wait()
            if again == DONE:
                thread.join()
                self.screen.say("ended")
                return 0
            if again == signal.SIGUSR1:
                self._reopen_log()
            if again in ENDING:
                self.gateway.drain(0)
                thread.join()
                self.screen.say("ended at once", YELLOW)
                return 128 + again

    def _drain(self, grace: float) -> None:
        self.gateway.drain(grace)
        self.signals.ring()
