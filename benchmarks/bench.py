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
from typing import Protocol

from benchmarks import preflight
from benchmarks.columns import headline
from benchmarks.contestants import Contestant, start
from benchmarks.gateways import Setting
from benchmarks.load import LoadError
from benchmarks.measure import measure_held, measure_load
from benchmarks.payloads import EVENTS_PATH
from benchmarks.plan import WARM_UP_SECONDS, Plan
from benchmarks.processes import Server, StartError
from benchmarks.results import Results
from benchmarks.scenarios import Scenario
from benchmarks.upstream import (
    check_upload_is_read,
    start_echo_server,
    start_event_source,
    start_upstream,
)


class Say(Protocol):
    def __call__(self, line: str, *, keep: bool = False) -> None: ...


class Bench:
    """A run in progress: what is measured goes into `results`, and what happens to `say`."""

    def __init__(self, plan: Plan, setting: Setting, results: Results, say: Say) -> None:
        self.plan = plan
        self.setting = setting
        self.results = results
        self.say = say
        self.shuffle = random.Random(1)

    def run(self) -> None:
        for loaded in self.plan.loaded():
            with ExitStack() as stack:
                self._load(loaded, self._start_upstream(loaded[0], stack), stack)
        for scenario in self.plan.held():
            with ExitStack() as stack:
                self._hold(scenario, stack)

    def _start_upstream(self, scenario: Scenario, stack: ExitStack) -> Server:
        if scenario.is_websocket:
            started = start_echo_server()
        elif scenario.path == EVENTS_PATH:
            started = start_event_source()
        else:
            started = start_upstream(self.setting.tools["nginx"], self.setting.directory)
        upstream = stack.enter_context(started)
        upstream.wait_ready()
        if not scenario.is_held and not scenario.is_websocket:
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
            one: stack.enter_context(start(one, target, self.setting))
            for one in self.plan.able(scenarios)
        }
        return {
            one: server for one, server in started.items() if self._ready(one, server, scenarios)
        }

    def _ready(self, one: Contestant, server: Server, scenarios: tuple[Scenario, ...]) -> bool:
        try:
            server.wait_ready()
        except StartError as error:
            for scenario in filter(one.takes_part, scenarios):
                self._failed(scenario, one, str(error))
            return False
        return True

    def _check(self, scenario: Scenario, servers: dict[Contestant, Server]) -> list[Contestant]:
        able = []
        entered = [one for one in servers if one.takes_part(scenario)]
        for one in entered:
            if problem := preflight.check(servers[one], scenario, self.setting.certificate):
                self._failed(scenario, one, problem)
            else:
                able.append(one)
        self.say(f"checked   {scenario.title}: {len(able)} of {len(entered)} answer rightly")
        return able

    def _take_turn(
        self, turn: int, scenario: Scenario, one: Contestant, server: Server, upstream: Server
    ) -> None:
        """Turn 0 warms up and is thrown away."""
        seconds = self.plan.turn_seconds(scenario) if turn else WARM_UP_SECONDS
        try:
            figures, errors = measure_load(self.setting.tools, scenario, server, upstream, seconds)
        except (LoadError, StartError, OSError) as error:
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
        source = self._start_upstream(scenario, stack)
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
