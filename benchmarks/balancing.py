"""The picture for docs/balancing.md: what each policy makes of one slow target.

`python -m benchmarks.balancing` runs the simulation of the balancer's bench and draws it. Its
time is simulated and its chance is seeded: the figures are the same on any machine.
"""

import csv
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.svg import bar, document, rule, text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "balancing.svg"
SIMULATION = ("cargo", "bench", "--bench", "balancer", "--", "--simulate")

WIDTH, MARGIN, GAP = 960.0, 32.0, 28.0
NAMES, PITCH, FIGURES = 176.0, 24.0, 54.0
# The plot: from the first load to the last, and 30 ms to 3 s; what takes longer leaves it.
LEFT, RIGHT, TOP, BOTTOM = 84.0, 796.0, 128.0, 398.0
FASTEST, SLOWEST = 30.0, 3000.0
LOAD_MARKS = (50, 100, 200, 400, 800, 1600, 3000)
TIME_MARKS = (30, 100, 300, 1000, 3000)
# The load of the bars: the last round figure at which round robin does not drown the slow target.
CALM = 300.0

LABELS = {
    "round_robin": "round_robin",
    "random": "random",
    "p2c": "p2c (default)",
    "least_connections": "least_connections",
    "least_latency": "least_latency",
    "lowest_average": "a herd: lowest average",
}
OURS, HERD = "p2c", "lowest_average"
# Pixels that keep two names apart.
NUDGED = {"p2c": -3.0, "least_connections": 3.0}
STYLE = """<style>
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke: #7f9bb8; }
.line.p2c { stroke: #d9480f; stroke-width: 3; }
.line.random { stroke-dasharray: 2 5; stroke-width: 3; }
.line.least_connections { stroke: #59636e; stroke-dasharray: 8 4; }
.line.least_latency { stroke: #1a7f5a; stroke-width: 3; }
.line.lowest_average { stroke: #b0bac4; }
@media (prefers-color-scheme: dark) {
  .line { stroke: #5d7c9b; }
  .line.p2c { stroke: #ff7a3d; }
  .line.least_connections { stroke: #9198a1; }
  .line.least_latency { stroke: #3fb98a; }
  .line.lowest_average { stroke: #4a5562; }
}
</style>"""


@dataclass(frozen=True)
class Outcome:
    """What one rule made of one load: requests/s, milliseconds, parts of 1."""

    rule: str
    load: float
    p50_ms: float
    p99_ms: float
    slow_share: float
    herd_share: float


@dataclass(frozen=True)
class Panel:
    title: str
    value: Callable[[Outcome], float]


PANELS = (
    Panel("99th percentile, ms", lambda one: one.p99_ms),
    Panel("To the slow target, %", lambda one: 100 * one.slow_share),
    Panel("Of 100 in a row to one, %", lambda one: 100 * one.herd_share),
)


