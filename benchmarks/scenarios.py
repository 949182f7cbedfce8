"""What is measured: the scenarios, and the names of their figures."""

from dataclasses import dataclass

from benchmarks.payloads import (
    BULK_PATH,
    DOWNLOAD_PATH,
    ECHO_PATH,
    EVENTS_PATH,
    HELD_PATH,
    IDLE_PATH,
    SMALL_PATH,
    UPLOAD_PATH,
)

REQUESTS = "requests_per_s"
CPU = "cpu_us_per_request"
P50 = "p50_ms"
P99 = "p99_ms"
MEGABYTES = "mb_per_s"
CPU_PER_100MB = "cpu_ms_per_100mb"
MEGABYTES_PER_CPU = "mb_per_cpu_s"
STREAM = "kib_per_stream"
MESSAGES = "messages_per_s"
CPU_PER_MESSAGE = "cpu_us_per_message"
SOCKET = "kib_per_websocket"
CONNECTION = "kib_per_connection"
OPENING = "opening_s"
MEMORY = "memory_mib"
OTHERS = "others_cpu_percent"
"""How much of the machine was taken by programs that are no part of the bench."""


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    path: str
    connections: int
    gateway: bool = False
    """Gateways are compared; otherwise proxies in an ASGI server."""
    tls: bool = False
    new_connections: bool = False
    """A connection, and with it a whole TLS handshake, for each request."""

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
        return self.path in (EVENTS_PATH, HELD_PATH, IDLE_PATH)

    @property
    def is_websocket(self) -> bool:
        return self.path in (ECHO_PATH, BULK_PATH, HELD_PATH)

    @property
    def needs(self) -> frozenset[str]:
        """The programs without which it cannot be measured."""
        programs = set()
        if not self.is_websocket and self.path != EVENTS_PATH:
            programs.add("nginx")
            if not self.is_held and not self.new_connections:
                programs.add("wrk")
        if self.tls:
            programs.add("openssl")
        return frozenset(programs)


SCENARIOS = (
    Scenario("get-1", "Small GET, 1 connection", SMALL_PATH, 1),
    Scenario("get-32", "Small GET, 32 connections", SMALL_PATH, 32),
    Scenario("post-32", "16 kB POST, 32 connections", UPLOAD_PATH, 32),
    Scenario("download", "10 MB download, 4 connections", DOWNLOAD_PATH, 4),
    Scenario("sse", "1,000 idle event streams", EVENTS_PATH, 1_000),
    Scenario("ws-echo", "WebSocket, 64 bytes, 16 connections", ECHO_PATH, 16),
    Scenario("ws-bulk", "WebSocket, 1 MB, 4 connections", BULK_PATH, 4),
    Scenario("ws-idle", "1,000 idle WebSockets", HELD_PATH, 1_000),
    Scenario("gw-get", "Gateway: small GET, 32 connections", SMALL_PATH, 32, gateway=True),
    Scenario("gw-post", "Gateway: 16 kB POST, 32 connections", UPLOAD_PATH, 32, gateway=True),
    Scenario(
        "gw-download", "Gateway: 10 MB download, 4 connections", DOWNLOAD_PATH, 4, gateway=True
    ),
    Scenario(
        "gw-tls", "Gateway: small GET, 32 TLS connections", SMALL_PATH, 32, gateway=True, tls=True
    ),
    Scenario(
        "gw-tls-new",
        "Gateway: small GET, each on a new TLS connection",
        SMALL_PATH,
        8,
        gateway=True,
        tls=True,
        new_connections=True,
    ),
    Scenario(
        "gw-ws-echo", "Gateway: WebSocket, 64 bytes, 16 connections", ECHO_PATH, 16, gateway=True
    ),
    Scenario("gw-idle", "Gateway: 1,000 idle connections", IDLE_PATH, 1_000, gateway=True),
)
BY_KEY = {scenario.key: scenario for scenario in SCENARIOS}

HTTP = ("get-1", "get-32", "post-32", "download", "sse")
WEBSOCKETS = ("ws-echo", "ws-bulk", "ws-idle")
GATEWAYS = tuple(scenario.key for scenario in SCENARIOS if scenario.gateway)
