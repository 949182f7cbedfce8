"""asgi_relay.fastapi in the place of fastapi-reverse-proxy: the same app with another import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, WebSocket

from asgi_relay import Limits
from asgi_relay.fastapi import Proxy, proxy_pass, proxy_pass_websocket
from benchmarks.apps import settings

LIMITS = Limits(
    max_connections=settings.MAX_CONNECTIONS,
    max_keepalive_connections=settings.KEPT_ALIVE,
    keepalive_expiry=settings.KEPT_ALIVE_SECONDS,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Proxy(app, limits=LIMITS):
        yield


app = FastAPI(lifespan=lifespan)


@app.api_route("/{path:path}", methods=["GET", "POST"], response_model=None)
async def index(request: Request) -> Response:
    return await proxy_pass(request, settings.UPSTREAM, timeout=settings.IDLE_TIMEOUT)


@app.websocket("/{path:path}")
async def websocket(websocket: WebSocket) -> None:
    await proxy_pass_websocket(websocket, settings.UPSTREAM)
