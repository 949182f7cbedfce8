"""The speed that the project has promised itself, and whether a run reached it."""

from dataclasses import dataclass

from benchmarks.columns import TIMES, Column
from benchmarks.results import Results
from benchmarks.scenarios import (
    CONNECTION,
    CPU,
    CPU_PER_100MB,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MEGABYTES_PER_CPU,
    MESSAGES,
    REQUESTS,
    SOCKET,
    STREAM,
)

NAMES = {
    "lilya": "Lilya's",
    "pyreqwest": "pyreqwest's",
    "floor": "the floor's",
    "fastapi-reverse-proxy": "fastapi-reverse-proxy's",
    "nginx": "nginx's",
    "haproxy": "HAProxy's",
}


@dataclass(frozen=True)
class Target:
    text: str
    scenario: str
    contestant: str
    """Which of ours is to reach it."""
    column: Column
    bound: float
    at_least: bool
    unit: str = TIMES

    def met(self, results: Results) -> bool | None:
        """None where it was not measured. A figure that was reached with errors does not count."""
        value = self.value(results)
        if value is None:
            return None
        if results.scenarios[self.scenario][self.contestant].errors:
            return False
        return value >= self.bound if self.at_least else value <= self.bound

    def value(self, results: Results) -> float | None:
        return results.cell(self.scenario, self.contestant, self.column)

    @property
    def bound_text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{self.unit}"


@dataclass(frozen=True)
class _Of:
    """What one of ours is to reach in one scenario."""

    scenario: str
    contestant: str
    text: str

    def at_least(self, bound: float, what: str, metric: str, other: str) -> Target:
        return self._beside(bound, what, metric, other, at_least=True)

    def at_most(self, bound: float, what: str, metric: str, other: str) -> Target:
        return self._beside(bound, what, metric, other, at_least=False)

    def _beside(
        self, bound: float, what: str, metric: str, other: str, *, at_least: bool
    ) -> Target:
        text = f"{self.text}: {what}, to {NAMES[other]}"
        column = Column("", metric, divide_by=other)
        return Target(text, self.scenario, self.contestant, column, bound, at_least)

    def memory_over_floor(self, bound: float, metric: str) -> Target:
        """In KiB."""
        text = f"{self.text}: memory over the floor's"
        column = Column("", metric, subtract="floor")
        return Target(text, self.scenario, self.contestant, column, bound, False, " KiB")


_GET = _Of("get-32", "relay", "small GET")
_POST = _Of("post-32", "relay", "16 kB POST")
_DOWNLOAD = _Of("download", "relay", "10 MB download")
_STREAM = _Of("sse", "relay", "idle event stream")
_ECHO = _Of("ws-echo", "relay", "WebSocket echo")
_BULK = _Of("ws-bulk", "relay", "WebSocket, 1 MB")
_SOCKET = _Of("ws-idle", "relay", "idle WebSocket")
_FASTAPI = _Of("get-32", "fastapi", "proxy_pass in FastAPI")
_GATEWAY_GET = _Of("gw-get", "gateway", "gateway, small GET")
_GATEWAY_POST = _Of("gw-post", "gateway", "gateway, 16 kB POST")
_GATEWAY_DOWNLOAD = _Of("gw-download", "gateway", "gateway, 10 MB download")
_GATEWAY_IDLE = _Of("gw-idle", "gateway", "gateway, idle connection")
_PEER = "fastapi-reverse-proxy"

TARGETS = (
    _GET.at_least(18, "requests/s", REQUESTS, "lilya"),
    _GET.at_least(1.7, "requests/s", REQUESTS, "pyreqwest"),
    _GET.at_most(1.8, "CPU/request", CPU, "floor"),
    _POST.at_least(12, "requests/s", REQUESTS, "lilya"),
    _DOWNLOAD.at_least(1, "MB/s", MEGABYTES, "pyreqwest"),
    _DOWNLOAD.at_most(1, "CPU", CPU_PER_100MB, "pyreqwest"),
    _STREAM.memory_over_floor(24, STREAM),
    _ECHO.at_least(1.5, "messages/s", MESSAGES, _PEER),
    _ECHO.at_most(0.75, "CPU/message", CPU_PER_MESSAGE, _PEER),
    _BULK.at_least(2, "MB/s", MEGABYTES, _PEER),
    _SOCKET.memory_over_floor(24, SOCKET),
    _FASTAPI.at_least(8, "requests/s", REQUESTS, _PEER),
    _GATEWAY_GET.at_least(1, "requests/s", REQUESTS, "nginx"),
    _GATEWAY_GET.at_least(1, "requests/s", REQUESTS, "haproxy"),
    _GATEWAY_GET.at_most(1.1, "CPU/request", CPU, "nginx"),
    _GATEWAY_POST.at_least(1, "requests/s", REQUESTS, "nginx"),
    _GATEWAY_POST.at_least(1, "requests/s", REQUESTS, "haproxy"),
    _GATEWAY_POST.at_most(1.1, "CPU/request", CPU, "nginx"),
    _GATEWAY_DOWNLOAD.at_least(1.2, "MB/s per CPU second", MEGABYTES_PER_CPU, "nginx"),
    _GATEWAY_IDLE.at_most(1.5, "memory", CONNECTION, "nginx"),
)


def as_json(results: Results) -> list[dict[str, object]]:
    return [
        {
            "target": target.text,
            "bound": target.bound,
            "at_least": target.at_least,
            "value": target.value(results),
            "met": target.met(results),
        }
        for target in TARGETS
    ]
