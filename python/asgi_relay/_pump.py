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

# A chunk of this size may have to wait for the client to read, so its leaving must be noticed.
LARGE: Final = 65536
# Messages without an octet that a server may deliver after the end of a request's body.
_EMPTY_MESSAGES: Final = 4


class Pump:
    """The long way: uploads, slow answers, streams, notes. A small GET needs none of it."""

    def __init__(
        self,
        exchange: _engine.Exchange,
        port: Port,
        receive: Receive,
        logger: logging.Logger | None,
        transport: Transport | None,
    ) -> None:
        self._exchange = exchange
        self._port = port
        self._receive = receive
        self._logger = logger
        self._transport = transport
        self._jobs: list[Job] = []
        self._calls: list[tuple[_engine.Call, Job]] = []
        self._watched = False
        self._over = False
        self._error: BaseException | None = None

    async def begin(self, plan: int) -> None:
        """Send the request with its body, or start to stream it."""
        if plan == 1:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._exchange.abort()
                return
            more = message.get("more_body", False)
            room = self._exchange.begin(_octets(message), more)
            if not more:
                return
        else:
            room = self._exchange.begin(b"", True)
        self._watched = True
        self._jobs.append(self._port.spawn(self._upload(room)))

    def watch(self) -> None:
        """Notice from now on when the client leaves."""
        if not self._watched:
            self._watched = True
            self._jobs.append(self._port.spawn(self._guarded(self._until_disconnect)))

    def heed(self, flags: int) -> bool:
        """Act on what `Exchange.take` tells beside the response; `False` if the client left."""
        if flags & NOTES:
            self._handle_notes()
        if flags & SLOW:
            self.watch()
        if flags & ABORTED and self._error is not None:
            raise self._error
        return not flags & ABORTED

    def _handle_notes(self) -> None:
        for note in self._exchange.notes():
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
        unfinished = [job for call, job in self._calls if not (complete and call.answered)]
        for job in [*self._jobs, *unfinished]:
            job.cancel()
        try:
            for job in jobs:
                await job.wait()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def failure(self) -> RelayError:
        """Why the response broke off."""
        name, message = self._exchange.failure()
        return KINDS.get(name, RelayError)(message)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            # Begun here: a coroutine that the caller made would be lost if the job is cancelled
            # before it starts.
            await work()
        except Exception as error:
            self._error = error
            self._abort()

    async def _upload(self, room: bool) -> None:
        await self._guarded(lambda: self._upload_rest(room))

    async def _upload_rest(self, room: bool) -> None:
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
            room = exchange.push(_octets(message))
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

    def _abort(self) -> None:
        waiter = self._exchange.abort()
        if waiter is not None:
            self._port.wake(waiter)


def _octets(message: Message) -> bytes:
    body = message.get("body", b"")
    return body if type(body) is bytes else bytes(body)


def log_event(logger: logging.Logger | None, name: str, fields: dict[str, Any]) -> None:
    """One line `reverse_proxy.<event> key='value' …`, with the same facts as `extra=` fields."""
    if logger is not None:
        line = " ".join(f"{key}={value!r}" for key, value in fields.items())
        logger.info("reverse_proxy.%s %s", name, line, extra={"event": name, **fields})


async def send_text(send: Send, status: int, text: str) -> None:
    """A whole response in plain text."""
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
