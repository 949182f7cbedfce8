"""The order of a run: start everything, check everyone, warm up, then take turns.

Rounds are interleaved: within a round each contestant has its turn, in an order shuffled anew, so
that a machine that slows down slows them all, and no one always runs behind the same neighbour.

Nothing is pinned to a core. On two cores, load and upstream on one and the proxy on both was
tried: the rounds lay no closer together, and it shifts time between contestants that use one
thread and those that use two. So the scheduler decides, as it does where the proxies are used.
"""

import asyncio
import random
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import preflight
from benchmarks.contestants import Contestant, start
from benchmarks.load import LoadError
from benchmarks.measure import measure_held, measure_load
from benchmarks.processes import Server, StartError
from benchmarks.results import Results
from benchmarks.scenarios import Scenario, headline
from benchmarks.tools import Tools
from benchmarks.upstream import (
    check_upload_is_read,
    start_echo_server,
    start_event_source,
    start_upstream,
)

WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Plan:
    contestants: tuple[Contestant, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int
    seconds: int
    warm_up_each: bool = True
    """Warm up before every scenario, and not just before the first."""

    def loaded(self, *, websocket: bool) -> tuple[Scenario, ...]:
        """The scenarios with load, of the one kind; the others hold connections open."""
        return tuple(
            scenario
            for scenario in self.scenarios
            if not scenario.is_held and scenario.is_websocket == websocket
        )

    def able(self, *, websocket: bool) -> tuple[Contestant, ...]:
        return tuple(one for one in self.contestants if (one.websocket if websocket else one.http))

    def turn_seconds(self, scenario: Scenario) -> float:
        """Half as long with messages, whose rounds lie no further apart for it."""
        return self.seconds / 2 if scenario.is_websocket else self.seconds

    def warm_ups(self, loaded: tuple[Scenario, ...]) -> int:
        return len(loaded) if self.warm_up_each else min(1, len(loaded))

    def expected_seconds(self) -> float:
        """A guess that is good to some 20 %, for the lines of progress."""
        seconds = 6.0
        for websocket in (False, True):
            loaded = self.loaded(websocket=websocket)
            turns = self.rounds * sum(self.turn_seconds(one) + 0.2 for one in loaded)
            turns += self.warm_ups(loaded) * (WARM_UP_SECONDS + 0.2)
            seconds += len(self.able(websocket=websocket)) * turns
        for scenario in self.scenarios:
            if scenario.is_held:
                seconds += len(self.able(websocket=scenario.is_websocket)) * 3
        return seconds


class Say(Protocol):
    def __call__(self, line: str, *, keep: bool = False) -> None: ...


class Bench:
    """A run in progress: what is measured goes into `results`, and what happens to `say`."""

    def __init__(
        self, plan: Plan, tools: Tools, directory: Path, results: Results, say: Say
    ) -> None:
        self.plan = plan
        self.tools = tools
        self.directory = directory
        self.results = results
        self.say = say
        self.shuffle = random.Random(1)

    def run(self) -> None:
        for websocket in (False, True):
            if loaded := self.plan.loaded(websocket=websocket):
                with ExitStack() as stack:
                    self._load(loaded, self._start_upstream(stack, websocket=websocket), stack)
        for scenario in self.plan.scenarios:
            if scenario.is_held:
                with ExitStack() as stack:
                    self._hold(scenario, stack)

    def _start_upstream(self, stack: ExitStack, *, websocket: bool) -> Server:
        if websocket:
            upstream = stack.enter_context(start_echo_server())
            upstream.wait_ready()
        else:
            upstream = stack.enter_context(start_upstream(self.tools.nginx, self.directory))
            upstream.wait_ready()
            check_upload_is_read(upstream)
        return upstream

    def _load(self, loaded: tuple[Scenario, ...], upstream: Server, stack: ExitStack) -> None:
        servers = self._start_all(upstream.url, loaded, stack)
        able = {scenario: self._check(scenario, servers) for scenario in loaded}
        for turn in range(self.plan.rounds + 1):
            for number, (scenario, contestants) in enumerate(able.items()):
                if turn or number < self.plan.warm_ups(loaded):
                    for one in self.shuffle.sample(contestants, len(contestants)):
                        self._take_turn(turn, scenario, one, servers[one], upstream)

    def _start_all(
        self, target: str, scenarios: tuple[Scenario, ...], stack: ExitStack
    ) -> dict[Contestant, Server]:
        started = {
            one: stack.enter_context(start(one, target, self.tools.nginx, self.directory))
            for one in self.plan.able(websocket=scenarios[0].is_websocket)
        }
        return {
            one: server for one, server in started.items() if self._ready(one, server, scenarios)
        }

    def _ready(self, one: Contestant, server: Server, scenarios: tuple[Scenario, ...]) -> bool:
        try:
            server.wait_ready()
        except StartError as error:
            for scenario in scenarios:
                self._failed(scenario, one, str(error))
            return False
        return True

    def _check(self, scenario: Scenario, servers: dict[Contestant, Server]) -> list[Contestant]:
        able = []
        for one, server in servers.items():
            if problem := preflight.check(server.port, scenario):
                self._failed(scenario, one, problem)
            else:
                able.append(one)
        self.say(f"checked   {scenario.title}: {len(able)} of {len(servers)} answer rightly")
        return able

    def _take_turn(
        self, turn: int, scenario: Scenario, one: Contestant, server: Server, upstream: Server
    ) -> None:
        """Turn 0 warms up and is thrown away."""
        seconds = self.plan.turn_seconds(scenario) if turn else WARM_UP_SECONDS
        try:
            figures, errors = measure_load(self.tools.wrk, scenario, server, upstream, seconds)
        except (LoadError, OSError) as error:
            self._failed(scenario, one, str(error))
            return
        label = f"round {turn}" if turn else "warm-up"
        metric, unit = headline(scenario)
        figure = f"{figures[metric]:,.0f} {unit}" + (f"  ERRORS {errors}" if errors else "")
        self.say(f"{label:9} {scenario.title}: {one.title}: {figure}", keep=bool(errors))
        if turn:
            self.results.outcome(scenario.key, one.key).add(figures, errors)

    def _hold(self, scenario: Scenario, stack: ExitStack) -> None:
        """Fresh processes: one that has served a million requests holds memory to reuse.

        One round is enough: what each takes comes out the same each time, within 1 %.
        """
        websocket = scenario.is_websocket
        source = stack.enter_context(start_echo_server() if websocket else start_event_source())
        source.wait_ready()
        for one, server in self._start_all(source.url, (scenario,), stack).items():
            try:
                figures = asyncio.run(measure_held(scenario, server))
            except (LoadError, OSError) as error:
                self._failed(scenario, one, str(error))
                continue
            finally:
                server.end()
            metric, unit = headline(scenario)
            self.say(f"held      {scenario.title}: {one.title}: {figures[metric]:.1f} {unit}")
            self.results.outcome(scenario.key, one.key).add(figures, {})

    def _failed(self, scenario: Scenario, one: Contestant, problem: str) -> None:
        self.results.outcome(scenario.key, one.key).failure = problem
        self.say(f"FAILED    {scenario.title}: {one.title}: {problem}", keep=True)
