"""An app whose root is a relay to `UPSTREAM`, for servers that start it in several processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asgi_relay import Relay

if TYPE_CHECKING:
    from tests.support.asgi import Receive, Scope, Send

relay = Relay(os.environ["UPSTREAM"])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay, telling the upstream which process did."""
    if scope["type"] == "http":
        scope["headers"] = [*scope["headers"], (b"x-worker", str(os.getpid()).encode())]
    await relay(scope, receive, send)
