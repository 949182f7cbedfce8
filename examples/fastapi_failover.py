"""A second upstream where the first is down. Try it: ``uvicorn examples.fastapi_failover:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response

from asgi_relay.fastapi import Proxy, proxy_pass

PRIMARY = "http://localhost:8001"
BACKUP = "http://localhost:8002"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the connections to upstreams for as long as the app runs."""
    async with Proxy(app):
        yield


app = FastAPI(lifespan=lifespan)


@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"], response_model=None)
async def gateway(request: Request) -> Response:
    """Ask the backup where the primary is down (502) or silent (504); the body goes there, too."""
    try:
        return await proxy_pass(request, PRIMARY, timeout=5.0)
    except HTTPException as error:
        if error.status_code not in {502, 504}:
            raise
    return await proxy_pass(request, BACKUP)
