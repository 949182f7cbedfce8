"""Runs a server, or any Python program, as a process of its own on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .ports import port_of, reserve
from .servers import accepts
from .waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """A process that accepts on `port`; `output` is what it has written to stdout and stderr."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send a signal and wait for the end; the exit status. A process that stays is an error."""
        self.popen.send_signal(how)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not stop within {timeout} s:\n{self.output}") from None


@contextlib.contextmanager
def run_process(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run `python <arguments>`, in which `{port}` stands for a free port, until the block is left.

    It starts in the project's directory, so `-m uvicorn tests.apps.x:app` finds the tests.
    """
    with contextlib.ExitStack() as stack:
        port = port_of(stack.enter_context(reserve()))
        output = stack.enter_context(log.open("wb"))
        popen = stack.enter_context(
            subprocess.Popen(
                [sys.executable, *(one.replace("{port}", str(port)) for one in arguments)],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        process = Process(popen, port, log)
        try:
            wait_until(
                lambda: accepts(port) or popen.poll() is not None, "the process to accept", 30
            )
            if popen.poll() is not None:
                raise AssertionError(f"it ended with {popen.returncode}:\n{process.output}")
            yield process
        finally:
            # The group: a server's workers must not outlive a test that failed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
