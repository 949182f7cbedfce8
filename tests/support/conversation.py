"""A client that an app is called with directly, and that stands still half way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio

from .direct import Call
from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .asgi import ASGIApp, Message
    from .upstream import Upstream


async def silence() -> Message:
    """The `receive` of a client that sends nothing more and stays."""
    await anyio.sleep_forever()
    raise AssertionError("for ever is over")


class Conversation:
    """One request: it sends `pieces` of an unfinished body, and then nothing more, nor leaves."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        pieces: Iterable[bytes],
        wait: Callable[[Conversation, Upstream], object],
        *,
        send_blocks: bool = False,
    ) -> None:
        """`wait` returns when the exchange is where it stands still.

        `send_blocks`: the first octets of the response are never through.
        """
        self.pieces = list(pieces)
        self._scope = Call(method, target, [(b"host", b"relay.test"), *headers]).scope()
        self._wait = wait
        self._send_blocks = send_blocks
        self._body_came = threading.Event()

    async def __call__(self, app: ASGIApp) -> None:
        await app(self._scope, self._receive, self._send)

    async def reached(self, upstream: Upstream) -> None:
        """Wait, without holding up the loop, until the exchange stands still."""
        await anyio.to_thread.run_sync(self._wait, self, upstream)

    def wait_body(self) -> None:
        """Wait for the first octets of the response."""
        if not self._body_came.wait(PATIENCE):
            raise AssertionError("nothing of the response's body came")

    async def _receive(self) -> Message:
        if self.pieces:
            return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}
        return await silence()

    async def _send(self, message: Message) -> None:
        if message.get("body"):
            self._body_came.set()
            if self._send_blocks:
                await anyio.sleep_forever()
