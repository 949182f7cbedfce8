"""Who takes part, and how each is started: all ASGI apps alike, under one uvicorn process."""

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.processes import Server, free_port
from benchmarks.upstream import start_nginx_proxy

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
    """The app in benchmarks.apps; None for nginx, which is no app."""
    package: str | None = None
    """The distribution whose version the report names; it is also what must be installed."""
    http: bool = True
    websocket: bool = False


CONTESTANTS = (
    Contestant("floor", "floor: ASGI app, no upstream", "floor", websocket=True),
    Contestant("relay", "asgi-relay", "relay", "asgi-relay", websocket=True),
    Contestant("lilya", "Lilya's Relay (httpx2)", "lilya_relay", "lilya"),
    Contestant(
        "fastapi-reverse-proxy",
        "fastapi-reverse-proxy (httpx)",
        "fastapi_proxy",
        "fastapi-reverse-proxy",
        websocket=True,
    ),
    Contestant(
        "fastapi-proxy-lib",
        "fastapi-proxy-lib (httpx-ws)",
        "fastapi_proxy_lib_app",
        "fastapi-proxy-lib",
        http=False,
        websocket=True,
    ),
    Contestant("aiohttp", "aiohttp by hand", "aiohttp_by_hand", "aiohttp"),
    Contestant("pyreqwest", "pyreqwest by hand", "pyreqwest_by_hand", "pyreqwest"),
    Contestant("nginx", "nginx, one worker", None, websocket=True),
)
BY_KEY = {contestant.key: contestant for contestant in CONTESTANTS}


def missing(contestant: Contestant) -> bool:
    if contestant.package is None:
        return False
    try:
        metadata.version(contestant.package)
    except metadata.PackageNotFoundError:
        return True
    return False


def start(contestant: Contestant, target: str, nginx: str, directory: Path) -> Server:
    if contestant.module is None:
        return start_nginx_proxy(nginx, directory, target)
    port = free_port()
    app = f"benchmarks.apps.{contestant.module}:app"
    argv = [sys.executable, "-m", "uvicorn", app, f"--port={port}", *UVICORN]
    return Server(contestant.title, argv, port, {"BENCH_UPSTREAM": target})
