"""What a run consists of: who takes part in what, for how long, and in which groups."""

from dataclasses import dataclass
from itertools import groupby

from benchmarks.contestants import Contestant
from benchmarks.scenarios import Scenario

WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Plan:
    contestants: tuple[Contestant, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int
    seconds: int
    warm_up_each: bool = True
    """Warm up before every scenario, and not just before the first of a group."""

    def loaded(self) -> list[tuple[Scenario, ...]]:
        """The scenarios with load, in groups that have their servers and upstream in common."""
        loaded = [scenario for scenario in self.scenarios if not scenario.is_held]
        groups = groupby(loaded, lambda scenario: (scenario.gateway, scenario.is_websocket))
        return [tuple(group) for _, group in groups]

    def held(self) -> list[Scenario]:
        """Those in which connections are opened and left idle."""
        return [scenario for scenario in self.scenarios if scenario.is_held]

    def able(self, scenarios: tuple[Scenario, ...]) -> tuple[Contestant, ...]:
        """Those that take part in any of these."""
        return tuple(one for one in self.contestants if any(map(one.takes_part, scenarios)))

    def turn_seconds(self, scenario: Scenario) -> float:
        """Half as long with messages and with one connection: no further apart for it."""
        if scenario.is_websocket:
            return self.seconds / 2
        # wrk takes whole seconds only.
        return max(1, self.seconds // 2) if scenario.connections == 1 else self.seconds

    def warm_ups(self, loaded: tuple[Scenario, ...]) -> int:
        """Before how many of these there is one. Gateways have nothing but their pools to fill."""
        return len(loaded) if self.warm_up_each and not loaded[0].gateway else 1

    def expected_seconds(self) -> float:
        """A guess that is good to some 20 %, for the lines of progress."""
        seconds = 6.0
        for loaded in self.loaded():
            for number, scenario in enumerate(loaded):
                turns = self.rounds * (self.turn_seconds(scenario) + 0.2)
                if number < self.warm_ups(loaded):
                    turns += WARM_UP_SECONDS + 0.2
                seconds += len(self.able((scenario,))) * turns
        for scenario in self.held():
            seconds += len(self.able((scenario,))) * 3
        return seconds
