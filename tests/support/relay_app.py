"""A Relay to serve in a process of its own: `uvicorn tests.support.relay_app:app`."""

import os

from asgi_relay import Relay

app = Relay(os.environ["RELAY_TARGET"])
