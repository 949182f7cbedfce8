"""The figures of a run: every round is kept, medians are made on asking, and all goes to JSON."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.columns import Column
from benchmarks.scenarios import OTHERS

Figures = dict[str, float]

TOLERATED = 10.0
"""Percent of the machine that other programs may take; the kernel's own threads take some 5."""


@dataclass
class Outcome:
    """One contestant in one scenario."""

    rounds: list[Figures] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    failure: str | None = None
    """Why it could not be measured at all."""

    def add(self, figures: Figures, errors: dict[str, int]) -> None:
        self.rounds.append(figures)
        self.errors = dict(Counter(self.errors) + Counter(errors))

    def median(self, metric: str) -> float | None:
        values = [figures[metric] for figures in self.rounds if metric in figures]
        return median(values) if values else None

    def spread(self, metric: str) -> float | None:
        """The distance from the lowest round to the highest, in parts of the median."""
        values = [figures[metric] for figures in self.rounds if metric in figures]
        middle = median(values) if values else 0
        return (max(values) - min(values)) / middle if middle else None


@dataclass
class Results:
    date: str
    command: str
    settings: dict[str, int]
    machine: dict[str, str | int]
    versions: dict[str, str]
    scenarios: dict[str, dict[str, Outcome]] = field(default_factory=dict)

    def outcome(self, scenario: str, contestant: str) -> Outcome:
        return self.scenarios.setdefault(scenario, {}).setdefault(contestant, Outcome())

    def value(self, scenario: str, contestant: str, metric: str) -> float | None:
        """The median; None where it was not measured. Asking adds nothing to the results."""
        outcome = self.scenarios.get(scenario, {}).get(contestant)
        return outcome.median(metric) if outcome else None

    def cell(self, scenario: str, contestant: str, column: Column) -> float | None:
        value = self.value(scenario, contestant, column.metric)
        if value is None:
            return None
        if column.divide_by is not None:
            other = self.value(scenario, column.divide_by, column.metric)
            return value / other if other else None
        if column.subtract is not None:
            other = self.value(scenario, column.subtract, column.metric)
            return value - other if other is not None else None
        return value

    def disturbed(self) -> tuple[int, int]:
        """In how many rounds, out of how many, others took more than TOLERATED of the machine."""
        shares = [
            figures[OTHERS]
            for outcomes in self.scenarios.values()
            for outcome in outcomes.values()
            for figures in outcome.rounds
            if OTHERS in figures
        ]
        return sum(value > TOLERATED for value in shares), len(shares)

    def save(self, path: Path, targets: list[dict[str, object]]) -> None:
        document = asdict(self)
        for outcomes in document["scenarios"].values():
            for outcome in outcomes.values():
                names = sorted({name for figures in outcome["rounds"] for name in figures})
                outcome["median"] = {
                    name: median(figures[name] for figures in outcome["rounds"]) for name in names
                }
        document["targets"] = targets
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Results":
        document = json.loads(path.read_text())
        scenarios = {
            scenario: {
                contestant: Outcome(outcome["rounds"], outcome["errors"], outcome["failure"])
                for contestant, outcome in outcomes.items()
            }
            for scenario, outcomes in document["scenarios"].items()
        }
        return cls(
            date=document["date"],
            command=document["command"],
            settings=document["settings"],
            machine=document["machine"],
            versions=document["versions"],
            scenarios=scenarios,
        )
