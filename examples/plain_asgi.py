"""No framework: Relay is an ASGI app by itself. Try it: ``uvicorn examples.plain_asgi:app``."""

import os

from asgi_relay import Relay

# As a server's root app it answers the lifespan, and relays every path.
app = Relay(
    os.getenv("UPSTREAM_URL", "http://localhost:8001"),
    extra_request_headers={"X-Service": "front"},
    drop_request_headers=["X-Internal-Token"],
)
