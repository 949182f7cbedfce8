"""``asgi-relay check``: what a file says, and whether its targets can be reached."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._engine import GatewayError
from .listing import counted, listeners, show_routes
from .screen import GREEN, RED, YELLOW, Screen

if TYPE_CHECKING:
    from .arguments import Options

REACHED = "reached"


def check(options: Options, screen: Screen) -> int:
    """Print it to `screen`, mistakes and notices to standard error; 0 where all is well."""
    errors = Screen(sys.stderr)
    try:
        configuration = options.read()
        tried = [] if options.offline else configuration.try_targets()
    except GatewayError as error:
        errors.refuse(error)
        return 1
    for notice in configuration.notices:
        errors.line(errors.paint("notice: ", YELLOW) + notice)
    for listener in listeners(configuration):
        screen.line(f"  listening   {listener.url}   {listener.notes}".rstrip())
    screen.line()
    show_routes(screen, configuration, [[state or REACHED for state in row] for row in tried])
    screen.line()
    states = [state for row in tried for state in row]
    failed = sum(state is not None for state in states)
    routes = counted(len(configuration.routes), "route")
    if failed:
        of_all = f"{failed} of {counted(len(states), 'target')} cannot be reached"
        screen.line(screen.paint(f"{options.config} is valid, but {of_all}", RED))
        return 1
    reached = "" if options.offline else ", all targets can be reached"
    screen.line(screen.paint(f"{options.config} is valid: {routes}{reached}", GREEN))
    return 0
