"""Each server with each of its WebSocket implementations, and what is known to differ."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from .servers import serve

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .asgi import ASGIApp
    from .servers import Server

with warnings.catch_warnings():
    # This one is deprecated and says so when it is imported, in the server's thread.
    warnings.simplefilter("ignore")
    importlib.import_module("uvicorn.protocols.websockets.websockets_impl")

DEPRECATED = "ignore:remove second argument of ws_handler:DeprecationWarning"
"""What pytest's `filterwarnings` needs for it, which warns of itself once more when it serves."""

_ENDLESS = 1 << 40
_UVICORN = "uvicorn-uvloop-httptools"

# The servers' own limits of 16 MiB would stand before anything that is to be tested.
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "uvicorn-websockets": (_UVICORN, {"ws": "websockets", "ws_max_size": _ENDLESS}),
    "uvicorn-sansio": (_UVICORN, {"ws": "websockets-sansio", "ws_max_size": _ENDLESS}),
    "uvicorn-wsproto": (
        "uvicorn-asyncio-h11",
        {"ws": "wsproto", "ws_max_size": _ENDLESS},
    ),
    "hypercorn-asyncio": ("hypercorn-asyncio", {"websocket_max_message_size": _ENDLESS}),
    "hypercorn-trio": ("hypercorn-trio", {"websocket_max_message_size": _ENDLESS}),
    "granian": ("granian", {}),
}

WEBSOCKET_SERVERS = tuple(_KINDS)
"""What `serve_websockets` takes."""


def serve_websockets(
    app: ASGIApp, kind: str = "uvicorn-sansio", **options: Any
) -> AbstractContextManager[Server]:
    """`servers.serve` under a server and its WebSocket implementation; without a size limit,
    but for granian's of 16 MiB in a frame, which cannot be lifted.
    """
    server, settings = _KINDS[kind]
    return serve(app, server, **{**settings, **options})
