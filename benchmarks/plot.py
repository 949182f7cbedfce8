"""The picture for the README: bars from zero on linear scales, every one with its figure.

Small GETs get the large panels; uploads, downloads and idle streams the small ones below, and
WebSockets those at the bottom.
"""

from dataclasses import dataclass

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.results import Results
from benchmarks.scenarios import (
    CPU,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MESSAGES,
    REQUESTS,
    SOCKET,
    STREAM,
)
from benchmarks.svg import bar, document, rule, text

WIDTH = 960.0
MARGIN = 32.0
GAP = 28.0
REFERENCES = ("floor", "nginx")
LABELS = {
    "relay": "asgi-relay",
    "lilya": "Lilya's Relay",
    "aiohttp": "aiohttp by hand",
    "pyreqwest": "pyreqwest by hand",
    "floor": "floor: no upstream",
}
MORE, LESS = "more is better", "less is better"


@dataclass(frozen=True)
class Panel:
    title: str
    hint: str
    scenario: str
    metric: str
    digits: int = 0


LARGE = (
    Panel("Requests per second", MORE, "get-32", REQUESTS),
    Panel("CPU per request, µs", LESS, "get-32", CPU),
)
SMALL = (
    Panel("16 kB POST, requests/s", MORE, "post-32", REQUESTS),
    Panel("10 MB download, MB/s", MORE, "download", MEGABYTES),
    Panel("Idle event stream, KiB", LESS, "sse", STREAM, 1),
)
WEBSOCKET = (
    Panel("Messages per second", "", "ws-echo", MESSAGES),
    Panel("CPU per message, µs", "", "ws-echo", CPU_PER_MESSAGE, 1),
    Panel("1 MB messages, MB/s", "", "ws-bulk", MEGABYTES),
    Panel("Idle WebSocket, KiB", "", "ws-idle", SOCKET, 1),
)


@dataclass(frozen=True)
class Size:
    """How a panel is set: the width of its names, the distance of its rows, room for figures."""

    names: float
    pitch: float
    figures: float
    font: str


LARGE_SIZE = Size(names=176, pitch=27, figures=62, font="label")
SMALL_SIZE = Size(names=140, pitch=20, figures=48, font="small")
WEBSOCKET_SIZE = Size(names=140, pitch=20, figures=50, font="small")


@dataclass(frozen=True)
class Rows:
    """Ours and the peers, the fastest first; then, a little apart, those there for reference."""

    peers: list[Contestant]
    references: list[Contestant]

    @classmethod
    def of(cls, results: Results, panel: Panel) -> "Rows":
        """Those that took part in the panel's scenario, in the order of its figures."""
        outcomes = results.scenarios.get(panel.scenario, {})
        present = [one for one in CONTESTANTS if one.key in outcomes]
        present.sort(key=lambda one: -(results.value(panel.scenario, one.key, panel.metric) or 0))
        return cls(
            [one for one in present if one.key not in REFERENCES],
            [one for one in present if one.key in REFERENCES],
        )

    def placed(self, pitch: float) -> list[tuple[Contestant, float]]:
        """Each with the middle of its row, counted from the panel's heading."""
        apart = 18 + pitch * (len(self.peers) + 0.85)
        return [
            *((one, 18 + pitch * (n + 0.5)) for n, one in enumerate(self.peers)),
            *((one, apart + pitch * n) for n, one in enumerate(self.references)),
        ]

    def height(self, pitch: float) -> float:
        return 18 + pitch * (len(self.peers) + len(self.references) + 0.35)


