"""Relay a few requests with nothing installed but the wheel: a raw upstream, an app called by hand.

Asks whether a wheel loads and works on an interpreter; what it does in detail is for the tests.
"""

import asyncio
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import asgi_relay
from asgi_relay import Relay

Message = MutableMapping[str, Any]


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its own request line and body."""
    while head := await read_head(reader):
        line, _, fields = head.partition(b"\r\n")
        size = 0
        for field in fields.lower().splitlines():
            if field.startswith(b"content-length:"):
                size = int(field.split(b":")[1])
        body = line + b"|" + await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Read up to the empty line; nothing when the peer has closed."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def ask(relay: Relay, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send one request through the relay as an ASGI server would."""
    sent: list[Message] = []
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"front")]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"x=%2F",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await relay(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def check(answer: tuple[int, bytes], expected: tuple[int, bytes]) -> None:
    """Exit with both unless they are the same."""
    if answer != expected:
        sys.exit(f"the relay answered {answer}, not {expected}")


async def main() -> None:
    """GET, POST, and an upstream that has gone."""
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Relay(f"http://127.0.0.1:{port}") as relay:
        for _ in range(3):
            check(await ask(relay, "GET", "/hello"), (200, b"GET /hello?x=%2F HTTP/1.1|"))
        answer = await ask(relay, "POST", "/a%20b", b"body")
        check(answer, (200, b"POST /a%20b?x=%2F HTTP/1.1|body"))
    server.close()
    async with Relay(f"http://127.0.0.1:{port}") as relay:
        status, body = await ask(relay, "GET", "/hello")
        check((status, body[:14]), (502, b"Upstream error"))


if __name__ == "__main__":
    if Path(sys.argv[1]).resolve() not in Path(asgi_relay.__file__).resolve().parents:
        sys.exit(f"this is not the installed wheel: {asgi_relay.__file__}")
    asyncio.run(asyncio.wait_for(main(), 30))
