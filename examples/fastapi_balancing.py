"""The fastest of several healthy upstreams. Try it: ``uvicorn examples.fastapi_balancing:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, WebSocket

from asgi_relay.fastapi import HealthChecker, LoadBalancer, Proxy

checker = HealthChecker(
    ["http://localhost:8001", "http://localhost:8002"], interval=5, ping_path="/health"
)
balancer = LoadBalancer(checker)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Check the upstreams before the first request comes, and from then on."""
    async with Proxy(app), checker:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, float | bool]:
    """By upstream, its milliseconds to an answer, or false."""
    return checker.status


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"], response_model=None)
async def gateway(request: Request, path: str) -> Response:
    """Ask the fastest; the octets of the path are the client's, although `path` is decoded."""
    return await balancer.proxy_pass(request, path=f"/{path}")


@app.websocket("/{path:path}")
async def websocket_gateway(websocket: WebSocket, path: str) -> None:
    """Carry a WebSocket to the fastest."""
    await balancer.proxy_pass_websocket(websocket, path=f"/{path}")
