"""A WebSocket that an ASGI app in this process serves."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from . import _engine
from ._loop import Port, parked
from ._pump import ABORTED, Message, Receive, Scope, Send, octets_of

App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What a server tells of an app that fails, and of a peer that vanishes (RFC 6455 §7.4.1).
_FAILED = 1011
_VANISHED = 1006


async def serve_web_socket(
    app: App, scope: Scope, call: _engine.Call, link: _engine.WebSocket, port: Port
) -> None:
    """Serve a call that is a handshake, as a server would."""
    exchange = _WebSocketExchange(call, link, port)
    try:
        await app(scope, exchange.receive, exchange.send)
    finally:
        # Where the app has closed, this changes nothing.
        link.close(_FAILED, "")
    if not exchange.complete:
        call.fail("RemoteProtocolError", "the application ended before its response")


class _WebSocketExchange:
    """`receive` and `send` of an app that serves a WebSocket."""

    def __init__(self, call: _engine.Call, link: _engine.WebSocket, port: Port) -> None:
        self._call = call
        self._link = link
        self._port = port
        self._news: deque[Message] = deque([{"type": "websocket.connect"}])
        self._end: Message | None = None
        self._accepted = False
        self.complete = False
        """Whether the handshake has its whole answer."""

    async def receive(self) -> Message:
        while not self._news:
            if self._end is not None:
                return self._end
            await parked(self._link, self._link.park, self._port)
            taken = self._link.take(None)
            if taken is not None:
                self._take(taken[3], taken[4])
        return self._news.popleft()

    def _take(self, messages: list[Any], flags: int) -> None:
        for message in messages:
            if type(message) is str:
                self._news.append({"type": "websocket.receive", "text": message})
            elif type(message) is bytes:
                self._news.append({"type": "websocket.receive", "bytes": message})
            else:
                self._leave(*message)
        if flags & ABORTED:
            self._leave(_VANISHED, "")

    def _leave(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        kind, call = message["type"], self._call
        if self._accepted:
            await self._send_on(message)
        elif kind == "websocket.accept":
            headers = list(message.get("headers", ()))
            if message.get("subprotocol"):
                choice = message["subprotocol"].encode("latin-1")
                headers.append((b"sec-websocket-protocol", choice))
            self._accepted = self.complete = True
            call.respond(101, headers)
        elif kind == "websocket.close":
            self._refuse(403, [])
            self._finish()
        elif kind == "websocket.http.response.start":
            self._refuse(message["status"], message.get("headers", ()))
        elif kind == "websocket.http.response.body":
            body = octets_of(message)
            if body and not call.push(body):
                await parked(call, call.park_writer, self._port)
            if not message.get("more_body", False):
                self._finish()
        else:
            raise RuntimeError(f"{kind!r} before the WebSocket was accepted")

    def _finish(self) -> None:
        self.complete = True
        self._call.finish()

    def _refuse(self, status: int, headers: Any) -> None:
        self._leave(_VANISHED, "")
        self._call.respond(status, headers)

    async def _send_on(self, message: Message) -> None:
        link, kind = self._link, message["type"]
        if kind == "websocket.close":
            code, reason = message.get("code", 1000), message.get("reason") or ""
            self._leave(code, reason)
            link.close(code, reason)
        elif kind == "websocket.send":
            text = message.get("text")
            if text is not None:
                room = link.send_text(text)
            else:
                room = link.send_bytes(octets_of(message, "bytes"))
            self._port.flush_soon()
            if not room:
                await parked(link, link.park_writer, self._port)
        else:
            raise RuntimeError(f"{kind!r} after the WebSocket was accepted")
