"""asgi_relay.Relay as the whole app, no framework around it."""

from asgi_relay import Limits, Relay, Timeout
from benchmarks.apps import settings

app = Relay(
    settings.UPSTREAM,
    timeout=Timeout(settings.IDLE_TIMEOUT, connect=settings.CONNECT_TIMEOUT),
    limits=Limits(
        max_connections=settings.MAX_CONNECTIONS,
        max_keepalive_connections=settings.KEPT_ALIVE,
        keepalive_expiry=settings.KEPT_ALIVE_SECONDS,
    ),
)
