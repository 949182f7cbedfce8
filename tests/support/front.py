"""One server for the many tests in which the server does not matter: a relay at a time behind it.

Starting and stopping uvicorn takes longer than most of those tests. What differs between servers
is tested with `servers.serve`, under each of them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from asgi_relay import Relay, Timeout

from . import scripts
from .client import Client, Response, fetch
from .servers import serve
from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .asgi import Receive, Scope, Send
    from .direct import Call
    from .exchange import Script


def patience(script: Script, hanging: Script = scripts.hang, little: float = 0.4) -> Timeout:
    """Little where the upstream hangs; where it does not, a busy machine must not look like it.

    Where others answer through the same relay `little` has to be enough for them: 2.
    """
    return Timeout(read=little) if script is hanging else Timeout(read=60)


@dataclass
class Front:
    """A relay behind the server, on its loop; `raised` is what came out, for the server to see."""

    port: int
    relay: Relay
    loop: asyncio.AbstractEventLoop
    raised: list[BaseException] = field(default_factory=list)
    active: int = 0
    """How many calls of the relay are not over."""

    def client(self, **options: Any) -> Client:
        return Client(self.port, **options)

    def fetch(self, target: str | bytes = b"/", **options: Any) -> Response:
        """One exchange on a connection of its own."""
        return fetch(self.port, target, **options)


class _House:
    """The server's app: it hands requests to the relay of the test that is running."""

    def __init__(self) -> None:
        self.front: Front | None = None
        self.port = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start the server, once; it stops with the interpreter."""
        if self.loop is None:
            stack = contextlib.ExitStack()
            self.port = stack.enter_context(serve(self)).port
            # Frameworks log to the stdout that pytest had captured, and which is closed by then.
            stack.callback(logging.disable)
            atexit.register(stack.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        front = self.front
        assert front is not None, "a request although no relay is in front"
        front.active += 1
        try:
            await front.relay(scope, receive, send)
        except BaseException as error:
            front.raised.append(error)
            raise
        finally:
            front.active -= 1


_house = _House()


@contextlib.contextmanager
def relayed(target: str, **settings: Any) -> Iterator[Front]:
    """Put `Relay(target, **settings)` behind the server; shut down when the block is left."""
    _house.open()
    assert _house.front is None, "one relay at a time"
    assert _house.loop is not None
    # A test that leaves something hanging should not take the default's five seconds.
    relay = Relay(target, **{"shutdown_grace": 0.5, **settings})
    _house.front = Front(_house.port, relay, _house.loop)
    try:
        yield _house.front
    finally:
        _house.front = None
        asyncio.run_coroutine_threadsafe(relay.shutdown(), _house.loop).result(PATIENCE)


def called(call: Call, target: str, **settings: Any) -> Call:
    """Make a call to `Relay(target, **settings)` with no server between: any scope goes."""

    async def run() -> None:
        with anyio.fail_after(PATIENCE):
            async with Relay(target, **settings) as relay:
                await call(relay)

    anyio.run(run)
    return call
