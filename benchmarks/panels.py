"""What the pictures are made of: bars from zero on linear scales, every one with its figure."""

from dataclasses import dataclass

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.results import Results
from benchmarks.svg import bar, text

WIDTH = 960.0
MARGIN = 32.0
GAP = 28.0
OURS = ("relay", "fastapi", "gateway")
LABELS = {
    "relay": "asgi-relay",
    "fastapi": "asgi-relay in FastAPI",
    "gateway": "asgi-relay serve",
    "lilya": "Lilya's Relay",
    "aiohttp": "aiohttp by hand",
    "pyreqwest": "pyreqwest by hand",
    "nginx-headers": "nginx with the gateway's headers",
    "haproxy": "HAProxy",
    "haproxy-headers": "HAProxy with the gateway's headers",
    "floor": "floor: no upstream",
    "fastapi-floor": "floor: FastAPI alone",
}
MORE, LESS = "more is better", "less is better"


@dataclass(frozen=True)
class Panel:
    title: str
    hint: str
    scenario: str
    metric: str
    digits: int = 0


@dataclass(frozen=True)
class Size:
    """How a panel is set: the width of its names, the distance of its rows, room for figures."""

    names: float
    pitch: float
    figures: float
    font: str


@dataclass(frozen=True)
class Rows:
    """Ours and the peers, the fastest first; then, a little apart, those there for reference."""

    peers: list[Contestant]
    references: list[Contestant]

    @classmethod
    def of(cls, results: Results, panel: Panel, references: tuple[str, ...] = ()) -> "Rows":
        """Those that took part in the panel's scenario, in the order of its figures."""
        outcomes = results.scenarios.get(panel.scenario, {})
        present = [one for one in CONTESTANTS if one.key in outcomes]
        present.sort(key=lambda one: -(results.value(panel.scenario, one.key, panel.metric) or 0))
        return cls(
            [one for one in present if one.key not in references],
            [one for one in present if one.key in references],
        )

    def within(self, results: Results, scenario: str) -> "Rows":
        """The same without those that took no part in another scenario."""
        outcomes = results.scenarios.get(scenario, {})
        return Rows(
            [one for one in self.peers if one.key in outcomes],
            [one for one in self.references if one.key in outcomes],
        )

    def placed(self, pitch: float) -> list[tuple[Contestant, float]]:
        """Each with the middle of its row, counted from the panel's heading."""
        apart = 18 + pitch * (len(self.peers) + 0.85)
        return [
            *((one, 18 + pitch * (n + 0.5)) for n, one in enumerate(self.peers)),
            *((one, apart + pitch * n) for n, one in enumerate(self.references)),
        ]

    def height(self, pitch: float) -> float:
        apart = 0.35 if self.references else 0
        return 18 + pitch * (len(self.peers) + len(self.references) + apart)


def shared_rows(
    results: Results, panels: tuple[Panel, ...], rows: Rows, y: float, size: Size
) -> list[str]:
    """Panels side by side, whose rows have their names once, on the left."""
    width = (WIDTH - 2 * MARGIN - size.names - (len(panels) - 1) * GAP) / len(panels)
    lines = _names(rows, MARGIN, y, size)
    for index, panel in enumerate(panels):
        x = MARGIN + size.names + index * (width + GAP)
        lines += _heading(panel, x, y, width)
        lines += _bars(results, panel, rows, (x, y, width), size)
    return lines


def own_rows(
    results: Results, panels: tuple[Panel, ...], rows: Rows, y: float, size: Size
) -> list[str]:
    """Panels side by side, each with the names of its rows."""
    width = (WIDTH - 2 * MARGIN - (len(panels) - 1) * GAP) / len(panels)
    lines = []
    for index, panel in enumerate(panels):
        x = MARGIN + index * (width + GAP)
        lines += _heading(panel, x, y, width)
        lines += _names(rows, x, y, size)
        inner = (x + size.names, y, width - size.names)
        lines += _bars(results, panel, rows, inner, size)
    return lines


def _heading(panel: Panel, x: float, y: float, width: float) -> list[str]:
    return [
        text(x, y, panel.title, "heading text"),
        text(x + width, y, panel.hint, "small muted", anchor="end"),
    ]


def _names(rows: Rows, x: float, y: float, size: Size) -> list[str]:
    lines = []
    for one, middle in rows.placed(size.pitch):
        weight = "muted" if one in rows.references else _weight(one)
        lines.append(text(x, y + middle + 4, label(one), f"{size.font} {weight}"))
    return lines


def _bars(
    results: Results, panel: Panel, rows: Rows, box: tuple[float, float, float], size: Size
) -> list[str]:
    x, y, width = box
    placed = rows.placed(size.pitch)
    values = {one: results.value(panel.scenario, one.key, panel.metric) for one, _ in placed}
    largest = max((value for value in values.values() if value), default=1.0)
    lines = []
    for one, middle in placed:
        value = values[one]
        if value is None:
            lines.append(text(x, y + middle + 4, "failed", f"{size.font} muted"))
            continue
        length = max(1.5, (width - size.figures) * value / largest)
        top = y + middle - size.pitch * 0.35
        kind = "reference" if one in rows.references else _kind(one)
        lines.append(bar(x, top, length, size.pitch * 0.7, kind))
        figure = f"{value:,.{panel.digits}f}"
        style = f"{size.font} number {_weight(one)}"
        lines.append(text(x + length + 7, y + middle + 4, figure, style))
    return lines


def label(one: Contestant) -> str:
    return LABELS.get(one.key, one.key)


def _weight(one: Contestant) -> str:
    return "strong text" if one.key in OURS else "text"


def _kind(one: Contestant) -> str:
    return "ours" if one.key in OURS else "peer"


def in_words(results: Results, panels: tuple[Panel, ...], references: tuple[str, ...] = ()) -> str:
    """The figures for those who cannot see the picture."""
    parts = []
    for panel in panels:
        figures = []
        for one, _ in Rows.of(results, panel, references).placed(1):
            value = results.value(panel.scenario, one.key, panel.metric)
            figure = "failed" if value is None else f"{value:,.{panel.digits}f}"
            figures.append(f"{label(one)} {figure}")
        if figures:
            parts.append(f"{panel.title}: {', '.join(figures)}.")
    return " ".join(parts)


def how_measured(results: Results) -> str:
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    each = f"Medians of {rounds} interleaved rounds" if rounds > 1 else "A single round"
    return f"{each} of {seconds} s; CPU is the whole proxy process's, user and system."


def how_made(results: Results, remark: str, used: tuple[str, ...]) -> list[str]:
    """The lines at the foot: the machine, a remark on how the servers ran, the versions."""
    machine, versions = results.machine, results.versions
    named = ", ".join(f"{name} {versions[name]}" for name in used if name in versions)
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}) for load, proxy and upstream together, "
        f"Linux {machine['kernel']}, Python {versions['python']}.",
        remark,
        f"{named}.",
        f"Measured on {results.date} with: {results.command}",
    ]
    disturbed, measured = results.disturbed()
    if disturbed > measured / 10:
        lines.append(
            f"The machine was busy: in {disturbed} of {measured} measurements other programs took "
            "more than 10 % of it."
        )
    return lines
