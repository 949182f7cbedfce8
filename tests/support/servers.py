"""Runs an ASGI app under a real server on a free loopback port, in a thread of this process.

`SERVERS` are the ids that `serve` takes. Servers as processes of their own are in `processes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import granian
import hypercorn.asyncio
import hypercorn.trio
import trio
import uvicorn
from granian.server.embed import Server as EmbeddedGranian
from hypercorn.config import Config as HypercornConfig

from .ports import port_of, reserve
from .waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from .asgi import ASGIApp

GRACE = 2
"""Seconds that a server gives requests in flight when it is stopped."""

DEFAULT = "uvicorn-uvloop-httptools"


@dataclass(frozen=True)
class Certificate:
    """PEM files for a server that speaks TLS."""

    chain: Path
    key: Path


@dataclass(frozen=True)
class Settings:
    """What every runner is given."""

    app: ASGIApp
    listener: socket.socket
    root_path: str
    certificate: Certificate | None
    options: dict[str, Any]

    @property
    def port(self) -> int:
        return port_of(self.listener)


@dataclass(frozen=True)
class Server:
    """A server that accepts."""

    kind: str
    port: int
    tls: bool

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


class Runner(Protocol):
    """Serves until it is stopped: `run` on the server's thread, `stop` from any other."""

    def run(self) -> None: ...

    def stop(self) -> None: ...


class _Uvicorn:
    def __init__(self, settings: Settings, loop: str, http: str) -> None:
        certificate = settings.certificate
        self._listener = settings.listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                settings.app,
                loop=loop,
                http=http,
                lifespan="on",
                root_path=settings.root_path,
                log_config=None,
                timeout_graceful_shutdown=GRACE,
                ssl_certfile=certificate.chain if certificate else None,
                ssl_keyfile=certificate.key if certificate else None,
                **settings.options,
            )
        )

    def run(self) -> None:
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        self._server.should_exit = True


class _Hypercorn:
    def __init__(self, settings: Settings) -> None:
        self._app: Any = settings.app
        self._config = HypercornConfig()
        # The server owns the descriptor from here on, and closes it.
        self._config.bind = [f"fd://{settings.listener.detach()}"]
        self._config.root_path = settings.root_path
        self._config.accesslog = None
        self._config.errorlog = None
        self._config.graceful_timeout = GRACE
        if settings.certificate is not None:
            self._config.certfile = str(settings.certificate.chain)
            self._config.keyfile = str(settings.certificate.key)
        for name, setting in settings.options.items():
            setattr(self._config, name, setting)


class _HypercornAsyncio(_Hypercorn):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()

    def run(self) -> None:
        serving = hypercorn.asyncio.serve(
            self._app, self._config, shutdown_trigger=self._stopped.wait, mode="asgi"
        )
        _run_on(self._loop, serving)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)


class _HypercornTrio(_Hypercorn):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._stopped = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            if not _has_collided(error):
                raise

    def stop(self) -> None:
        if self._token is not None:
            self._token.run_sync_soon(self._stopped.set)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        await hypercorn.trio.serve(
            self._app, self._config, shutdown_trigger=self._stopped.wait, mode="asgi"
        )


def _has_collided(error: BaseException) -> bool:
    """Whether hypercorn under trio has made an end of itself, which it does (0.18) where a client
    sends octets behind a request that is being answered: its 400 collides with the answer."""
    inner = getattr(error, "exceptions", None)
    if inner is None:
        return isinstance(error, trio.BusyResourceError)
    return all(map(_has_collided, inner))


class _Granian:
    def __init__(self, settings: Settings) -> None:
        certificate = settings.certificate
        self._loop = asyncio.new_event_loop()
        self._server = EmbeddedGranian(
            settings.app,
            port=settings.port,
            interface=granian.constants.Interfaces.ASGI,
            url_path_prefix=settings.root_path or None,
            log_enabled=False,
            ssl_cert=certificate.chain if certificate else None,
            ssl_key=certificate.key if certificate else None,
            **settings.options,
        )

    def run(self) -> None:
        _run_on(self._loop, self._server.serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)


_RUNNERS: dict[str, Callable[[Settings], Runner]] = {
    "uvicorn-asyncio-h11": lambda settings: _Uvicorn(settings, "asyncio", "h11"),
    "uvicorn-asyncio-httptools": lambda settings: _Uvicorn(settings, "asyncio", "httptools"),
    "uvicorn-uvloop-h11": lambda settings: _Uvicorn(settings, "uvloop", "h11"),
    "uvicorn-uvloop-httptools": lambda settings: _Uvicorn(settings, "uvloop", "httptools"),
    "hypercorn-asyncio": _HypercornAsyncio,
    "hypercorn-trio": _HypercornTrio,
    "granian": _Granian,
}

SERVERS = tuple(_RUNNERS)
"""What `serve` takes; all but granian give back every descriptor (it keeps its listener)."""


@contextlib.contextmanager
def serve(
    app: ASGIApp,
    kind: str = DEFAULT,
    *,
    root_path: str = "",
    certificate: Certificate | None = None,
    **options: Any,
) -> Iterator[Server]:
    """Serve `app`, lifespan included, from when it accepts until the block is left.

    `options` go to uvicorn's Config, hypercorn's Config or granian's Server, whichever it is.
    What the server's thread raises is raised here, and a server that does not stop is an error.
    """
    # granian listens beside it, the others on it.
    with reserve() as listener:
        settings = Settings(app, listener, root_path, certificate, options)
        server = Server(kind, settings.port, certificate is not None)
        runner = _RUNNERS[kind](settings)
        raised: list[BaseException] = []
        thread = threading.Thread(target=_run, args=(runner, raised), name=kind, daemon=True)
        thread.start()
        try:
            wait_until(lambda: accepts(server.port) or not thread.is_alive(), f"{kind} to accept")
            if thread.is_alive():
                yield server
        finally:
            if thread.is_alive():
                runner.stop()
            thread.join(GRACE + PATIENCE)
        if raised:
            raise raised[0]
        if thread.is_alive():
            raise AssertionError(f"{kind} did not stop within {GRACE + PATIENCE} s")


def accepts(port: int) -> bool:
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), PATIENCE),
    ):
        return True
    return False


def _run_on(loop: asyncio.AbstractEventLoop, serving: Coroutine[None, None, None]) -> None:
    try:
        loop.run_until_complete(serving)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _run(runner: Runner, raised: list[BaseException]) -> None:
    try:
        runner.run()
    except BaseException as error:
        raised.append(error)
