"""The results as text: one aligned table for each scenario, then the targets."""

from benchmarks.columns import columns, headline
from benchmarks.contestants import BY_KEY, CONTESTANTS
from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.targets import TARGETS

NOT_MEASURED = "-"


def render(results: Results) -> str:
    parts = [_heading(results)]
    parts += [
        _scenario(results, scenario)
        for scenario in SCENARIOS
        if results.scenarios.get(scenario.key)
    ]
    parts += [_targets(results), _notes(results)]
    return "\n\n".join(part for part in parts if part)


def _heading(results: Results) -> str:
    machine, versions = results.machine, results.versions
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{results.date} · {machine['cores']} cores, {machine['cpu']} · Linux {machine['kernel']}\n"
        f"{packages}"
    )


def _scenario(results: Results, scenario: Scenario) -> str:
    shown = columns(scenario)
    metric, _ = headline(scenario)
    rows = [[scenario.title, *(column.title for column in shown)]]
    repeated = results.settings["rounds"] > 1 and not scenario.is_held
    if repeated:
        rows[0].append("spread")
    remarks = []
    for contestant in CONTESTANTS:
        outcome = results.scenarios[scenario.key].get(contestant.key)
        if outcome is None:
            continue
        cells = [
            _number(results.cell(scenario.key, contestant.key, column), column.digits)
            for column in shown
        ]
        if repeated:
            spread = outcome.spread(metric)
            cells.append(NOT_MEASURED if spread is None else f"{spread:.0%}")
        rows.append([contestant.title, *cells])
        if outcome.failure:
            remarks.append(f"  ! {contestant.title} failed: {outcome.failure}")
        if outcome.errors:
            kinds = ", ".join(f"{count} {kind}" for kind, count in outcome.errors.items())
            remarks.append(f"  ! {contestant.title} had errors: {kinds}")
    return "\n".join([*_align(rows), *remarks])


def _number(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return [lines[0], rule, *lines[1:]]


def _targets(results: Results) -> str:
    rows = [["Targets of asgi-relay", "to reach", "reached", ""]]
    for target in TARGETS:
        value = target.value(results)
        bound = target.bound_text
        if value is None:
            rows.append([target.text, bound, NOT_MEASURED, "not measured"])
        else:
            verdict = "met" if target.met(results) else "NOT MET"
            rows.append([target.text, bound, f"{value:.2f}{target.unit}", verdict])
    return "\n".join(_align(rows))


def _notes(results: Results) -> str:
    """What a reader must know before believing the figures."""
    notes = []
    disturbed, rounds = results.disturbed()
    if disturbed:
        notes.append(
            f"In {disturbed} of {rounds} measurements other programs took more than 10 % of the "
            "machine: run it again on a quiet one."
        )
    absent = [key for key in BY_KEY if not any(key in row for row in results.scenarios.values())]
    if absent:
        notes.append(f"Not in this run: {', '.join(absent)}.")
    return "\n".join(notes)
