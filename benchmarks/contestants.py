"""Who takes part in what, and how each is started: ASGI apps alike, under one uvicorn process."""

import sys
from dataclasses import dataclass
from importlib import metadata

from benchmarks.gateways import STARTERS, Setting
from benchmarks.processes import Server, free_port
from benchmarks.scenarios import GATEWAYS, HTTP, WEBSOCKETS, Scenario
from benchmarks.tools import Tools

UVICORN = (
    "--loop=uvloop",
    "--http=httptools",
    "--ws=websockets-sansio",
    "--lifespan=auto",
    "--no-access-log",
    "--log-level=error",
    "--backlog=2048",
)


@dataclass(frozen=True)
class Contestant:
    key: str
    """Also its short name, in the picture."""
    title: str
    module: str | None
    """The app in benchmarks.apps; None for gateways, which are no apps."""
    package: str | None = None
    """The distribution whose version the report names; it is also what must be installed."""
    program: str | None = None
    """What is installed instead, where it is no Python package."""
    scenarios: tuple[str, ...] = HTTP
    """The keys of those that it takes part in."""

    def takes_part(self, scenario: Scenario) -> bool:
        return scenario.key in self.scenarios


CONTESTANTS = (
    Contestant("floor", "floor: ASGI app, no upstream", "floor", scenarios=(*HTTP, *WEBSOCKETS)),
    Contestant("relay", "asgi-relay", "relay", "asgi-relay", scenarios=(*HTTP, *WEBSOCKETS)),
    Contestant("lilya", "Lilya's Relay (httpx2)", "lilya_relay", "lilya"),
    Contestant(
        "fastapi-reverse-proxy",
        "fastapi-reverse-proxy (httpx)",
        "fastapi_proxy",
        "fastapi-reverse-proxy",
        scenarios=(*HTTP, *WEBSOCKETS),
    ),
    Contestant(
        "fastapi",
        "asgi_relay.fastapi in FastAPI",
        "fastapi_relay",
        "fastapi",
        scenarios=("get-32", "post-32", "download", "sse", *WEBSOCKETS),
    ),
    Contestant(
        "fastapi-floor",
        "floor: FastAPI, no upstream",
        "fastapi_floor",
        "fastapi",
        scenarios=("get-32",),
    ),
    Contestant(
        "fastapi-proxy-lib",
        "fastapi-proxy-lib (httpx-ws)",
        "fastapi_proxy_lib_app",
        "fastapi-proxy-lib",
        scenarios=WEBSOCKETS,
    ),
    Contestant("aiohttp", "aiohttp by hand", "aiohttp_by_hand", "aiohttp"),
    Contestant("pyreqwest", "pyreqwest by hand", "pyreqwest_by_hand", "pyreqwest"),
    Contestant("gateway", "asgi-relay serve", None, "asgi-relay", scenarios=GATEWAYS),
    Contestant(
        "nginx",
        "nginx, one worker",
        None,
        program="nginx",
        scenarios=(*HTTP, *WEBSOCKETS, *GATEWAYS),
    ),
    Contestant(
        "nginx-headers",
        "nginx, the gateway's headers",
        None,
        program="nginx",
        scenarios=("gw-get", "gw-post"),
    ),
    Contestant("haproxy", "HAProxy, one thread", None, program="haproxy", scenarios=GATEWAYS),
    Contestant(
        "haproxy-headers",
        "HAProxy, the gateway's headers",
        None,
        program="haproxy",
        scenarios=("gw-get", "gw-post"),
    ),
)
BY_KEY = {contestant.key: contestant for contestant in CONTESTANTS}


def missing(contestant: Contestant, tools: Tools) -> bool:
    if contestant.program is not None:
        return contestant.program not in tools
    if contestant.package is None:
        return False
    try:
        metadata.version(contestant.package)
    except metadata.PackageNotFoundError:
        return True
    return False


def start(contestant: Contestant, target: str, setting: Setting) -> Server:
    if contestant.module is None:
        return STARTERS[contestant.key](setting, target)
    port = free_port()
    app = f"benchmarks.apps.{contestant.module}:app"
    argv = [sys.executable, "-m", "uvicorn", app, f"--port={port}", *UVICORN]
    return Server(contestant.title, argv, port, {"BENCH_UPSTREAM": target})
