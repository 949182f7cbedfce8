"""A FastAPI or Starlette app behind one server for many tests: each test says what its endpoint is.

Starting and stopping a server takes longer than most of those tests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_relay.fastapi import Proxy, proxy_pass, proxy_pass_websocket

from .client import Client, fetch
from .client import Response as Answer
from .servers import serve
from .upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .exchange import Request as Arrived

Endpoint = Callable[[Request], Awaitable[Response]]
WebSocketEndpoint = Callable[[WebSocket], Awaitable[None]]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FRAMEWORKS = ("fastapi", "starlette")


@dataclass
class Site:
    """The server's port, and what it does with the next request; `raised` came out of that."""

    framework: str = "fastapi"
    port: int = 0
    endpoint: Endpoint | None = None
    websocket_endpoint: WebSocketEndpoint | None = None
    app: Any = None

    def passing(self, upstream: Upstream | str, **arguments: Any) -> Site:
        """Have requests and WebSockets passed on to an upstream."""
        url = upstream if isinstance(upstream, str) else upstream.url

        async def endpoint(request: Request) -> Response:
            return await proxy_pass(request, url, **arguments)

        async def websocket_endpoint(websocket: WebSocket) -> None:
            await proxy_pass_websocket(websocket, url, **arguments)

        return self.doing(endpoint, websocket_endpoint)

    def doing(self, endpoint: Endpoint, websocket: WebSocketEndpoint | None = None) -> Site:
        """Have requests answered by an endpoint."""
        self.endpoint, self.websocket_endpoint = endpoint, websocket
        return self

    def fetch(self, target: str | bytes = b"/", **options: Any) -> Answer:
        """One exchange on a connection of its own."""
        return fetch(self.port, target, **options)

    def client(self, **options: Any) -> Client:
        return Client(self.port, **options)

    async def call(self, request: Request) -> Response:
        assert self.endpoint is not None
        return await self.endpoint(request)

    async def call_websocket(self, websocket: WebSocket) -> None:
        assert self.websocket_endpoint is not None
        await self.websocket_endpoint(websocket)


def make_app(site: Site, **settings: Any) -> Any:
    """An app whose every path is the site's endpoint; `settings` are those of its `Proxy`."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with Proxy(app, **settings):
            yield

    if site.framework == "starlette":
        return Starlette(
            routes=[
                Route("/{path:path}", site.call, methods=METHODS),
                WebSocketRoute("/{path:path}", site.call_websocket),
            ],
            lifespan=lifespan,
        )
    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=METHODS, response_model=None)
    async def endpoint(request: Request) -> Response:
        return await site.call(request)

    @app.websocket("/{path:path}")
    async def websocket_endpoint(websocket: WebSocket) -> None:
        await site.call_websocket(websocket)

    return app


@contextlib.contextmanager
def served(framework: str = "fastapi", **settings: Any) -> Iterator[Site]:
    """A site behind a server, until the block is left."""
    site = Site(framework)
    site.app = make_app(site, **settings)
    with serve(site.app) as server:
        site.port = server.port
        yield site


def arrived(site: Site, upstream: Upstream, target: str | bytes = b"/x", **asked: Any) -> Arrived:
    """What arrives of a request that has to be answered with 200."""
    before = len(upstream.requests)
    response = site.fetch(target, **asked)
    assert response.status == 200, response.body
    (request,) = upstream.requests[before:]
    return request