def simulated() -> list[Outcome]:
    done = subprocess.run(SIMULATION, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [
        Outcome(row.pop("rule"), **{name: float(value) for name, value in row.items()})
        for row in csv.DictReader(done.stdout.splitlines())
    ]


def draw(outcomes: list[Outcome]) -> str:
    body = [
        STYLE,
        text(MARGIN, 48, "One of five targets is ten times slower", "title text"),
        text(
            MARGIN,
            71,
            "Simulated with the engine's own policies: random arrivals, each target serves 8 "
            "requests at once, in 10 ms on average, the slow one in 100 ms.",
            "small muted",
        ),
        text(MARGIN, 104, "99th percentile of the time to an answer", "heading text"),
        *_axes(),
        *(line for name in LABELS for line in _line(name, outcomes)),
        *_bars([one for one in outcomes if one.load == CALM], BOTTOM + 86),
    ]
    height = BOTTOM + 86 + 44 + PITCH * len(LABELS)
    note = "Lowest average: always the target that was fastest. No policy here, but what herds."
    body.append(text(MARGIN, height + 4, note, "small muted"))
    return document(WIDTH, height + 28, "Balancing with one slow target", _in_words(outcomes), body)


def _x(load: float) -> float:
    first, last = LOAD_MARKS[0], LOAD_MARKS[-1]
    return LEFT + (RIGHT - LEFT) * math.log(load / first) / math.log(last / first)


def _y(time: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * math.log(time / FASTEST) / math.log(SLOWEST / FASTEST)


def _axes() -> list[str]:
    lines = []
    for time in TIME_MARKS:
        label = f"{time} ms" if time < 1000 else f"{time // 1000} s"
        lines.append(rule(LEFT, RIGHT, _y(time)))
        lines.append(text(LEFT - 10, _y(time) + 4, label, "small number muted", anchor="end"))
    for load in LOAD_MARKS:
        label = f"{load:,}"
        lines.append(text(_x(load), BOTTOM + 20, label, "small number muted", anchor="middle"))
    lines.append(text(RIGHT + 26, BOTTOM + 20, "requests/s", "small muted"))
    return lines


def _line(name: str, outcomes: list[Outcome]) -> list[str]:
    """A rule's line, up to where it leaves the plot, with its name at its end."""
    points = [(_x(one.load), _y(one.p99_ms)) for one in outcomes if one.rule == name]
    inside = [point for point in points if point[1] >= TOP]
    end_x, end_y = inside[-1]
    if len(inside) < len(points):
        next_x, next_y = points[len(inside)]
        end_x += (next_x - end_x) * (end_y - TOP) / (end_y - next_y)
        end_y = TOP
        inside.append((end_x, end_y))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
    weight = "strong text" if name == OURS else "text"
    label = {
        "round_robin": text(end_x - 10, TOP + 16, "round_robin, random", "small text", "end"),
        "random": "",
        HERD: text(end_x + 10, TOP + 16, LABELS[HERD], "small muted"),
    }.get(name, text(RIGHT + 10, end_y + 4 + NUDGED.get(name, 0), LABELS[name], f"small {weight}"))
    return [f'<polyline class="line {name}" points="{path}"/>', label]


def _bars(outcomes: list[Outcome], y: float) -> list[str]:
    """Panels side by side at one load, whose rows have their names once, on the left."""
    lines = [text(MARGIN, y, f"At {CALM:.0f} requests/s", "heading text")]
    width = (WIDTH - 2 * MARGIN - NAMES - (len(PANELS) - 1) * GAP) / len(PANELS)
    for row, one in enumerate(outcomes):
        middle = y + 18 + PITCH * (row + 0.5)
        weight = "strong text" if one.rule == OURS else "text"
        kind = {OURS: "ours", HERD: "reference"}.get(one.rule, "peer")
        lines.append(text(MARGIN, middle + 4, LABELS[one.rule], f"label {weight}"))
        for column, panel in enumerate(PANELS):
            x = MARGIN + NAMES + column * (width + GAP)
            value, most = panel.value(one), max(panel.value(other) for other in outcomes)
            length = max(1.5, (width - FIGURES) * value / most)
            figure = f"{value:.1f}" if value < 10 else f"{value:.0f}"
            lines.append(bar(x, middle - PITCH * 0.35, length, PITCH * 0.7, kind))
            lines.append(text(x + length + 7, middle + 4, figure, f"label number {weight}"))
    for column, panel in enumerate(PANELS):
        x = MARGIN + NAMES + column * (width + GAP)
        lines.append(text(x, y, panel.title, "heading text"))
    return lines


def _in_words(outcomes: list[Outcome]) -> str:
    """For those who cannot see it."""
    parts = [
        f"{LABELS[one.rule]}: 99 of 100 requests within {one.p99_ms:.0f} ms, "
        f"{100 * one.slow_share:.1f} % to the slow target."
        for one in outcomes
        if one.load == CALM
    ]
    return f"At {CALM:.0f} requests per second. {' '.join(parts)}"


if __name__ == "__main__":
    PICTURE.write_text(draw(simulated()), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
