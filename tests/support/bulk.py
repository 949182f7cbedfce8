"""Many octets through one socket, fast: a pattern in which a lost or moved octet shows."""

from __future__ import annotations

import random
import select
import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .wire import Reader

# Not a multiple of any buffer's size, so that nothing repeats in step with one.
_BLOCK = random.Random(3).randbytes(1_000_003)
_TWICE = memoryview(_BLOCK + _BLOCK)
_PIECE = 256 * 1024
_PATIENCE = 30.0


class Peer(Protocol):
    """A `Client` or an upstream's `Connection`."""

    sock: socket.socket
    reader: Reader


class Bulk:
    """`size` octets of the pattern; the counters tell from any thread how far they have got."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0
        """Octets that the sender's kernel has taken."""
        self.received = 0
        """Octets that the receiver has got and found to be right."""

    def send(self, peer: Peer, count: int | None = None) -> None:
        """Send so many octets, or all that are left."""
        goal = self.size if count is None else self.sent + count
        while self.sent < goal:
            start = self.sent % len(_BLOCK)
            piece = _TWICE[start : start + min(_PIECE, goal - self.sent)]
            try:
                # A send that waits would tell how far it has got only at its end.
                self.sent += peer.sock.send(piece, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not select.select([], [peer.sock], [], _PATIENCE)[1]:
                    raise AssertionError(f"nobody took octet {self.sent}") from None

    def receive(self, peer: Peer, count: int | None = None) -> None:
        """Receive so many octets, or all that are left."""
        goal = self.size if count is None else self.received + count
        self._compare(peer.reader.take_pending())
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)
        while self.received < goal:
            got = peer.sock.recv_into(view[: goal - self.received])
            if not got:
                raise AssertionError(f"the end came after {self.received} of {self.size} octets")
            # Equal bytes objects are compared at the speed of memory, views octet by octet.
            self._compare(buffer[:got])

    def _compare(self, got: bytes | bytearray) -> None:
        start = self.received % len(_BLOCK)
        if got != bytes(_TWICE[start : start + len(got)]):
            raise AssertionError(f"wrong octets behind the first {self.received}")
        self.received += len(got)
