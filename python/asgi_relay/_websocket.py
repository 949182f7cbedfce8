"""Moves one WebSocket between the engine's mailboxes and the server's `receive` and `send`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import _engine
from ._loop import Job, parked
from ._pump import (
    ABORTED,
    COMPLETE,
    FAILED,
    NOTES,
    SLOW,
    Companion,
    Message,
    Scope,
    Send,
    octets_of,
    plain_text,
)

# What a refusal needs of the server; without it there is only a close before the acceptance.
_DENIAL = "websocket.http.response"

# Octets of a refusal's body that are gathered before any of it goes out.
_GATHERED = 1024 * 1024

# Codes of RFC 6455 §7.4.1 that stand for no frame, and that of an end which goes away.
_NO_CODE = 1005
_VANISHED = 1006
_GOING_AWAY = 1001

# The flags of an end.
_OVER: Final = COMPLETE | FAILED

# Turns of the loop in which a client that has left should be heard of by `receive`, too, and in
# which a last message should be sent.
_LAST_TURNS = 10


async def _nothing() -> None:
    pass


class WebSocketPump(Companion):
    """Carries one WebSocket from its handshake to its end."""

    def __init__(
        self,
        web_socket: _engine.WebSocket,
        scope: Scope,
        send: Send,
        rewrite: Callable[[str], str | None] | None,
        *ends: Any,
    ) -> None:
        super().__init__(web_socket, *ends)
        self._web_socket = web_socket
        self._scope = scope
        self._send = send
        self._rewrite = rewrite
        self._granian = _engine.is_granian(scope)
        self._accepted = False
        self._deaf = False
        self._left = False
        self._receiving = False
        self._received = 0
        self._complete = False
        self._end: Any = None
        self._reader: Job | None = None

    async def run(self) -> None:
        """Serve the scope; `websocket.connect` has been received."""
        self._end = self._port.create_waiter()
        key = self._web_socket.park_end(self._end)
        if key is None:
            self._port.wake(self._end)
        # Both beside this: the client may leave while the upstream thinks, and one that has left
        # must not be waited for by a `send` that it does not take.
        self._reader = self._start(self._read)
        self._start(self._write)
        self._port.flush_soon()
        try:
            await self._end
            # Called off by the end of the relay: what it says last should still go.
            for _ in range(_LAST_TURNS):
                if self._over:
                    break
                await self._turn()
        finally:
            # Where the client was told of the end, there is nothing left to close.
            self._web_socket.abort()
            try:
                await self.end(self._complete)
            finally:
                if key is not None:
                    self._web_socket.unpark(key)
                self._web_socket.finish()
        # uvicorn's older implementation sends nothing to a client that has left, and says so.
        if self._error is not None and not self._left:
            raise self._error

    async def end(self, complete: bool) -> None:
        """Stop what runs beside; an app in this process may go on until the relay's end."""
        if not self._calls:
            await super().end(complete)
            return
        watch = self._port.spawn(self._guarded(self._cancel_calls))
        try:
            await super().end(complete)
        finally:
            watch.cancel()

    async def _cancel_calls(self) -> None:
        await parked(self._web_socket, self._web_socket.park_end, self._port)
        for _, job in self._calls:
            job.cancel()

    def _abort(self) -> None:
        super()._abort()
        self._finish()

    def _finish(self) -> None:
        self._over = True
        self._port.wake(self._end)

    async def _turn(self) -> None:
        """Let the loop go round."""
        await self._port.spawn(_nothing()).wait()

    def _may_go_on(self, call: _engine.Call, complete: bool) -> bool:
        # It is told of the end by its `receive`, and may have things to close.
        return self._accepted or super()._may_go_on(call, complete)

    async def _read(self) -> None:
        web_socket, port, receive = self._web_socket, self._port, self._receive
        while True:
            self._receiving = True
            if self._deaf:
                self._await_last_words()
            message = await receive()
            self._receiving = False
            self._received += 1
            if message["type"] == "websocket.disconnect":
                self._left = True
                self._wake(web_socket.close(self._code(message), message.get("reason") or ""))
                self._finish()
                return
            text = message.get("text")
            if text is not None:
                room = web_socket.send_text(text)
            else:
                room = web_socket.send_bytes(octets_of(message, "bytes"))
            # Not to be kept through the wait for the next one.
            del message, text
            if room is None:
                continue
            port.flush_soon()
            if not room:
                await parked(web_socket, web_socket.park_writer, port)

    def _code(self, message: Message) -> int | None:
        code: int | None = message.get("code")
        if code == _NO_CODE and "reason" not in message and not self._granian:
            # uvicorn's way to say that there was no close at all.
            return _VANISHED
        return code

    async def _write(self) -> None:
        self._complete = await self._write_all()
        self._finish()

    async def _write_all(self) -> bool:
        """Send what comes from the upstream; whether it came to its end."""
        web_socket, send, create_waiter = self._web_socket, self._send, self._port.create_waiter
        while True:
            # `parked`, written out: that is a coroutine less for each message.
            waiter = create_waiter()
            key = web_socket.park(waiter)
            if key is not None:
                try:
                    await waiter
                except BaseException:
                    web_socket.unpark(key)
                    raise
            taken = web_socket.take(self._rewrite)
            if taken is None:
                continue
            status, headers, subprotocol, messages, flags = taken
            # Mostly there are messages and nothing else.
            if flags:
                if flags & NOTES:
                    self._handle_notes()
                if flags & ABORTED:
                    return False
            try:
                if status:
                    if status != 101:
                        return await self._refuse(status, headers, messages, flags)
                    self._accepted = True
                    # A client fails at one that it has not offered (RFC 6455 §4.1).
                    if subprotocol not in (self._scope.get("subprotocols") or ()):
                        subprotocol = None
                    await send(
                        {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
                    )
                for message in () if self._deaf else messages:
                    if type(message) is str:
                        await send({"type": "websocket.send", "text": message})
                    elif type(message) is bytes:
                        await send({"type": "websocket.send", "bytes": message})
                    else:
                        await self._close(*message)
                if flags and flags & FAILED:
                    await self._close(_GOING_AWAY, "")
            except OSError:
                # How a server says that the client has left (ASGI's specification). What that said
                # before is still to be received, so only what comes for it is lost.
                self._deaf = True
                if self._receiving:
                    self._await_last_words()
            if flags and flags & _OVER:
                return True
            # Not to be kept through the wait for the next ones.
            del taken, messages
            message = None

    async def _refuse(self, status: int, headers: Any, messages: list[Any], flags: int) -> bool:
        """Send a refusal, once it is whole or takes long; whether it came whole."""
        refusal = Refusal(self._scope, self._send, status, headers)
        body = b"".join(messages)
        while refusal.add(body, flags):
            body, flags = await self._more_of_refusal()
            if flags & ABORTED:
                return False
        await self._stop_reading()
        await refusal.send()
        if refusal.goes_on and not self._granian:
            # It may have no end, so that the client's leaving must be heard of again.
            self._reader = self._start(self._read)
        while refusal.goes_on:
            await refusal.send_on(*await self._more_of_refusal())
        return refusal.came_whole

    async def _more_of_refusal(self) -> tuple[bytes, int]:
        await parked(self._web_socket, self._web_socket.park, self._port)
        taken = self._web_socket.take(None)
        messages, flags = (taken[3], taken[4]) if taken is not None else ([], 0)
        if flags & NOTES:
            self._handle_notes()
        return b"".join(messages), flags

    async def _close(self, code: int, reason: str) -> None:
        if not self._deaf:
            await self._stop_reading()
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def _await_last_words(self) -> None:
        number = self._received

        async def wait() -> None:
            for _ in range(_LAST_TURNS):
                await self._turn()
            if self._received == number and self._receiving:
                self._finish()

        self._start(wait)

    async def _stop_reading(self) -> None:
        """Before the end: granian sends none while a `receive` waits."""
        if self._reader is not None:
            self._reader.cancel()
            await self._reader.wait()


class Refusal:
    """An answer to a handshake that is no acceptance.

    It goes out when all of its body is there, as one message, which is all that granian takes;
    uvicorn's older implementation forgets what comes behind the head in another turn of the loop.
    A body that takes long goes out as it comes.
    """

    def __init__(self, scope: Scope, send: Send, status: int, headers: Any) -> None:
        self._whole = _DENIAL in (scope.get("extensions") or ())
        self._send = send
        if _engine.is_granian(scope):
            headers = without_repeats(headers)
        self._start: Any = {"type": f"{_DENIAL}.start", "status": status, "headers": headers}
        self._pieces: list[bytes] = []
        self._size = 0
        self._flags = 0

    def add(self, octets: bytes, flags: int) -> bool:
        """Take what has come of the body; whether to wait for more before `send`."""
        self._pieces.append(octets)
        self._size += len(octets)
        self._flags = flags
        return self._whole and not flags & (_OVER | SLOW) and self._size < _GATHERED

    @property
    def goes_on(self) -> bool:
        """Whether there is more to be sent, as it comes."""
        return self._whole and not self._flags & (_OVER | ABORTED)

    @property
    def came_whole(self) -> bool:
        return self._flags & COMPLETE != 0

    async def send(self) -> None:
        """Send what there is of it."""
        if self._whole:
            await self._send(self._start)
            await self.send_on(b"".join(self._pieces), self._flags)
        else:
            await self._send({"type": "websocket.close", "code": 1000, "reason": ""})

    async def send_on(self, body: bytes, flags: int) -> None:
        """Send more of its body."""
        self._flags = flags
        if not flags & (FAILED | ABORTED):
            more = not flags & COMPLETE
            await self._send({"type": f"{_DENIAL}.body", "body": body, "more_body": more})


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
    headers, body = plain_text(text)
    refusal = Refusal(scope, send, status, headers)
    refusal.add(body, COMPLETE)
    await refusal.send()
