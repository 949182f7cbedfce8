"""Answers a server's lifespan scope for a relay that is the root app (ASGI's lifespan protocol)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._pump import Receive, Send

if TYPE_CHECKING:
    from .relay import Relay


async def answer_lifespan(relay: Relay, receive: Receive, send: Send) -> None:
    """Start the relay with the server and shut it down with it."""
    await receive()
    try:
        await relay.startup()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await relay.shutdown()
    await send({"type": "lifespan.shutdown.complete"})
