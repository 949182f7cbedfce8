"""FastAPI: a service behind /auth. Try it: ``uvicorn examples.fastapi_app:app``."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from asgi_relay import Relay

relay = Relay(os.getenv("UPSTREAM_URL", "http://localhost:8001"))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep the relay's connections for as long as the app runs."""
    async with relay:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/auth", relay)  # GET /auth/login -> GET http://localhost:8001/login
