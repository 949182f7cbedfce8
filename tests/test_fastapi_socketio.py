"""The document's Socket.IO proxy: an HTTP route for polling and a WebSocket route for the upgrade.

python-engineio takes no POST without a Content-Length, so a proxy that loses it loses messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]
from fastapi import FastAPI, Request, WebSocket

from asgi_relay.fastapi import Proxy, proxy_pass, proxy_pass_websocket

from .support.servers import serve
from .support.socket_io import leave
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [
    # What aiohttp's client leaves to the garbage collector when it closes late.
    pytest.mark.usefixtures("unowned", "collected"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]

BINARY = bytes(range(256)) * 400


class Service:
    """A Socket.IO server, and the app in front; `lengths` are those of the POSTs there."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="asgi")
        self.app = socketio.ASGIApp(self.sio, on_shutdown=self.sio.shutdown)
        self.sio.on("add", self.add)
        self.sio.on("picture", self.picture)
        self.url = ""
        self.lengths: list[str | None] = []

    async def add(self, _: str, left: int, right: int) -> int:
        return left + right

    async def picture(self, sid: str, octets: bytes) -> None:
        await self.sio.emit("picture", octets[::-1], to=sid)

    def front(self) -> FastAPI:
        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with Proxy(app):
                yield

        app = FastAPI(lifespan=lifespan)

        @app.websocket("/socket.io/{path:path}")
        async def socketio_websocket(websocket: WebSocket, path: str) -> None:
            await proxy_pass_websocket(websocket, self.url)

        @app.api_route("/socket.io/{path:path}", methods=["GET", "POST"])
        async def socketio_http(request: Request, path: str) -> Any:
            if request.method == "POST":
                self.lengths.append(request.headers.get("content-length"))
            return await proxy_pass(request, self.url)

        return app


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def front(service: Service) -> Iterator[str]:
    with serve(service.app) as upstream:
        service.url = upstream.url
        with serve(service.front()) as server:
            yield server.url


@pytest.mark.parametrize(
    "transports",
    [["polling"], ["websocket"], ["polling", "websocket"]],
    ids=["polling", "websocket", "upgraded"],
)
def test_events_cross_both_ways(service: Service, front: str, transports: list[str]) -> None:
    async def session() -> None:
        pictures: asyncio.Queue[bytes] = asyncio.Queue()
        async with aiohttp.ClientSession() as http:
            sio = socketio.AsyncClient(reconnection=False, http_session=http)
            sio.on("picture", pictures.put_nowait)
            await sio.connect(
                front, headers={"Origin": front}, transports=transports, wait_timeout=PATIENCE
            )
            assert sio.transport() == transports[-1]
            assert await sio.call("add", (2, 3), timeout=PATIENCE) == 5
            await sio.emit("picture", BINARY)
            assert await asyncio.wait_for(pictures.get(), PATIENCE) == BINARY[::-1]
            await leave(sio)

    asyncio.run(session())
    assert None not in service.lengths
    assert service.lengths or transports != ["polling"]
