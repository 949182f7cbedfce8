"""The end of the interpreter with streams open: no hang, no traceback, no crash."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.client import Client, TruncatedError
from .support.processes import ROOT, run_process
from .support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

SCENARIOS = [
    "loop_ends",
    "trio_loop_ends",
    "program_exits_on_the_loop",
    "after_a_good_end",
    "relay_that_was_only_made",
    "relay_that_was_started_and_forgotten",
    "loop_in_a_daemon_thread",
    "busy_loop_in_a_daemon_thread",
    "signal_of_the_terminal",
    "exit_without_an_end",
]

SILENT_ENDS = {"program_exits_on_the_loop", "signal_of_the_terminal", "exit_without_an_end"}

STREAMS_AND_OTHERS = scripts.by_path({b"/stream": scripts.stall(), b"/": scripts.ok})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_interpreter_ends(scenario: str) -> None:
    with Upstream(STREAMS_AND_OTHERS) as upstream:
        # What is not closed would be said on stderr.
        done = subprocess.run(
            [
                sys.executable,
                "-Wdefault::ResourceWarning",
                "-m",
                "tests.programs.exiting",
                scenario,
                upstream.url,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == ("" if scenario in SILENT_ENDS else "the end\n")
        for connection in upstream.connections:
            connection.wait_closed()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_ends_with_its_streams(
    how: signal.Signals, tmp_path: Path
) -> None:
    arguments = ["-m", "uvicorn", "tests.programs.workers:app", "--port", "{port}"]
    arguments += ["--timeout-graceful-shutdown", "1", "--log-level", "critical"]
    with Upstream(STREAMS_AND_OTHERS) as upstream:
        environment = {"UPSTREAM": upstream.url}
        with (
            run_process(arguments, tmp_path / "log", environment) as process,
            Client(process.port) as client,
        ):
            client.start(target="/stream")
            head = client.read_head()
            before = time.monotonic()
            status = process.stop(how)
            # A second for uvicorn, none for the relay: its stream is cancelled by then, and would
            # be over after the read timeout's ten seconds.
            assert time.monotonic() - before < 7
            assert process.output == ""
            with pytest.raises(TruncatedError):
                list(client.pieces(head))
        upstream.connections[0].wait_closed()
    assert status in (0, -how, 130)
