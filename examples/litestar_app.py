"""Litestar: a service behind /auth. Try it: ``uvicorn examples.litestar_app:app``."""

import os

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

from asgi_relay import Relay

relay = Relay(os.getenv("UPSTREAM_URL", "http://localhost:8001"))


@asgi("/auth", is_mount=True, copy_scope=True)
async def auth(scope: Scope, receive: Receive, send: Send) -> None:
    """GET /auth/login -> GET http://localhost:8001/login."""
    await relay(scope, receive, send)


app = Litestar([auth], on_startup=[relay.startup], on_shutdown=[relay.shutdown])
