"""The figures of a full run as Markdown, for the README."""

from dataclasses import dataclass

from benchmarks.results import Results
from benchmarks.scenarios import (
    CONNECTION,
    CPU,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MEGABYTES_PER_CPU,
    MESSAGES,
    REQUESTS,
    SOCKET,
    STREAM,
)
from benchmarks.targets import TARGETS, Target


@dataclass(frozen=True)
class Row:
    title: str
    scenario: str
    metric: str


PEERS = {
    "relay": "asgi-relay",
    "lilya": "Lilya's Relay",
    "fastapi-reverse-proxy": "fastapi-reverse-proxy",
    "pyreqwest": "pyreqwest by hand",
    "floor": "floor: the ASGI server alone",
}
PEER_ROWS = (
    Row("small GET, requests/s", "get-32", REQUESTS),
    Row("CPU for each, µs", "get-32", CPU),
    Row("16 kB POST, requests/s", "post-32", REQUESTS),
    Row("10 MB download, MB/s", "download", MEGABYTES),
    Row("idle event stream, KiB", "sse", STREAM),
    Row("WebSocket, 64 octets, echoes/s", "ws-echo", MESSAGES),
    Row("CPU for each, µs", "ws-echo", CPU_PER_MESSAGE),
    Row("WebSocket, 1 MB, MB/s", "ws-bulk", MEGABYTES),
    Row("idle WebSocket, KiB", "ws-idle", SOCKET),
)
IN_FASTAPI = {
    "fastapi": "`asgi_relay.fastapi`",
    "fastapi-reverse-proxy": "fastapi-reverse-proxy",
    "fastapi-floor": "floor: FastAPI alone",
}
IN_FASTAPI_ROWS = PEER_ROWS[:2]
GATEWAYS = {"gateway": "`asgi-relay serve`", "nginx": "nginx", "haproxy": "HAProxy"}
SAME_HEADERS = {
    "gateway": "`asgi-relay serve`",
    "nginx-headers": "nginx",
    "haproxy-headers": "HAProxy",
}
GATEWAY_ROWS = (
    Row("small GET, requests/s", "gw-get", REQUESTS),
    Row("CPU for each, µs", "gw-get", CPU),
    Row("16 kB POST, requests/s", "gw-post", REQUESTS),
    Row("CPU for each, µs", "gw-post", CPU),
    Row("10 MB download, MB/s", "gw-download", MEGABYTES),
    Row("MB for each CPU second", "gw-download", MEGABYTES_PER_CPU),
    Row("small GET on TLS, requests/s", "gw-tls", REQUESTS),
    Row("new TLS connections/s", "gw-tls-new", REQUESTS),
    Row("CPU for each, µs", "gw-tls-new", CPU),
    Row("WebSocket, 64 octets, echoes/s", "gw-ws-echo", MESSAGES),
    Row("CPU for each, µs", "gw-ws-echo", CPU_PER_MESSAGE),
    Row("idle connection, KiB", "gw-idle", CONNECTION),
)
SAME_HEADERS_ROWS = GATEWAY_ROWS[:4]
WORDS = {("lilya", "ws-echo", MESSAGES): "never connects"}


def block(results: Results) -> str:
    """What stands between the README's two marks."""
    cores, rounds = results.machine["cores"], results.settings["rounds"]
    parts = [
        f"`{results.command}` on {cores} cores, {rounds} interleaved rounds, medians; CPU is that "
        "of the whole proxy process.",
        _table(results, PEERS, PEER_ROWS),
        "In FastAPI, an endpoint that passes on the same small GET:",
        _table(results, IN_FASTAPI, IN_FASTAPI_ROWS),
        "The gateway, one thread beside nginx with one worker and HAProxy with one thread:",
        "![asgi-relay serve beside nginx and HAProxy: requests, downloads, TLS, WebSockets, "
        "memory](docs/images/gateway.svg)",
        _table(results, GATEWAYS, GATEWAY_ROWS),
        "nginx and HAProxy tell the upstream the client's address; the gateway also tells the "
        "scheme, the host and the request's name. Where all three do:",
        _table(results, SAME_HEADERS, SAME_HEADERS_ROWS),
        _unreached(results),
    ]
    return "".join(f"{part}\n\n" for part in parts if part).removesuffix("\n")


def _table(results: Results, titles: dict[str, str], rows: tuple[Row, ...]) -> str:
    lines = [f"| | {' | '.join(titles.values())} |", "|---" * (len(titles) + 1) + "|"]
    for row in rows:
        cells = [row.title, *(_cell(results, key, row) for key in titles)]
        lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
    return "\n".join(lines)


def _cell(results: Results, contestant: str, row: Row) -> str:
    value = results.value(row.scenario, contestant, row.metric)
    if value is None:
        return WORDS.get((contestant, row.scenario, row.metric), "")
    return rounded(value)


def rounded(value: float) -> str:
    """Three digits, which is more than two runs agree in."""
    if value < 100:
        return f"{value:.1f}"
    digits = max(0, len(f"{value:.0f}") - 3)
    return f"{round(value, -digits):,.0f}"


def _unreached(results: Results) -> str:
    targets = "[targets](benchmarks/README.md#targets)"
    missed = [_missed(results, target) for target in TARGETS if target.met(results) is False]
    if not missed:
        return f"All {targets} are reached."
    few = f"Of the {len(TARGETS)} {targets} these are not reached yet:\n\n"
    return few + "\n".join(missed)


def _missed(results: Results, target: Target) -> str:
    value = target.value(results)
    reached = "" if value is None else f"{value:.2f}{target.unit}"
    return f"- {target.text}: {reached} ({target.bound_text} wanted)"
