"""A stream of numbered messages, fast: a lost, moved or changed one shows; and how far one is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from . import frames
from .websocket import UpstreamPeer

if TYPE_CHECKING:
    from .asgi import ASGIApp, Message, Receive, Scope, Send
    from .websocket import WebSocketPeer

_BLOCK = random.Random(5).randbytes(1 << 20)
_NUMBER = 8


class Stream:
    """`count` binary messages of `size` octets; the counters tell from any thread how far it is."""

    def __init__(self, count: int, size: int = 65_536) -> None:
        self.count = count
        self.size = size
        self.sent = 0
        """Messages that the sender's kernel has taken."""
        self.received = 0
        """Messages that came and were right."""

    def message(self, number: int) -> bytes:
        return number.to_bytes(_NUMBER, "big") + _BLOCK[: self.size - _NUMBER]

    def send(self, peer: WebSocketPeer) -> None:
        """Send all of them, as fast as they are taken."""
        # A mask of zeros leaves the payload as it is, and costs nothing.
        mask = None if isinstance(peer, UpstreamPeer) else b"\0\0\0\0"
        head = frames.encode(frames.BINARY, b"", mask=mask, length=self.size)
        for number in range(self.count):
            peer.send(head, self.message(number))
            self.sent += 1

    def receive(self, peer: WebSocketPeer, count: int | None = None) -> None:
        """Receive so many, or all that are left."""
        for _ in range(self.count - self.received if count is None else count):
            self.check(peer.receive_message())

    def check(self, message: object) -> None:
        """The next message as it came."""
        if message != self.message(self.received):
            raise AssertionError(f"message {self.received} is wrong")
        self.received += 1


class MeteredMessages:
    """An app as it is, with the octets of the messages that it was given and that were taken of it.

    A message counts as taken when `send` has returned.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.given = 0
        self.taken = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count_given() -> Message:
            message = await receive()
            self.given += _size(message)
            return message

        async def count_taken(message: Message) -> None:
            await send(message)
            self.taken += _size(message)

        await self._app(scope, count_given, count_taken)


def _size(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or b"")
