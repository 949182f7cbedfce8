"""Calls an ASGI app with no server between, on asyncio and trio, message by message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio

from .waiting import PATIENCE
from .wire import Headers, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .asgi import ASGIApp, Message


@dataclass
class Call:
    """One request to an app: `await call(app)`, then look at what was sent.

    The body comes in the given pieces, and then `receive` waits until `leave` is set.
    """

    method: str = "GET"
    target: str = "/"
    headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"relay.test"),)
    pieces: Iterable[bytes] = ()
    root_path: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of the scope to set, or with None to leave out."""
    sent: list[Message] = field(default_factory=list)
    leave: anyio.Event = field(default_factory=anyio.Event)
    """The client's leaving: `receive` answers with http.disconnect."""
    received: int = 0
    """How many messages the app has taken."""
    _news: anyio.Event = field(default_factory=anyio.Event)

    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": self.root_path,
            "headers": list(self.headers),
            "client": ("192.0.2.7", 50007),
            "server": ("127.0.0.1", 80),
        }
        scope.update(self.extra)
        return {name: setting for name, setting in scope.items() if setting is not None}

    async def __call__(self, app: ASGIApp) -> Call:
        left = list(self.pieces)

        async def receive() -> Message:
            self.received += 1
            if left or self.received == 1:
                piece = left.pop(0) if left else b""
                return {"type": "http.request", "body": piece, "more_body": bool(left)}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.sent.append(message)
            news, self._news = self._news, anyio.Event()
            news.set()

        await app(self.scope(), receive, send)
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the app sends; it is looked at after each message."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._news.wait()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def response_headers(self) -> Headers:
        return list(self.sent[0]["headers"])

    def response_values(self, name: str) -> list[bytes]:
        return values(self.response_headers, name)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def ended(self) -> bool:
        """Whether the response is whole, as far as the app has said."""
        return bool(self.sent) and not self.sent[-1].get("more_body", False)
