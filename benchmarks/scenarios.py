"""What is measured: the scenarios, and which of their figures the tables show."""

from dataclasses import dataclass

from benchmarks.payloads import (
    BULK_PATH,
    DOWNLOAD_PATH,
    ECHO_PATH,
    EVENTS_PATH,
    HELD_PATH,
    SMALL_PATH,
    UPLOAD_PATH,
)

REQUESTS = "requests_per_s"
CPU = "cpu_us_per_request"
P50 = "p50_ms"
P99 = "p99_ms"
MEGABYTES = "mb_per_s"
CPU_PER_100MB = "cpu_ms_per_100mb"
STREAM = "kib_per_stream"
MESSAGES = "messages_per_s"
CPU_PER_MESSAGE = "cpu_us_per_message"
SOCKET = "kib_per_websocket"
OPENING = "opening_s"
RESIDENT = "resident_mib"
OTHERS = "others_cpu_percent"
"""How much of the machine was taken by programs that are no part of the bench."""


# Escaped, because the linter takes the sign itself for a slip of the letter x.
TIMES = "\u00d7"


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    path: str
    connections: int

    @property
    def is_upload(self) -> bool:
        return self.path == UPLOAD_PATH

    @property
    def is_bulk(self) -> bool:
        """Bytes count, not requests or messages."""
        return self.path in (DOWNLOAD_PATH, BULK_PATH)

    @property
    def is_held(self) -> bool:
        """Connections that are opened and left idle; all others are loaded."""
        return self.path in (EVENTS_PATH, HELD_PATH)

    @property
    def is_websocket(self) -> bool:
        return self.path in (ECHO_PATH, BULK_PATH, HELD_PATH)


SCENARIOS = (
    Scenario("get-1", "Small GET, 1 connection", SMALL_PATH, 1),
    Scenario("get-32", "Small GET, 32 connections", SMALL_PATH, 32),
    Scenario("post-32", "16 kB POST, 32 connections", UPLOAD_PATH, 32),
    Scenario("download", "10 MB download, 4 connections", DOWNLOAD_PATH, 4),
    Scenario("sse", "1,000 idle event streams", EVENTS_PATH, 1_000),
    Scenario("ws-echo", "WebSocket, 64 bytes, 16 connections", ECHO_PATH, 16),
    Scenario("ws-bulk", "WebSocket, 1 MB, 4 connections", BULK_PATH, 4),
    Scenario("ws-idle", "1,000 idle WebSockets", HELD_PATH, 1_000),
)
BY_KEY = {scenario.key: scenario for scenario in SCENARIOS}


@dataclass(frozen=True)
class Column:
    """A column of the report: a figure, or its ratio to (or its distance from) another's."""

    title: str
    metric: str
    digits: int = 0
    divide_by: str | None = None
    subtract: str | None = None


_COUNTED = (
    Column("requests/s", REQUESTS),
    Column(f"{TIMES} Lilya", REQUESTS, 2, divide_by="lilya"),
    Column(f"{TIMES} pyreqwest", REQUESTS, 2, divide_by="pyreqwest"),
    Column("CPU µs/request", CPU, 1),
    Column(f"{TIMES} floor", CPU, 2, divide_by="floor"),
    Column("p50 ms", P50, 2),
    Column("p99 ms", P99, 2),
)
_DOWNLOADED = (
    Column("MB/s", MEGABYTES),
    Column(f"{TIMES} Lilya", MEGABYTES, 2, divide_by="lilya"),
    Column(f"{TIMES} pyreqwest", MEGABYTES, 2, divide_by="pyreqwest"),
    Column("CPU ms/100 MB", CPU_PER_100MB, 1),
    Column(f"{TIMES} floor", CPU_PER_100MB, 2, divide_by="floor"),
    Column(f"{TIMES} pyreqwest", CPU_PER_100MB, 2, divide_by="pyreqwest"),
)
_HELD_OPEN = (
    Column("KiB/stream", STREAM, 1),
    Column("over the floor", STREAM, 1, subtract="floor"),
    Column("all, MiB", RESIDENT, 1),
    Column("to open, s", OPENING, 2),
)


_ECHOED = (
    Column("messages/s", MESSAGES),
    Column(f"{TIMES} f.-r.-proxy", MESSAGES, 2, divide_by="fastapi-reverse-proxy"),
    Column("CPU µs/message", CPU_PER_MESSAGE, 1),
    Column(f"{TIMES} f.-r.-proxy", CPU_PER_MESSAGE, 2, divide_by="fastapi-reverse-proxy"),
    Column(f"{TIMES} floor", CPU_PER_MESSAGE, 2, divide_by="floor"),
    Column("p50 ms", P50, 2),
    Column("p99 ms", P99, 2),
)
_ECHOED_IN_BULK = (
    Column("MB/s", MEGABYTES),
    Column(f"{TIMES} f.-r.-proxy", MEGABYTES, 2, divide_by="fastapi-reverse-proxy"),
    Column("CPU ms/100 MB", CPU_PER_100MB, 1),
    Column(f"{TIMES} floor", CPU_PER_100MB, 2, divide_by="floor"),
)
_SOCKETS_HELD_OPEN = (
    Column("KiB/WebSocket", SOCKET, 1),
    Column("over the floor", SOCKET, 1, subtract="floor"),
    *_HELD_OPEN[2:],
)


def columns(scenario: Scenario) -> tuple[Column, ...]:
    if scenario.is_websocket:
        if scenario.is_held:
            return _SOCKETS_HELD_OPEN
        return _ECHOED_IN_BULK if scenario.is_bulk else _ECHOED
    if scenario.is_held:
        return _HELD_OPEN
    return _DOWNLOADED if scenario.is_bulk else _COUNTED


def headline(scenario: Scenario) -> tuple[str, str]:
    """The figure that the progress line shows, and its unit."""
    if scenario.is_bulk:
        return MEGABYTES, "MB/s"
    if scenario.is_websocket:
        return (SOCKET, "KiB/WebSocket") if scenario.is_held else (MESSAGES, "messages/s")
    return (STREAM, "KiB/stream") if scenario.is_held else (REQUESTS, "requests/s")
