"""The command line: what to measure, and where the results go.

Only a full run of the default length writes results/latest.json and the README's picture; every
other one writes results/partial.json, so that a quick try never replaces the published figures.
"""

import argparse
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from benchmarks import contestants, scenarios
from benchmarks.bench import Bench, Plan
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.plot import draw
from benchmarks.processes import ROOT, StartError
from benchmarks.report import render
from benchmarks.results import Results
from benchmarks.targets import as_json
from benchmarks.tools import MissingToolError, find_tools

RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "benchmark.svg"
ROUNDS, SECONDS = 3, 2
FILES_NEEDED = 4_096
T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.replot is not None:
        results = Results.load(options.replot)
        print(render(results))
        _write_picture(results)
        return 0
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return _run(options)
    except (MissingToolError, StartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped; every process that it started has been ended", file=sys.stderr)
        return 130


def _as_interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(contestants.BY_KEY)
    parser.add_argument("--only", metavar="NAMES", help=f"contestants, by comma: {names}")
    names = ", ".join(scenarios.BY_KEY)
    parser.add_argument("--scenario", metavar="NAMES", help=f"scenarios, by comma: {names}")
    parser.add_argument("--rounds", type=_positive, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=_positive, help=f"of each turn, default {SECONDS}")
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second: a look, no result"
    )
    parser.add_argument(
        "--replot", type=Path, metavar="JSON", help="measure nothing: show and draw a saved run"
    )
    options = parser.parse_args(arguments)
    try:
        options.only = _chosen(options.only, contestants.BY_KEY)
        options.scenario = _chosen(options.scenario, scenarios.BY_KEY)
    except ValueError as error:
        parser.error(str(error))
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def _chosen(names: str | None, known: dict[str, T]) -> tuple[T, ...]:
    if names is None:
        return tuple(known.values())
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return tuple(value for name, value in known.items() if name in wanted)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    _allow_many_files()
    tools = find_tools()
    taking_part = tuple(one for one in options.only if not contestants.missing(one))
    for one in options.only:
        if one not in taking_part:
            print(f"bench: {one.title} is not installed and is left out", file=sys.stderr)
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    seconds = options.seconds or (1 if options.quick else SECONDS)
    plan = Plan(taking_part, options.scenario, rounds, seconds, warm_up_each=not options.quick)
    results = Results(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        command=_command(),
        settings={"rounds": rounds, "seconds": seconds},
        machine=describe_machine(),
        versions=describe_versions(tools),
    )
    say = _Progress(plan.expected_seconds())
    with tempfile.TemporaryDirectory() as directory:
        Bench(plan, tools, Path(directory), results, say).run()
    print(f"\n{render(results)}")
    print(f"\nThe run took {time.monotonic() - started:.0f} s.")
    _keep(results, whole=_is_whole(plan))
    return 0


def _command() -> str:
    given = sys.argv[1:]
    return shlex.join(["python", "-m", "benchmarks", *given]) if given else "make bench"


def _is_whole(plan: Plan) -> bool:
    return (
        plan.contestants == contestants.CONTESTANTS
        and plan.scenarios == scenarios.SCENARIOS
        and plan.rounds >= ROUNDS
        and plan.seconds >= SECONDS
    )


def _keep(results: Results, *, whole: bool) -> None:
    path = RESULTS / ("latest.json" if whole else "partial.json")
    results.save(path, as_json(results))
    print(f"Written: {path.relative_to(ROOT)}")
    if whole:
        _write_picture(results)


def _write_picture(results: Results) -> None:
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(results))
    print(f"Written: {PICTURE.relative_to(ROOT)}")


def _allow_many_files() -> None:
    """1,000 streams need 2,000 sockets in a proxy; what is set here its process inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_NEEDED if hard == resource.RLIM_INFINITY else min(FILES_NEEDED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Progress:
    """Says what is being measured: on a terminal in one line, else in a line for each turn."""

    def __init__(self, expected: float) -> None:
        self._expected = expected
        self._began = time.monotonic()
        self._one_line = sys.stderr.isatty()

    def __call__(self, line: str, *, keep: bool = False) -> None:
        passed = time.monotonic() - self._began
        line = f"[{passed:4.0f} of about {self._expected:.0f} s] {line}"
        if self._one_line:
            line = line if keep else line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="\n" if keep else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