def draw(results: Results) -> str:
    rows = Rows.of(results, LARGE[0])
    body = [text(MARGIN, 48, "Small GETs through a proxy, 32 connections", "title text")]
    body.append(text(MARGIN, 71, _what_was_run(results), "small muted"))
    y = 108.0
    body += _shared_rows(results, LARGE, rows, y, LARGE_SIZE)
    y += rows.height(LARGE_SIZE.pitch) + 20
    body.append(rule(MARGIN, WIDTH - MARGIN, y))
    y += 32
    width = (WIDTH - 2 * MARGIN - 2 * GAP) / 3
    for index, panel in enumerate(SMALL):
        x = MARGIN + index * (width + GAP)
        body += _heading(panel, x, y, width)
        body += _names(rows, x, y, SMALL_SIZE)
        inner = (x + SMALL_SIZE.names, y, width - SMALL_SIZE.names)
        body += _bars(results, panel, rows, inner, SMALL_SIZE)
    y += rows.height(SMALL_SIZE.pitch) + 20
    body.append(rule(MARGIN, WIDTH - MARGIN, y))
    rows = Rows.of(results, WEBSOCKET[0])
    if rows.peers:
        y += 36
        title = (
            "WebSockets: echoes of 64 bytes on 16 connections, of 1 MB on 4, and 1,000 idle ones"
        )
        body.append(text(MARGIN, y, title, "heading text"))
        hint = "More is better for messages and MB/s, less for CPU and memory."
        body.append(text(MARGIN, y + 20, hint, "small muted"))
        y += 54
        body += _shared_rows(results, WEBSOCKET, rows, y, WEBSOCKET_SIZE)
        y += rows.height(WEBSOCKET_SIZE.pitch) + 20
        body.append(rule(MARGIN, WIDTH - MARGIN, y))
    y += 6
    for line in _footer(results):
        y += 19
        body.append(text(MARGIN, y, line, "small muted"))
    return document(WIDTH, y + 24, "asgi-relay beside its peers", _in_words(results), body)


def _shared_rows(
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


def _heading(panel: Panel, x: float, y: float, width: float) -> list[str]:
    return [
        text(x, y, panel.title, "heading text"),
        text(x + width, y, panel.hint, "small muted", anchor="end"),
    ]


def _names(rows: Rows, x: float, y: float, size: Size) -> list[str]:
    lines = []
    for one, middle in rows.placed(size.pitch):
        weight = "muted" if one.key in REFERENCES else _weight(one)
        name = LABELS.get(one.key, one.key)
        lines.append(text(x, y + middle + 4, name, f"{size.font} {weight}"))
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
        lines.append(bar(x, top, length, size.pitch * 0.7, _kind(one)))
        figure = f"{value:,.{panel.digits}f}"
        style = f"{size.font} number {_weight(one)}"
        lines.append(text(x + length + 7, y + middle + 4, figure, style))
    return lines


def _weight(one: Contestant) -> str:
    return "strong text" if one.key == "relay" else "text"


def _kind(one: Contestant) -> str:
    if one.key == "relay":
        return "ours"
    return "reference" if one.key in REFERENCES else "peer"


def _what_was_run(results: Results) -> str:
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    each = f"Medians of {rounds} interleaved rounds" if rounds > 1 else "A single round"
    return f"{each} of {seconds} s; CPU is the whole proxy process's, user and system."


def _footer(results: Results) -> list[str]:
    machine, versions = results.machine, results.versions
    names = tuple(one.package or one.key for one in CONTESTANTS)
    used = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}) for load, proxy and upstream together, "
        f"Linux {machine['kernel']}, Python {versions['python']}.",
        f"All but nginx under one process of uvicorn {versions['uvicorn']} with uvloop "
        "and httptools.",
        f"{used}.",
        f"Measured on {results.date} with: {results.command}",
    ]
    disturbed, measured = results.disturbed()
    if disturbed > measured / 10:
        lines.append(
            f"The machine was busy: in {disturbed} of {measured} measurements other programs took "
            "more than 10 % of it."
        )
    return lines


def _in_words(results: Results) -> str:
    """For those who cannot see it."""
    parts = []
    for panel in (*LARGE, *SMALL, *WEBSOCKET):
        figures = []
        for one, _ in Rows.of(results, panel).placed(1):
            value = results.value(panel.scenario, one.key, panel.metric)
            figure = "failed" if value is None else f"{value:,.{panel.digits}f}"
            figures.append(f"{LABELS.get(one.key, one.key)} {figure}")
        if figures:
            parts.append(f"{panel.title}: {', '.join(figures)}.")
    return " ".join(parts)
