"""What the two proxies written by hand have in common: headers, the request body, lifespan.

It is what a careful person would write around an HTTP client: hop-by-hop headers go, duplicates
stay, X-Forwarded-For is appended to, and a body that is already complete goes over in one piece.
"""

from collections.abc import AsyncIterator

from benchmarks.apps.typing import Hook, Receive, Scope, Send

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
NOT_FORWARDED = HOP_BY_HOP | {b"host", b"x-forwarded-for"}


def request_headers(scope: Scope) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    forwarded_for: list[str] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            forwarded_for.append(value.decode("latin-1"))
        elif name not in NOT_FORWARDED:
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    if scope["client"]:
        forwarded_for.append(scope["client"][0])
    headers.append(("x-forwarded-for", ", ".join(forwarded_for)))
    return headers


def target(scope: Scope) -> str:
    path: str = scope["raw_path"].decode("latin-1")
    query: bytes = scope["query_string"]
    return f"{path}?{query.decode('latin-1')}" if query else path


async def request_body(scope: Scope, receive: Receive) -> bytes | AsyncIterator[bytes] | None:
    """None where no body is announced, bytes where it has come whole, else the stream of it."""
    if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
        return None
    first = await receive()
    if not first.get("more_body"):
        return bytes(first.get("body", b""))
    return _rest(bytes(first.get("body", b"")), receive)


async def _rest(first: bytes, receive: Receive) -> AsyncIterator[bytes]:
    yield first
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left in the middle of its upload")
        if body := message.get("body"):
            yield body
        if not message.get("more_body"):
            return


async def lifespan(receive: Receive, send: Send, startup: Hook, shutdown: Hook) -> None:
    await receive()
    await startup()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await shutdown()
    await send({"type": "lifespan.shutdown.complete"})
