"""fastapi-reverse-proxy, as its README has it: a FastAPI app with a catch-all route."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi_reverse_proxy import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    Proxy,
    proxy_pass,
    proxy_pass_websocket,
)

from benchmarks.apps import settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Proxy(app):
        # Proxy has no option for the limits of its client, so it gets another client.
        await app.state.http_proxy_client.aclose()
        app.state.http_proxy_client = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.IDLE_TIMEOUT, connect=settings.CONNECT_TIMEOUT),
            limits=httpx.Limits(
                max_connections=settings.MAX_CONNECTIONS,
                max_keepalive_connections=settings.KEPT_ALIVE,
                keepalive_expiry=settings.KEPT_ALIVE_SECONDS,
            ),
        )
        yield


app = FastAPI(lifespan=lifespan)


@app.api_route("/{path:path}", methods=["GET", "POST"], response_model=None)
async def index(request: Request) -> Response:
    response: Response = await proxy_pass(request, settings.UPSTREAM, timeout=settings.IDLE_TIMEOUT)
    return response


@app.websocket("/{path:path}")
async def websocket(websocket: WebSocket) -> None:
    await proxy_pass_websocket(websocket, settings.UPSTREAM)
