"""FastAPI endpoints that pass requests on. Try it: ``uvicorn examples.fastapi_gateway:app``."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, WebSocket

from asgi_relay.fastapi import Proxy, proxy_pass, proxy_pass_websocket

UPSTREAM = os.getenv("UPSTREAM_URL", "http://localhost:8001")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the connections to upstreams for as long as the app runs."""
    async with Proxy(app):
        yield


app = FastAPI(lifespan=lifespan)


# Socket.IO needs both of these: it begins with requests, and then moves to a WebSocket.
@app.websocket("/socket.io/{path:path}")
async def socketio_websocket(websocket: WebSocket) -> None:
    """Carry messages both ways, close codes included."""
    await proxy_pass_websocket(websocket, UPSTREAM)


@app.api_route("/socket.io/{path:path}", methods=["GET", "POST"], response_model=None)
async def socketio_http(request: Request) -> Response:
    """Pass long polls and posts on."""
    return await proxy_pass(request, UPSTREAM)


@app.get("/users/{name}", response_model=None)
async def user(request: Request, name: str) -> Response:
    """Ask another path with another header, and change what comes back."""
    response = await proxy_pass(
        request, UPSTREAM, path=f"/api/v2/users/{name}", additional_headers={"X-Service": "front"}
    )
    response.headers["Cache-Control"] = "no-store"
    return response
