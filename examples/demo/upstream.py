"""The upstream: an auth service as one would write it, which knows nothing of any proxy.

It logs users in with cookies, streams words like a language model, has a chat room, takes and gives
large bodies, and has one endpoint that never answers.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

from lilya.apps import Lilya
from lilya.requests import Request
from lilya.responses import EventStreamResponse, JSONResponse, Response, StreamingResponse
from lilya.routing import Path, WebSocketPath

from .payload import MEGABYTE, REPLY, blocks
from .room import guests, room

TOKEN_INTERVAL = 0.15


def seen(request: Request) -> dict[str, str]:
    """Say what of the request arrived here, the part that a proxy may change."""
    raw: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    names = ("host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
    line = f"{request.method} {raw.decode()}" + (f"?{query.decode()}" if query else "")
    return {"request": line} | {name: request.headers.get(name, "") for name in names}


async def login(request: Request) -> Response:
    """Open a session: one cookie for the service's own domain, one for no domain in particular."""
    user = parse_qs((await request.body()).decode()).get("user", [""])[0]
    if not user:
        return JSONResponse({"error": "user is missing"}, status_code=422)
    response = JSONResponse({"user": user, "seen": seen(request)})
    response.set_cookie("session", f"{user}-1815", domain="auth.internal", httponly=True)
    response.set_cookie("theme", "dark")
    return response


async def me(request: Request) -> Response:
    """Say whose session it is."""
    user, _, number = request.cookies.get("session", "").rpartition("-")
    if not user or number != "1815":
        return JSONResponse({"error": "not logged in"}, status_code=401)
    return JSONResponse({"user": user})


async def chat() -> Response:
    """Answer word by word, as server-sent events."""

    async def events() -> AsyncIterator[dict[str, str]]:
        for word in REPLY.split():
            yield {"data": word}
            await asyncio.sleep(TOKEN_INTERVAL)

    return EventStreamResponse(events())


async def upload(request: Request) -> Response:
    """Count and hash what comes, as it comes."""
    size, digest = 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        digest.update(chunk)
    return JSONResponse({"bytes": size, "sha256": digest.hexdigest()})


async def download(request: Request) -> Response:
    """Give as many megabytes as ``?mb=`` asks for."""
    megabytes = int(request.query_params.get("mb", "200"))

    async def body() -> AsyncIterator[bytes]:
        for block in blocks(megabytes):
            yield block

    length = {"content-length": str(megabytes * MEGABYTE)}
    return StreamingResponse(body(), headers=length, media_type="application/octet-stream")


async def hang() -> Response:
    """Never answer."""
    await asyncio.Event().wait()
    return Response(status_code=204)


app = Lilya(
    routes=[
        Path("/login", login, methods=["POST"]),
        Path("/me", me),
        Path("/chat", chat),
        Path("/upload", upload, methods=["PUT", "POST"]),
        Path("/download", download),
        Path("/hang", hang),
        WebSocketPath("/room", room),
        Path("/guests", guests),
    ]
)
