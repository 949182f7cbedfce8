"""Lilya: a versioned API behind /api. Try it: ``uvicorn examples.lilya_app:app``."""

import os

from lilya.apps import Lilya
from lilya.routing import Include

from asgi_relay import Relay, Timeout

relay = Relay(
    os.getenv("UPSTREAM_URL", "http://localhost:8001"),
    upstream_prefix="/api/v2",
    timeout=Timeout(read=60.0),  # seconds between bytes; the other three keep their defaults
)

app = Lilya(
    routes=[Include("/api", app=relay)],  # GET /api/users -> GET http://localhost:8001/api/v2/users
    on_startup=[relay.startup],
    on_shutdown=[relay.shutdown],
)
