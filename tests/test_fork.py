"""Forks after the engine has started: the child makes its own, and the parent notices nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.client import fetch
from .support.exchange import Gate
from .support.processes import ROOT, run_process
from .support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from .support.exchange import Exchange

ENOUGH = 100
"""Seconds for a program whose every process waits for the others on a busy machine."""

# From Python 3.12 on each fork of a process with threads warns, and this is what is tested.
FORKING = [sys.executable, "-Wignore::DeprecationWarning", "-m", "tests.programs.forking"]


def played(scenario: str, upstream: Upstream) -> list[str]:
    """What a scenario printed; it has to end by itself, and without a word on stderr."""
    done = subprocess.run(
        [*FORKING, scenario, upstream.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENOUGH,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_parent_and_child_have_connections_of_their_own() -> None:
    with Upstream(scripts.ok) as upstream:
        said = played("child_uses", upstream)
        served = [
            [request.target for request in connection.requests]
            for connection in upstream.connections
        ]
    assert said == ["parent 200 ok", "child 200 ok 200 ok", "status 0", "parent 200 ok"]
    assert served == [[b"/parent-1", b"/parent-2"], [b"/child-1", b"/child-2"]]


def test_a_childs_child_works_too() -> None:
    with Upstream(scripts.ok) as upstream:
        said = played("grandchild_uses", upstream)
    expected = ["parent", "child", "grandchild", "status", "child", "status", "parent"]
    assert [line.split()[0] for line in said] == expected
    assert Counter(line.partition(" ")[2] for line in said) == {"200 ok": 5, "0": 2}


@pytest.mark.parametrize("scenario", ["child_ends_the_relay", "child_does_nothing"])
def test_a_child_that_ends_takes_nothing_from_its_parent(scenario: str) -> None:
    with Upstream(scripts.ok) as upstream:
        said = played(scenario, upstream)
        assert said == ["parent 200 ok", "status 0", "parent 200 ok"]
        # The connection that the parent had before is the one that it uses after.
        assert len(upstream.connections) == 1


def test_a_fork_in_the_middle_of_a_stream() -> None:
    gate = Gate()

    def go_on(exchange: Exchange) -> None:
        gate.throw_open()
        scripts.ok(exchange)

    routes = {b"/stream": scripts.drip(gate, [b"to ", b"the end"]), b"/go-on": go_on}
    others = dict.fromkeys([b"/parent-1", b"/parent-2", b"/child"], scripts.ok)
    with Upstream(scripts.by_path(routes | others)) as upstream:
        said = played("fork_on_a_running_loop", upstream)
    assert said == [
        "parent 200 ok",
        "child 200 ok",
        "status 0",
        "parent 200 ok",
        "stream 200 to the end",
    ]


def test_forks_while_another_thread_is_asking() -> None:
    with Upstream(scripts.ok) as upstream:
        said = played("fork_while_a_thread_asks", upstream)
    assert Counter(said) == {"child 200 ok": 8, "statuses {0}": 1, "parent 200 ok": 2}


def test_a_child_of_an_app_in_memory_cannot_answer_for_it() -> None:
    with Upstream(scripts.ok) as upstream:
        said = played("fork_in_an_app", upstream)
    refused = "child this call belongs to the parent process"
    assert said == [refused, "status 0", "parent 200 ok"]


def test_processes_of_multiprocessing() -> None:
    with Upstream(scripts.ok) as upstream:
        said = played("processes", upstream)
    assert said[0] == said[-1] == "parent 200 ok"
    assert sorted(said[1:-1]) == [*["child 200 ok"] * 3, "statuses [0, 0, 0]"]


def asked(port: int) -> int:
    """The worker that answers."""
    response = fetch(port)
    assert response.status == 200
    return int(response.body.split(b"x-worker: ")[1].split(b"\r\n")[0])


def both(port: int) -> set[int]:
    """The two workers that listen there: which of them takes a connection is chance, unless one of
    them is asleep.
    """
    first = asked(port)
    os.kill(first, signal.SIGSTOP)
    try:
        return {first, asked(port)}
    finally:
        os.kill(first, signal.SIGCONT)


def test_an_app_that_is_loaded_and_used_before_its_workers_are_forked() -> None:
    with (
        Upstream(scripts.reflect) as upstream,
        subprocess.Popen(
            [*FORKING, "preload", upstream.url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as parent,
    ):
        assert parent.stdout is not None
        lines = iter(parent.stdout.readline, "")
        port, workers = next(
            (int(line.split()[1]), {int(pid) for pid in line.split()[2:]})
            for line in lines
            if line.startswith("port ")
        )
        seen = both(port)
        out, errors = parent.communicate("stop\n", timeout=ENOUGH)
    assert seen == workers
    # uvicorn ends as the signal says, once it has shut down.
    assert "statuses [-15, -15]\n" in out
    assert (parent.returncode, errors) == (0, "")


def test_workers_of_uvicorn(tmp_path: Path) -> None:
    with Upstream(scripts.reflect) as upstream:
        arguments = ["-m", "uvicorn", "tests.programs.workers:app", "--workers", "2"]
        arguments += ["--port", "{port}", "--log-level", "warning"]
        environment = {"UPSTREAM": upstream.url}
        with run_process(arguments, tmp_path / "log", environment) as process:
            seen = both(process.port)
            status = process.stop(signal.SIGTERM)
            output = process.output
    assert len(seen) == 2
    assert status in (0, -signal.SIGTERM)
    assert output == ""
