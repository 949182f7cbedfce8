"""The front: a Ravyn app with a route of its own, which relays all of /auth to the upstream, and
/fleet to three others.

This is all that an application needs in order to use Relay.
"""

import os
from typing import Any

from ravyn import Gateway, Include, Ravyn, get

from asgi_relay import HealthCheck, Relay, Timeout, TransportError

from . import READ_TIMEOUT

relay = Relay(
    os.environ["UPSTREAM_URL"],
    rewrite_set_cookie_domain=lambda _: "",
    timeout=Timeout(read=READ_TIMEOUT),
)


fleet = Relay(
    os.environ["INSTANCE_URLS"].split(),
    health_check=HealthCheck("/instance", interval=0.5),
    max_retries=2,
    retry_exceptions=[TransportError],
)


async def targets() -> Any:
    """How the three upstreams are."""
    return fleet.status()


async def home() -> str:
    """A route of the application's own, beside the relayed ones."""
    return "the front's own page"


app = Ravyn(
    routes=[
        Gateway(handler=get("/")(home)),
        Gateway(handler=get("/targets")(targets)),
        Include("/auth", app=relay),
        Include("/fleet", app=fleet),
    ],
    on_startup=[relay.startup, fleet.startup],
    on_shutdown=[relay.shutdown, fleet.shutdown],
)
