"""The picture of Relay beside its peers.

Small GETs get the large panels; uploads, downloads and idle streams the small ones below, and
WebSockets those at the bottom.
"""

from benchmarks.contestants import CONTESTANTS
from benchmarks.panels import (
    LESS,
    MARGIN,
    MORE,
    WIDTH,
    Panel,
    Rows,
    Size,
    how_made,
    how_measured,
    in_words,
    own_rows,
    shared_rows,
)
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
from benchmarks.svg import document, rule, text

REFERENCES = ("floor", "fastapi-floor", "nginx")
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
LARGE_SIZE = Size(names=176, pitch=27, figures=62, font="label")
SMALL_SIZE = Size(names=150, pitch=20, figures=48, font="small")
WEBSOCKET_SIZE = Size(names=150, pitch=20, figures=50, font="small")


def draw(results: Results) -> str:
    rows = Rows.of(results, LARGE[0], REFERENCES)
    body = [text(MARGIN, 48, "Small GETs through a proxy, 32 connections", "title text")]
    body.append(text(MARGIN, 71, how_measured(results), "small muted"))
    y = 108.0
    body += shared_rows(results, LARGE, rows, y, LARGE_SIZE)
    y += rows.height(LARGE_SIZE.pitch) + 20
    body.append(rule(MARGIN, WIDTH - MARGIN, y))
    rows = rows.within(results, SMALL[0].scenario)
    y += 32
    body += own_rows(results, SMALL, rows, y, SMALL_SIZE)
    y += rows.height(SMALL_SIZE.pitch) + 20
    body.append(rule(MARGIN, WIDTH - MARGIN, y))
    rows = Rows.of(results, WEBSOCKET[0], REFERENCES)
    if rows.peers:
        y += 36
        title = (
            "WebSockets: echoes of 64 bytes on 16 connections, of 1 MB on 4, and 1,000 idle ones"
        )
        body.append(text(MARGIN, y, title, "heading text"))
        hint = "More is better for messages and MB/s, less for CPU and memory."
        body.append(text(MARGIN, y + 20, hint, "small muted"))
        y += 54
        body += shared_rows(results, WEBSOCKET, rows, y, WEBSOCKET_SIZE)
        y += rows.height(WEBSOCKET_SIZE.pitch) + 20
        body.append(rule(MARGIN, WIDTH - MARGIN, y))
    y += 6
    for line in _footer(results):
        y += 19
        body.append(text(MARGIN, y, line, "small muted"))
    words = in_words(results, (*LARGE, *SMALL, *WEBSOCKET), REFERENCES)
    return document(WIDTH, y + 24, "asgi-relay beside its peers", words, body)


def _footer(results: Results) -> list[str]:
    remark = (
        f"All but nginx under one process of uvicorn {results.versions['uvicorn']} with uvloop "
        "and httptools."
    )
    used = (one.package or one.key for one in CONTESTANTS if one.key != "haproxy")
    return how_made(results, remark, tuple(dict.fromkeys(used)))
