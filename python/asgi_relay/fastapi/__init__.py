"""A reverse proxy for the endpoints of FastAPI and Starlette.

The names and arguments are those of the package fastapi-reverse-proxy; the engine is `Relay`'s.
Needs Starlette, which `asgi_relay` itself does not.
"""

from ._balance import LoadBalancer
from ._health import HealthChecker
from ._proxy import proxy_pass, proxy_pass_websocket
from ._relays import Proxy, close_httpx_client, create_httpx_client
from ._response import RelayedResponse

__all__ = [
    "HealthChecker",
    "LoadBalancer",
    "Proxy",
    "RelayedResponse",
    "close_httpx_client",
    "create_httpx_client",
    "proxy_pass",
    "proxy_pass_websocket",
]
