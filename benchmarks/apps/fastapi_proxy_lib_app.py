"""fastapi-proxy-lib's app for WebSockets, as its documentation shows it."""

import httpx
from fastapi_proxy_lib.fastapi.app import (  # type: ignore[import-not-found, unused-ignore]
    reverse_ws_app,
)

from benchmarks.apps import settings

app = reverse_ws_app(
    httpx.AsyncClient(
        timeout=httpx.Timeout(settings.IDLE_TIMEOUT, connect=settings.CONNECT_TIMEOUT),
        limits=httpx.Limits(max_connections=settings.MAX_CONNECTIONS),
    ),
    base_url=f"{settings.UPSTREAM}/",
    max_message_size_bytes=settings.LARGEST_MESSAGE,
)
