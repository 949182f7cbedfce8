"""The command line: what to measure, and where the results go.

Only a full run of the default length writes results/latest.json, the pictures and the README's
tables; every other one writes results/partial.json, so that a quick try never replaces the
published figures.
"""

import argparse
import fnmatch
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
from benchmarks.bench import Bench
from benchmarks.certificate import Certificate, make_certificate
from benchmarks.gateways import Setting
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.plan import Plan
from benchmarks.processes import ROOT, StartError
from benchmarks.publish import publish
from benchmarks.report import render
from benchmarks.results import Results
from benchmarks.targets import as_json
from benchmarks.tools import MissingToolError, Tools, find_tools

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS, SECONDS = 5, 2
FILES_NEEDED = 4_096
T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.replot is not None:
        results = Results.load(options.replot)
        print(render(results))
        if set(results.scenarios) == set(scenarios.BY_KEY):
            publish(results)
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
    parser.add_argument(
        "--only", metavar="NAMES", help=f"contestants, by comma, * for any: {names}"
    )
    names = ", ".join(scenarios.BY_KEY)
    parser.add_argument(
        "--scenario", metavar="NAMES", help=f"scenarios, by comma, * for any: {names}"
    )
    parser.add_argument("--rounds", type=_positive, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=_positive, help=f"of each turn, default {SECONDS}")
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second: a look, no result"
    )
    parser.add_argument(
        "--replot",
        type=Path,
        metavar="JSON",
        help="measure nothing: show a saved run, and publish it if it is full",
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
    if unknown := [name for name in wanted if not fnmatch.filter(known, name)]:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return tuple(
        value
        for name, value in known.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    )


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    _allow_many_files()
    tools = find_tools()
    measured, taking_part = _possible(options.scenario, options.only, tools)
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    seconds = options.seconds or (1 if options.quick else SECONDS)
    plan = Plan(taking_part, measured, rounds, seconds, warm_up_each=not options.quick)
    results = Results(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        command=_command(),
        settings={"rounds": rounds, "seconds": seconds},
        machine=describe_machine(),
        versions=describe_versions(tools),
    )
    say = _Progress(plan.expected_seconds())
    with tempfile.TemporaryDirectory() as directory:
        certificate = _certificate(plan, tools, Path(directory))
        Bench(plan, Setting(tools, Path(directory), certificate), results, say).run()
    print(f"\n{render(results)}")
    print(f"\nThe run took {time.monotonic() - started:.0f} s.")
    _keep(results, whole=_is_whole(plan))
    return 0


def _possible(
    wanted: tuple[scenarios.Scenario, ...],
    only: tuple[contestants.Contestant, ...],
    tools: Tools,
) -> tuple[tuple[scenarios.Scenario, ...], tuple[contestants.Contestant, ...]]:
    """What can be measured, and who can take part in it, with what is installed here."""
    measured = tuple(scenario for scenario in wanted if scenario.needs <= tools.keys())
    taking_part = tuple(one for one in only if not contestants.missing(one, tools))
    for scenario in wanted:
        if lacking := ", ".join(sorted(scenario.needs - tools.keys())):
            _leave_out(f"scenario {scenario.key}", lacking)
    for one in only:
        if one not in taking_part:
            _leave_out(f"contestant {one.key}", one.program or one.package or one.title)
    if not any(one.takes_part(scenario) for one in taking_part for scenario in measured):
        raise MissingToolError("nothing is left to measure")
    return measured, taking_part


def _leave_out(what: str, lacking: str) -> None:
    print(f"bench: {what} is left out, without {lacking}", file=sys.stderr)


def _certificate(plan: Plan, tools: Tools, directory: Path) -> Certificate | None:
    if not any(scenario.tls for scenario in plan.scenarios):
        return None
    return make_certificate(tools["openssl"], directory)


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
        publish(results)


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
