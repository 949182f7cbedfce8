"""The picture of the gateway beside nginx and HAProxy: rows of three panels each."""

from benchmarks.panels import (
    MARGIN,
    WIDTH,
    Panel,
    Rows,
    Size,
    how_made,
    how_measured,
    in_words,
    shared_rows,
)
from benchmarks.results import Results
from benchmarks.scenarios import (
    CONNECTION,
    CPU,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MEGABYTES_PER_CPU,
    REQUESTS,
)
from benchmarks.svg import document, rule, text

PANELS = (
    (
        Panel("Small GETs per second", "", "gw-get", REQUESTS),
        Panel("16 kB POSTs per second", "", "gw-post", REQUESTS),
        Panel("Small GETs per second, TLS", "", "gw-tls", REQUESTS),
    ),
    (
        Panel("CPU per small GET, µs", "", "gw-get", CPU, 1),
        Panel("CPU per 16 kB POST, µs", "", "gw-post", CPU, 1),
        Panel("CPU per small GET, TLS, µs", "", "gw-tls", CPU, 1),
    ),
    (
        Panel("10 MB downloads, MB/s", "", "gw-download", MEGABYTES),
        Panel("Downloads, MB per CPU second", "", "gw-download", MEGABYTES_PER_CPU),
        Panel("Idle connection, KiB", "", "gw-idle", CONNECTION, 1),
    ),
    (
        Panel("TLS handshakes per second", "", "gw-tls-new", REQUESTS),
        Panel("CPU per TLS handshake, µs", "", "gw-tls-new", CPU),
        Panel("CPU per WebSocket echo, µs", "", "gw-ws-echo", CPU_PER_MESSAGE, 1),
    ),
)
SIZE = Size(names=128, pitch=23, figures=58, font="label")
ORDER = ("gateway", "nginx", "haproxy")


def is_drawable(results: Results) -> bool:
    """Whether there is anything to draw."""
    return bool(_rows(results, PANELS[0][0]).peers)


def _rows(results: Results, panel: Panel) -> Rows:
    rows = Rows.of(results, panel)
    drawn = (one for one in rows.peers if one.key in ORDER)
    return Rows(sorted(drawn, key=lambda one: ORDER.index(one.key)), [])


def draw_gateway(results: Results) -> str:
    title = "The gateway beside nginx and HAProxy, one thread each"
    body = [text(MARGIN, 48, title, "title text")]
    hint = "Less is better for CPU and memory, more for all others."
    body.append(text(MARGIN, 71, f"{how_measured(results)} {hint}", "small muted"))
    y = 108.0
    for panels in PANELS:
        rows = _rows(results, panels[0])
        body += shared_rows(results, panels, rows, y, SIZE)
        y += rows.height(SIZE.pitch) + 16
        body.append(rule(MARGIN, WIDTH - MARGIN, y))
        y += 32
    y -= 26
    remark = (
        "32 connections for GETs and POSTs, 4 for downloads, 8 for handshakes (a GET each), "
        "16 WebSockets with 64 bytes, 1,000 idle connections."
    )
    for line in how_made(results, remark, ("asgi-relay", "nginx", "haproxy")):
        y += 19
        body.append(text(MARGIN, y, line, "small muted"))
    words = in_words(results, tuple(panel for panels in PANELS for panel in panels))
    return document(WIDTH, y + 24, "asgi-relay serve beside nginx and HAProxy", words, body)
