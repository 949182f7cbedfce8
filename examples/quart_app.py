"""Quart: a service behind /auth. Try it: ``hypercorn examples.quart_app:app``."""

import os

from hypercorn.middleware import DispatcherMiddleware
from quart import Quart

from asgi_relay import Relay

site = Quart(__name__)
relay = Relay(os.getenv("UPSTREAM_URL", "http://localhost:8001"))


@site.get("/")
async def home() -> str:
    """Answer from Quart itself."""
    return "hello"


# The dispatcher compares beginnings only, so /author would be relayed too; it hands the lifespan to
# both apps, and so the relay starts and stops by itself.
app = DispatcherMiddleware({"/auth": relay, "": site})
