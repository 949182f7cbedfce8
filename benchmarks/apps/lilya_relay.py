"""lilya.contrib.proxy.relay.Relay as the whole app; only lifespan is added, which it lacks."""

import httpx2
from lilya.contrib.proxy.relay import Relay

from benchmarks.apps import settings
from benchmarks.apps.by_hand import lifespan
from benchmarks.apps.typing import Receive, Scope, Send


class App(Relay):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.startup, self.shutdown)
        else:
            await super().__call__(scope, receive, send)


app = App(
    settings.UPSTREAM,
    timeout=httpx2.Timeout(settings.IDLE_TIMEOUT, connect=settings.CONNECT_TIMEOUT),
    limits=httpx2.Limits(
        max_connections=settings.MAX_CONNECTIONS,
        max_keepalive_connections=settings.KEPT_ALIVE,
        keepalive_expiry=settings.KEPT_ALIVE_SECONDS,
    ),
)
