"""Moves one WebSocket between the engine's mailboxes and the server's `receive` and `send`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _engine
from ._loop import parked
from ._pump import ABORTED, COMPLETE, FAILED, NOTES, Companion, Message, Scope, Send, octets_of

# What a refusal needs of the server; without it there is only a close before the acceptance.
_DENIAL = "websocket.http.response"

# Octets of a refusal's body that are gathered before any of it goes out.
_GATHERED = 1024 * 1024

# Codes of RFC 6455 §7.4.1 that stand for no frame, and that of an end which goes away.
_NO_CODE = 1005
_VANISHED = 1006
_GOING_AWAY = 1001


class WebSocketPump(Companion):
    """Carries one WebSocket from its handshake to its end."""

    def __init__(self, web_socket: _engine.WebSocket, *ends: Any) -> None:
        super().__init__(web_socket, *ends)
        self._web_socket = web_socket
        self._accepted = False
        self._left = False
        self._granian = False

    async def run(
        self, scope: Scope, send: Send, rewrite: Callable[[str], str | None] | None
    ) -> None:
        """Serve the scope; `websocket.connect` has been received."""
        complete = False
        self._granian = is_granian(scope)
        # The client may leave while the upstream thinks.
        self._start(self._read)
        self._port.flush_soon()
        try:
            complete = await self._write(scope, send, rewrite)
        except Exception as error:
            # How servers tell that the client has left: uvicorn with errors of two kinds.
            if not self._left and not isinstance(error, OSError):
                raise
        finally:
            # Where the client was told of the end, there is nothing left to close.
            self._web_socket.abort()
            await self.end(complete)
        if self._error is not None:
            raise self._error

    def _may_go_on(self, call: _engine.Call, complete: bool) -> bool:
        # It is told of the end by its `receive`, and may have things to close.
        return self._accepted or super()._may_go_on(call, complete)

    async def _read(self) -> None:
        web_socket, port, receive = self._web_socket, self._port, self._receive
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._left = True
                self._wake(web_socket.close(self._code(message), message.get("reason") or ""))
                return
            text = message.get("text")
            if text is not None:
                room = web_socket.send_text(text)
            else:
                room = web_socket.send_bytes(octets_of(message, "bytes"))
            if not room:
                await parked(web_socket, web_socket.park_writer, port)

    def _code(self, message: Message) -> int | None:
        code: int | None = message.get("code")
        if code == _NO_CODE and "reason" not in message and not self._granian:
            # uvicorn's way to say that there was no close at all.
            return _VANISHED
        return code

    async def _write(
        self, scope: Scope, send: Send, rewrite: Callable[[str], str | None] | None
    ) -> bool:
        """Send what comes from the upstream; whether it came to its end."""
        web_socket, port = self._web_socket, self._port
        refusal = None
        while True:
            await parked(web_socket, web_socket.park, port)
            taken = web_socket.take(rewrite)
            if taken is None:
                continue
            status, headers, subprotocol, messages, flags = taken
            if flags & NOTES:
                self._handle_notes()
            if flags & ABORTED:
                return False
            if status == 101:
                self._accepted = True
                await send(
                    {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
                )
            elif status:
                refusal = Refusal(scope, send, status, headers)
            if refusal is not None:
                if not await refusal.body(b"".join(messages), flags):
                    return flags & COMPLETE != 0
                continue
            for message in messages:
                if type(message) is str:
                    await send({"type": "websocket.send", "text": message})
                elif type(message) is bytes:
                    await send({"type": "websocket.send", "bytes": message})
                else:
                    code, reason = message
                    await send({"type": "websocket.close", "code": code, "reason": reason})
            if flags & FAILED:
                await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": ""})
            if flags & (COMPLETE | FAILED):
                return True


class Refusal:
    """An answer to a handshake that is no acceptance.

    It goes out when all of its body is there, or more of it than is likely: uvicorn's older
    implementation forgets what comes behind the head in another turn of the loop.
    """

    def __init__(self, scope: Scope, send: Send, status: int, headers: Any) -> None:
        self._whole = _DENIAL in (scope.get("extensions") or ())
        self._send = send
        if is_granian(scope):
            headers = without_repeats(headers)
        self._start: Any = {"type": f"{_DENIAL}.start", "status": status, "headers": headers}
        self._pieces: list[bytes] = []
        self._size = 0

    async def body(self, octets: bytes, flags: int) -> bool:
        """Take what has come of the body; whether there is more to come."""
        if not self._whole:
            await self._send({"type": "websocket.close", "code": 1000, "reason": ""})
            return False
        self._pieces.append(octets)
        self._size += len(octets)
        more = not flags & (COMPLETE | FAILED)
        if more and self._size < _GATHERED:
            return True
        if self._start is not None:
            start, self._start = self._start, None
            await self._send(start)
        body = b"".join(self._pieces)
        self._pieces, self._size = [], _GATHERED
        if not flags & FAILED:
            await self._send({"type": f"{_DENIAL}.body", "body": body, "more_body": more})
        return more


def is_granian(scope: Scope) -> bool:
    """Whether granian serves: no other server offers this extension for a WebSocket."""
    return "http.response.pathsend" in (scope.get("extensions") or ())


def without_repeats(headers: Any) -> list[tuple[bytes, bytes]]:
    """Each name once, as granian (2.8) ends the process at a repeated one in a refusal.

    Values become a list (RFC 9110 §5.3); of cookies, which make no list, the first stays.
    """
    lines: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in lines:
            lines[name] = value
        elif name != b"set-cookie":
            lines[name] += b", " + value
    return list(lines.items())


async def refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    """Refuse a handshake in plain text."""
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    await Refusal(scope, send, status, headers).body(body, COMPLETE)
