"""The upstream of the training: small answers, bodies, events, a chat."""

from __future__ import annotations

import json
from typing import Any

ITEM = {"name": "lamp", "price": 39.5, "tags": ["light", "desk"], "stock": 12}

ANSWERS: dict[str, tuple[int, list[tuple[bytes, bytes]]]] = {
    "/login": (200, [(b"set-cookie", b"session=1815; Domain=shop.internal; HttpOnly; Path=/")]),
    "/moved": (302, [(b"location", b"/items")]),
    "/nothing": (204, []),
    "/unchanged": (304, [(b"etag", b'"1815"')]),
    "/missing": (404, []),
    "/broken": (500, []),
}
"""Status and headers of what is answered by its path alone."""


async def service(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app."""
    if scope["type"] == "websocket":
        await chat(scope, receive, send)
    elif scope["type"] == "http":
        await answer(scope["path"], receive, send)


async def answer(path: str, receive: Any, send: Any) -> None:
    """One response, whatever the method."""
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    if path.startswith("/bytes/"):
        _, _, size, chunk = path.split("/")
        await give(int(size), int(chunk), send)
    elif path == "/events":
        await give_events(send)
    else:
        status, headers = ANSWERS.get(path, (200, []))
        body = json.dumps(received if path == "/count" else ITEM).encode()
        if status in {204, 304}:
            body = b""
        else:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        headers = [*headers, (b"content-type", b"application/json"), (b"vary", b"Accept")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def give(size: int, chunk: int, send: Any) -> None:
    """So many octets, in chunks where they are many."""
    headers = [(b"content-length", b"%d" % size)] if chunk > 60_000 else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at in range(0, size, chunk):
        body = bytes(min(chunk, size - at))
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})


async def give_events(send: Any) -> None:
    """Words, one after the other."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(100):
        body = b"data: word %d\n\n" % number
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})


async def chat(scope: Any, receive: Any, send: Any) -> None:
    """Echoes."""
    await receive()
    chosen = next(iter(scope["subprotocols"]), None)
    await send({"type": "websocket.accept", "subprotocol": chosen})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "bytes" if message.get("bytes") is not None else "text"
        await send({"type": "websocket.send", kind: message[kind]})
