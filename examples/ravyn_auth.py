"""Ravyn: an auth service behind /auth. Try it: ``uvicorn examples.ravyn_auth:app``."""

import os

from ravyn import Include, Ravyn

from asgi_relay import Relay

relay = Relay(
    os.getenv("UPSTREAM_URL", "http://localhost:8001"),
    rewrite_set_cookie_domain=lambda _: "",  # cookies belong to the host that the client sees
    max_retries=2,
)

app = Ravyn(
    routes=[Include("/auth", app=relay)],  # GET /auth/login -> GET http://localhost:8001/login
    on_startup=[relay.startup],
    on_shutdown=[relay.shutdown],
)
