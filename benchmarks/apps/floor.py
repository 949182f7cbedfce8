"""The floor: an ASGI app that answers, or echoes, at once and has no upstream.

What it costs is the server's, so the difference to it is what a proxy adds.
"""

from benchmarks.apps.typing import Receive, Scope, Send
from benchmarks.payloads import (
    DOWNLOAD_PATH,
    EVENTS_PATH,
    FIRST_EVENT,
    RECEIVED_HEADER,
    SMALL_BODY,
    SUBPROTOCOL,
    UPLOAD_ANSWER,
    UPLOAD_PATH,
    download_body,
)

CHUNK = 64 * 1024
FILE = download_body()


def _start(content_type: bytes, *headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", content_type), *headers],
    }


SMALL_START = _start(b"application/json", (b"content-length", b"%d" % len(SMALL_BODY)))
DOWNLOAD_START = _start(b"application/octet-stream", (b"content-length", b"%d" % len(FILE)))
EVENTS_START = _start(b"text/event-stream")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif path == UPLOAD_PATH:
        await _upload(receive, send)
    elif path == DOWNLOAD_PATH:
        await _download(send)
    elif path == EVENTS_PATH:
        await _events(receive, send)
    else:
        await send(SMALL_START)
        await send({"type": "http.response.body", "body": SMALL_BODY})


async def _upload(receive: Receive, send: Send) -> None:
    received = 0
    more = True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send(
        _start(
            b"application/json",
            (b"content-length", b"%d" % len(UPLOAD_ANSWER)),
            (RECEIVED_HEADER.encode(), b"%d" % received),
        )
    )
    await send({"type": "http.response.body", "body": UPLOAD_ANSWER})


async def _download(send: Send) -> None:
    await send(DOWNLOAD_START)
    for at in range(0, len(FILE), CHUNK):
        chunk = FILE[at : at + CHUNK]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _events(receive: Receive, send: Send) -> None:
    await send(EVENTS_START)
    await send({"type": "http.response.body", "body": FIRST_EVENT, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
