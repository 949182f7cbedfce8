"""Which figures of a scenario the tables show."""

from dataclasses import dataclass

from benchmarks.scenarios import (
    CONNECTION,
    CPU,
    CPU_PER_100MB,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MEGABYTES_PER_CPU,
    MEMORY,
    MESSAGES,
    OPENING,
    P50,
    P99,
    REQUESTS,
    SOCKET,
    STREAM,
    Scenario,
)

# Escaped, because the linter takes the sign itself for a slip of the letter x.
TIMES = "\u00d7"


@dataclass(frozen=True)
class Column:
    """A column of the report: a figure, or its ratio to (or its distance from) another's."""

    title: str
    metric: str
    digits: int = 0
    divide_by: str | None = None
    subtract: str | None = None


_PEER = "fastapi-reverse-proxy"

_COUNTED = (
    Column("requests/s", REQUESTS),
    Column(f"{TIMES} Lilya", REQUESTS, 2, divide_by="lilya"),
    Column(f"{TIMES} f.-r.-proxy", REQUESTS, 2, divide_by=_PEER),
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
    Column("all, MiB", MEMORY, 1),
    Column("to open, s", OPENING, 2),
)

_ECHOED = (
    Column("messages/s", MESSAGES),
    Column(f"{TIMES} f.-r.-proxy", MESSAGES, 2, divide_by=_PEER),
    Column("CPU µs/message", CPU_PER_MESSAGE, 1),
    Column(f"{TIMES} f.-r.-proxy", CPU_PER_MESSAGE, 2, divide_by=_PEER),
    Column(f"{TIMES} floor", CPU_PER_MESSAGE, 2, divide_by="floor"),
    Column("p50 ms", P50, 2),
    Column("p99 ms", P99, 2),
)
_ECHOED_IN_BULK = (
    Column("MB/s", MEGABYTES),
    Column(f"{TIMES} f.-r.-proxy", MEGABYTES, 2, divide_by=_PEER),
    Column("CPU ms/100 MB", CPU_PER_100MB, 1),
    Column(f"{TIMES} floor", CPU_PER_100MB, 2, divide_by="floor"),
)
_SOCKETS_HELD_OPEN = (
    Column("KiB/WebSocket", SOCKET, 1),
    Column("over the floor", SOCKET, 1, subtract="floor"),
    *_HELD_OPEN[2:],
)


def _beside_gateways(count: str, rate: str, unit: str, cost: str) -> tuple[Column, ...]:
    return (
        Column(count, rate),
        Column(f"{TIMES} nginx", rate, 2, divide_by="nginx"),
        Column(f"{TIMES} HAProxy", rate, 2, divide_by="haproxy"),
        Column(unit, cost, 1),
        Column(f"{TIMES} nginx", cost, 2, divide_by="nginx"),
        Column("p50 ms", P50, 2),
        Column("p99 ms", P99, 2),
    )


_GATEWAY_COUNTED = _beside_gateways("requests/s", REQUESTS, "CPU µs/request", CPU)
_GATEWAY_CONNECTED = _beside_gateways("connections/s", REQUESTS, "CPU µs/connection", CPU)
_GATEWAY_ECHOED = _beside_gateways("messages/s", MESSAGES, "CPU µs/message", CPU_PER_MESSAGE)
_GATEWAY_DOWNLOADED = (
    Column("MB/s", MEGABYTES),
    Column(f"{TIMES} nginx", MEGABYTES, 2, divide_by="nginx"),
    Column(f"{TIMES} HAProxy", MEGABYTES, 2, divide_by="haproxy"),
    Column("CPU ms/100 MB", CPU_PER_100MB, 1),
    Column("MB/CPU s", MEGABYTES_PER_CPU),
    Column(f"{TIMES} nginx", MEGABYTES_PER_CPU, 2, divide_by="nginx"),
)
_GATEWAY_HELD_OPEN = (
    Column("KiB/connection", CONNECTION, 2),
    Column(f"{TIMES} nginx", CONNECTION, 2, divide_by="nginx"),
    *_HELD_OPEN[2:],
)


def columns(scenario: Scenario) -> tuple[Column, ...]:
    if scenario.gateway:
        return _gateway_columns(scenario)
    if scenario.is_websocket:
        if scenario.is_held:
            return _SOCKETS_HELD_OPEN
        return _ECHOED_IN_BULK if scenario.is_bulk else _ECHOED
    if scenario.is_held:
        return _HELD_OPEN
    return _DOWNLOADED if scenario.is_bulk else _COUNTED


def _gateway_columns(scenario: Scenario) -> tuple[Column, ...]:
    if scenario.is_held:
        return _GATEWAY_HELD_OPEN
    if scenario.is_websocket:
        return _GATEWAY_ECHOED
    if scenario.is_bulk:
        return _GATEWAY_DOWNLOADED
    return _GATEWAY_CONNECTED if scenario.new_connections else _GATEWAY_COUNTED


def headline(scenario: Scenario) -> tuple[str, str]:
    """The figure that the progress line shows, and its unit."""
    if scenario.is_bulk:
        return MEGABYTES, "MB/s"
    if scenario.is_websocket:
        return (SOCKET, "KiB/WebSocket") if scenario.is_held else (MESSAGES, "messages/s")
    if scenario.is_held:
        return (CONNECTION, "KiB/connection") if scenario.gateway else (STREAM, "KiB/stream")
    return REQUESTS, "connections/s" if scenario.new_connections else "requests/s"
