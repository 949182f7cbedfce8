"""The command ``asgi-relay``: a gateway of its own, without Python on the way of a request.

What is right and wrong in a configuration, and what a gateway does, is the engine's; here is what
a person types and reads. Exit codes: 0 after an orderly end, 1 where a configuration, an address,
a target or standard output is to blame, 2 for a command line that makes no sense, 128 + n after
the second of two signals, or where Ctrl-C comes before there is anything to end in order.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from .. import _engine
from .arguments import parse
from .check import check
from .screen import Screen
from .serve import serve
from .signals import orders_wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .arguments import Options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, the process's own by default; its exit code."""
    try:
        return _run(parse(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(options: Options) -> int:
    if options.command == "serve":
        with orders_wait():
            return serve(options)
    screen = Screen(sys.stdout)
    code = 0
    if options.command == "check":
        code = check(options, screen)
    else:
        screen.line(_engine.gateway_schema())
    # A reader that has left has read enough.
    if (failure := screen.finish()) and not isinstance(failure, BrokenPipeError):
        reason = failure.strerror or str(failure)
        Screen(sys.stderr).refuse(f"cannot write to standard output: {reason}")
        return 1
    return code
