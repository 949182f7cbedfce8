"""The types of ASGI, and the few ASGI apps that tests of more than one behaviour need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """The hook that does nothing."""


async def answer_lifespan(
    receive: Receive, send: Send, on_startup: Hook = nothing, on_shutdown: Hook = nothing
) -> None:
    """Answer the lifespan scope."""
    await receive()
    await on_startup()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await on_shutdown()
    await send({"type": "lifespan.shutdown.complete"})


async def read_body(receive: Receive) -> bytes:
    """The request's body, whole."""
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def respond(
    send: Send, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """A whole response."""
    framing = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, framing]})
    await send({"type": "http.response.body", "body": body})
