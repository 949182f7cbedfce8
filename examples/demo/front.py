"""The front: a Ravyn app with a route of its own, which relays all of /auth to the upstream.

This is all that an application needs in order to use Relay.
"""

import os

from ravyn import Gateway, Include, Ravyn, get

from asgi_relay import Relay, Timeout

from . import READ_TIMEOUT

relay = Relay(
    os.environ["UPSTREAM_URL"],
    rewrite_set_cookie_domain=lambda _: "",
    timeout=Timeout(read=READ_TIMEOUT),
)


async def home() -> str:
    """A route of the application's own, beside the relayed ones."""
    return "the front's own page"


app = Ravyn(
    routes=[Gateway(handler=get("/")(home)), Include("/auth", app=relay)],
    on_startup=[relay.startup],
    on_shutdown=[relay.shutdown],
)
