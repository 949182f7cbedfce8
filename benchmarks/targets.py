"""The speed that the project has promised itself, and whether a run reached it."""

from dataclasses import dataclass

from benchmarks.results import Results
from benchmarks.scenarios import (
    CPU,
    CPU_PER_100MB,
    CPU_PER_MESSAGE,
    MEGABYTES,
    MESSAGES,
    REQUESTS,
    SOCKET,
    STREAM,
    TIMES,
    Column,
)


@dataclass(frozen=True)
class Target:
    text: str
    scenario: str
    column: Column
    bound: float
    at_least: bool
    unit: str = TIMES

    def met(self, results: Results) -> bool | None:
        """None where it was not measured. A figure that was reached with errors does not count."""
        value = self.value(results)
        if value is None:
            return None
        if results.scenarios[self.scenario]["relay"].errors:
            return False
        return value >= self.bound if self.at_least else value <= self.bound

    def value(self, results: Results) -> float | None:
        return results.cell(self.scenario, "relay", self.column)


TARGETS = (
    Target(
        "small GET: requests/s, to Lilya's",
        "get-32",
        Column("", REQUESTS, divide_by="lilya"),
        18,
        at_least=True,
    ),
    Target(
        "small GET: requests/s, to pyreqwest's",
        "get-32",
        Column("", REQUESTS, divide_by="pyreqwest"),
        1.7,
        at_least=True,
    ),
    Target(
        "small GET: CPU/request, to the floor's",
        "get-32",
        Column("", CPU, divide_by="floor"),
        1.8,
        at_least=False,
    ),
    Target(
        "16 kB POST: requests/s, to Lilya's",
        "post-32",
        Column("", REQUESTS, divide_by="lilya"),
        12,
        at_least=True,
    ),
    Target(
        "10 MB download: MB/s, to pyreqwest's",
        "download",
        Column("", MEGABYTES, divide_by="pyreqwest"),
        1,
        at_least=True,
    ),
    Target(
        "10 MB download: CPU, to pyreqwest's",
        "download",
        Column("", CPU_PER_100MB, divide_by="pyreqwest"),
        1,
        at_least=False,
    ),
    Target(
        "idle event stream: memory over the floor's",
        "sse",
        Column("", STREAM, subtract="floor"),
        24,
        at_least=False,
        unit=" KiB",
    ),
    Target(
        "WebSocket echo: messages/s, to fastapi-reverse-proxy's",
        "ws-echo",
        Column("", MESSAGES, divide_by="fastapi-reverse-proxy"),
        1.5,
        at_least=True,
    ),
    Target(
        "WebSocket echo: CPU/message, to fastapi-reverse-proxy's",
        "ws-echo",
        Column("", CPU_PER_MESSAGE, divide_by="fastapi-reverse-proxy"),
        0.75,
        at_least=False,
    ),
    Target(
        "WebSocket, 1 MB: MB/s, to fastapi-reverse-proxy's",
        "ws-bulk",
        Column("", MEGABYTES, divide_by="fastapi-reverse-proxy"),
        2,
        at_least=True,
    ),
    Target(
        "idle WebSocket: memory over the floor's",
        "ws-idle",
        Column("", SOCKET, subtract="floor"),
        24,
        at_least=False,
        unit=" KiB",
    ),
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
