"""What comes from a request's client: its body, or what has been read of that, and its leaving."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
from starlette.requests import Request

from .._pump import Message, Receive
from ._errors import failure

# Octets of a body that are kept for another upstream, should the first one fail; what an engine
# that cannot connect has taken before it knows is less.
_KEPT: Final = 256 * 1024
# What a message counts for beside its octets.
_MESSAGE_COST: Final = 512
_CLIENT: Final = "asgi_relay.client"
_UPLOAD: Final = "asgi_relay.upload"
# Of the longest length that there is.
_DIGITS: Final = 19
_PARTLY: Final = "part of the request's body was read as a stream, and nothing has kept it"


class Client:
    """A request's `receive` for all that wait for its client to leave.

    One of them reads, and the others wait: some servers tell only one, and only once.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._busy = False
        # Set when that is over; only there while somebody waits for it.
        self._free: anyio.Event | None = None
        self._left: Message | None = None

    async def receive(self) -> Message:
        """The next message; once the client has left, that."""
        while self._busy:
            self._free = self._free or anyio.Event()
            await self._free.wait()
        if self._left is not None:
            return self._left
        self._busy = True
        try:
            message = await self._receive()
        finally:
            self._busy = False
            if self._free is not None:
                self._free.set()
                self._free = None
        if message["type"] == "http.disconnect":
            self._left = message
        return message


def receive_of(request: Request) -> Receive:
    """The request's `receive`, to be awaited by any number of tasks."""
    client: Client | None = request.scope.get(_CLIENT)
    if client is None:
        client = request.scope[_CLIENT] = Client(request.receive)
    return client.receive


class Upload:
    """The client's body as `receive` delivers it; kept from its start, up to a limit.

    One reader at a time: a second one would have what the first one lacks.
    """

    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive = receive
        # Octets that are still to come, where that is known.
        self._left = length
        self._messages: list[Message] | None = []
        self._cost = 0
        self._next = 0
        self._busy = False

    async def receive(self) -> Message:
        """The next message: one of those that were kept, or the client's.

        Raises `RuntimeError` where the body ends and has begun before this.
        """
        messages = self._messages
        if messages is None or self._next >= len(messages):
            message = await self._receive()
            if message["type"] == "http.request":
                self._count(message)
                if messages is not None:
                    self._keep(messages, message)
        else:
            message = messages[self._next]
        self._next += 1
        if not message.get("more_body", False):
            self.release()
        return message

    def _count(self, message: Message) -> None:
        if self._left is not None:
            self._left -= len(message.get("body", b""))
            if self._left > 0 and not message.get("more_body", False):
                raise RuntimeError(_PARTLY)

    def _keep(self, messages: list[Message], message: Message) -> None:
        self._cost += len(message.get("body", b"")) + _MESSAGE_COST
        if self._cost > _KEPT:
            self.forget()
        else:
            messages.append(message)

    def begin(self) -> None:
        """Let somebody read it from its start.

        Raises `HTTPException` where too much of it is gone, and `RuntimeError` while another reads.
        """
        if self._busy:
            raise RuntimeError(
                "the request's body is on its way to another upstream; `await request.body()` first"
            )
        if self._messages is None:
            text = "Upstream error: the request's body is too long to be sent to another upstream"
            raise failure(502, text)
        self._busy = True
        self._next = 0

    def release(self) -> None:
        """Its reader reads no more."""
        self._busy = False

    def forget(self) -> None:
        """Keep nothing any more."""
        self._messages = None


def upload_of(request: Request) -> Upload:
    """The body of a request, to be read from its start."""
    scope: Any = request.scope
    upload: Upload | None = scope.get(_UPLOAD)
    if upload is None:
        if request._stream_consumed:
            raise RuntimeError("the request's body was read as a stream, and nothing has kept it")
        # As whoever reads it in another way should be told, instead of waiting for ever.
        request._stream_consumed = True
        upload = scope[_UPLOAD] = Upload(receive_of(request), _length(request))
    upload.begin()
    return upload


def _length(request: Request) -> int | None:
    """How long the client says its body is."""
    text = request.headers.get("content-length", "")
    chunked = "transfer-encoding" in request.headers
    return None if chunked or not text.isdecimal() or len(text) > _DIGITS else int(text)


def forget_upload(scope: Any) -> None:
    """The response begins: no other upstream will be asked."""
    upload = scope.get(_UPLOAD)
    if upload is not None:
        upload.forget()


def let_go(scope: Any) -> None:
    """The response has ended: nobody needs what the scope keeps, which refers to the scope."""
    scope.pop(_CLIENT, None)
    scope.pop(_UPLOAD, None)


def beyond_body(receive: Receive) -> Receive:
    """`receive` without the client's body, which nobody wants."""
    ended = False

    async def receive_rest() -> Message:
        nonlocal ended
        while True:
            message = await receive()
            if ended or message["type"] != "http.request":
                return message
            ended = not message.get("more_body", False)

    return receive_rest


def streamed(pieces: AsyncIterator[bytes], receive: Receive) -> Receive:
    """`receive` for a body that is made here; behind it, the client's."""
    ended = False

    async def receive_piece() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        piece = await anext(pieces, b"")
        ended = not piece
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return receive_piece
