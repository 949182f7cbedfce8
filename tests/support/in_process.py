"""Upstreams in this process: apps of WebSockets, in each kind of transport."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2

from asgi_relay import ASGITransport, Relay

from .session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .asgi import ASGIApp, Message, Receive, Scope, Send

URL = "http://app.test:8000/base"

TRANSPORTS: dict[str, Callable[[ASGIApp], Any]] = {
    "ours": ASGITransport,
    "httpx": lambda app: httpx.ASGITransport(app=app),
    "httpx2": lambda app: httpx2.ASGITransport(app=app),
}


class WebSocketApp:
    """An app that accepts and then does what it was made with; what it got stays to be seen."""

    def __init__(self, talk: Any = None, **accept: Any) -> None:
        self._talk = talk
        self._accept = accept
        self.scopes: list[Scope] = []
        self.received: list[Message] = []
        self.gone = anyio.Event()
        """Set when it returns or is cancelled."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)

        async def record() -> Message:
            message = await receive()
            self.received.append(message)
            return message

        try:
            assert (await record())["type"] == "websocket.connect"
            await send({"type": "websocket.accept", **self._accept})
            await (self._talk or until_disconnect)(record, send)
        finally:
            self.gone.set()


async def until_disconnect(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def echo(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def relay_to(app: Any, kind: str = "ours", **parameters: Any) -> Relay:
    return Relay(URL, transport=TRANSPORTS[kind](app), **parameters)


@contextlib.asynccontextmanager
async def opened(relay: Relay, *arguments: Any, **more: Any) -> AsyncIterator[Session]:
    async with relay, Session(*arguments, **more).run(relay) as session:
        yield session
