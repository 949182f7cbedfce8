"""Moves one exchange between the engine's mailbox and the server's `receive` and `send`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from . import _engine
from ._loop import Job, Port
from ._parameters import KINDS
from .exceptions import RelayError

# Frameworks type these as dictionaries of their own, which fit nothing narrower.
Message = Any
Scope = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Transport = Callable[[_engine.Call, Port], Any]

# The flags of `Exchange.take`.
COMPLETE: Final = 1
SLOW: Final = 2
ABORTED: Final = 4
NOTES: Final = 8
FAILED: Final = 16
# The answer is the relay's own: there is none of the upstream.
OWN: Final = 32

# A chunk of this size may have to wait for the client to read, so its leaving must be noticed.
LARGE: Final = 65536
# Messages without an octet that a server may deliver after the end of a request's body.
_EMPTY_MESSAGES: Final = 4
# Octets of a body and no flag.
_NOTHING: Final = b"", 0


class Companion:
    """What runs beside a pump: jobs, calls of an upstream in this process, lines for the log."""

    def __init__(
        self,
        exchange: _engine.Exchange | _engine.WebSocket,
        port: Port,
        receive: Receive,
        logger: logging.Logger | None,
        transport: Transport | None,
    ) -> None:
        self._ends = exchange
        self._port = port
        self._receive = receive
        self._logger = logger
        self._transport = transport
        self._jobs: list[Job] = []
        self._calls: list[tuple[_engine.Call, Job]] = []
        self._over = False
        self._error: BaseException | None = None

    def _start(self, work: Callable[[], Awaitable[None]]) -> Job:
        job = self._port.spawn(self._guarded(work))
        self._jobs.append(job)
        return job

    def _handle_notes(self) -> None:
        for note in self._ends.notes():
            if isinstance(note, tuple):
                log_event(self._logger, *note)
            elif self._transport is not None:
                job = self._port.spawn(self._transport(note, self._port))
                self._calls.append((note, job))

    async def end(self, complete: bool) -> None:
        """Stop what runs beside; nothing is left behind.

        An upstream in this process that answered to the end may go on until it returns, as under
        a server: it may have background tasks and things to close.
        """
        self._over = True
        jobs = [*self._jobs, *(job for _, job in self._calls)]
        unfinished = [job for call, job in self._calls if not self._may_go_on(call, complete)]
        for job in [*self._jobs, *unfinished]:
            job.cancel()
        try:
            for job in jobs:
                await job.wait()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def drop(self) -> None:
        """End it all without waiting for it; from any thread."""

        def end() -> None:
            self._over = True
            self._abort()
            for job in [*self._jobs, *(job for _, job in self._calls)]:
                job.cancel()

        self._port.call_soon(end)

    def _may_go_on(self, call: _engine.Call, complete: bool) -> bool:
        return complete and call.answered

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            # Begun here: a coroutine that the caller made would be lost if the job is cancelled
            # before it starts.
            await work()
        except Exception as error:
            self._error = error
            self._abort()

    def _abort(self) -> None:
        self._wake(self._ends.abort())

    def _wake(self, waiter: Any) -> None:
        if waiter is not None:
            self._port.wake(waiter)


class Pump(Companion):
    """The long way: uploads, slow answers, streams, notes. A small GET needs none of it."""

    def __init__(self, exchange: _engine.Exchange, *ends: Any) -> None:
        super().__init__(exchange, *ends)
        self._exchange = exchange
        self._watched = False
        self._kept = _NOTHING
        self._broken = False
        self.complete = False

    async def begin(self, plan: int) -> None:
        """Send the request with its body, or start to stream it."""
        if plan == 1:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._exchange.abort()
                return
            more = message.get("more_body", False)
            room = self._exchange.begin(octets_of(message), more)
            if not more:
                return
        else:
            room = self._exchange.begin(b"", True)
        self._watched = True
        self._start(lambda: self._upload(room))

    def watch(self) -> None:
        """Notice from now on when the client leaves."""
        if not self._watched:
            self._watched = True
            self._start(self._until_disconnect)

    def heed(self, flags: int) -> bool:
        """Act on what `Exchange.take` tells beside the response; `False` if the client left."""
        if flags & NOTES:
            self._handle_notes()
        if flags & SLOW:
            self.watch()
        if flags & ABORTED and self._error is not None:
            raise self._error
        return not flags & ABORTED

    def keep(self, body: bytes, flags: int) -> None:
        """Keep what came together with the head for `pass_on`."""
        self._kept = body, flags

    async def pass_on(self, send: Send) -> None:
        """Send the body, until it is `complete` or the client leaves."""
        body, more = self.first()
        while True:
            await send({"type": "http.response.body", "body": body, "more_body": more})
            if not more:
                return
            # Not to be kept through the wait for the next message.
            body = b""
            taken = await self.next()
            if taken is None:
                return
            body, more = taken
            # Nor through the wait for the client to read.
            del taken

    def first(self) -> tuple[bytes, bool]:
        """What came together with the head, perhaps nothing, and whether more comes.

        It is worth a message in any case: some servers hold the head back until then.
        """
        (body, flags), self._kept = self._kept, _NOTHING
        return self._heed_body(body, flags)

    async def next(self) -> tuple[bytes, bool] | None:
        """The next octets, and whether more come; `None` if the client left.

        Raises what broke the response off: the server must cut it short, and raising makes it.
        """
        exchange = self._exchange
        while True:
            if self._broken:
                raise self.failure()
            waiter = self._port.create_waiter()
            if exchange.park(waiter):
                await waiter
            taken = exchange.take(None)
            if taken is None:
                continue
            _, _, body, flags = taken
            if flags > COMPLETE and not self.heed(flags):
                return None
            if body or flags & COMPLETE:
                return self._heed_body(body, flags)
            self._broken = flags & FAILED != 0

    def _heed_body(self, body: bytes, flags: int) -> tuple[bytes, bool]:
        if flags & COMPLETE:
            self.complete = True
            return body, False
        self._broken = flags & FAILED != 0
        if len(body) >= LARGE:
            self.watch()
        return body, True

    async def close(self) -> None:
        """End what is not `complete`, and all that runs beside."""
        if not self.complete:
            self._abort()
        await self.end(self.complete)

    def failure(self) -> RelayError:
        """Why the response broke off."""
        name, message = self._exchange.failure()
        return KINDS.get(name, RelayError)(message)

    async def _upload(self, room: bool) -> None:
        exchange, port = self._exchange, self._port
        more = True
        while more and not self._over:
            if not room:
                waiter = port.create_waiter()
                if exchange.park_writer(waiter):
                    await waiter
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._abort()
                return
            room = exchange.push(octets_of(message))
            more = message.get("more_body", False)
        exchange.finish()
        await self._until_disconnect()

    async def _until_disconnect(self) -> None:
        empty = 0
        while not self._over and empty < _EMPTY_MESSAGES:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._abort()
                return
            empty += 1


def octets_of(message: Message, key: str = "body") -> bytes:
    """The octets of a message, which may be of any type that holds octets."""
    octets = message.get(key)
    return octets if type(octets) is bytes else bytes(octets or b"")


def log_event(logger: logging.Logger | None, name: str, fields: dict[str, Any]) -> None:
    """One line `reverse_proxy.<event> key='value' …`, with the same facts as `extra=` fields."""
    if logger is not None:
        line = " ".join(f"{key}={value!r}" for key, value in fields.items())
        logger.info("reverse_proxy.%s %s", name, line, extra={"event": name, **fields})


def plain_text(text: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a response in plain text."""
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    return headers, body


async def send_text(send: Send, status: int, text: str) -> None:
    """A whole response in plain text."""
    headers, body = plain_text(text)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
