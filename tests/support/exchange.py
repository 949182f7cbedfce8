"""One request at the scripted upstream, and what a script can do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import wire
from .waiting import PATIENCE

if TYPE_CHECKING:
    from .upstream import Connection

Script = Callable[["Exchange"], None]

_GLANCE = 0.02


class PeerGoneError(Exception):
    """The peer left, or the test ended, while a script was waiting."""


class Gate:
    """Lets a script pass so many times: a test opens it, so that it decides what comes when."""

    def __init__(self) -> None:
        self._passes = threading.Semaphore(0)
        self._thrown_open = threading.Event()

    def open(self, times: int = 1) -> None:
        self._passes.release(times)

    def throw_open(self) -> None:
        """Let everything pass from now on."""
        self._thrown_open.set()

    def passed(self, timeout: float) -> bool:
        """Use up one pass, if there is one within `timeout` seconds."""
        return self._thrown_open.is_set() or self._passes.acquire(timeout=timeout)


class Request:
    """A request as it came: names in their case, octets unchanged."""

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: bytes,
        *,
        headers: wire.Headers,
        connection: Connection,
        transcript: bytearray,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.connection = connection
        self.at = time.monotonic()
        self.body_size = 0
        """Octets of the body that were read, without the framing."""
        self.complete = threading.Event()
        """Set when the body has been read to its end, as its framing tells it."""
        self._body = bytearray()
        self._transcript = transcript

    @property
    def line(self) -> bytes:
        return b"%s %s %s" % (self.method, self.target, self.version)

    @property
    def raw(self) -> bytes:
        """The octets as they came, head and body (its first 4 MiB), as far as they were read."""
        return bytes(self._transcript)

    @property
    def body(self) -> bytes:
        """The body as far as it was read (its first 4 MiB)."""
        return bytes(self._body)

    def values(self, name: str) -> list[bytes]:
        return wire.values(self.headers, name)

    def value(self, name: str) -> bytes | None:
        return wire.value(self.headers, name)

    def wait_complete(self, timeout: float = PATIENCE) -> Request:
        if not self.complete.wait(timeout):
            raise AssertionError(f"{self.line!r}: not complete after {self.body_size} octets")
        return self

    def add(self, piece: bytes) -> None:
        self.body_size += len(piece)
        self._body += piece[: max(0, wire.RECORD_LIMIT - len(self._body))]


class Exchange:
    """What a script gets. A script that returns without an answer leaves the client waiting."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.connection = request.connection
        self.closing = False
        self._framing = self._find_framing()

    @property
    def body_read(self) -> bool:
        return self.request.complete.is_set()

    def body(self) -> Iterator[bytes]:
        """The pieces of the request's body as they arrive."""
        for piece in self._framing:
            self.request.add(piece)
            self.connection.upstream.changed()
            yield piece
        self.request.complete.set()
        self.connection.upstream.changed()

    def read_body(self) -> bytes:
        """Read the body to its end; what is recorded of it."""
        for _ in self.body():
            pass
        return self.request.body

    def send(self, *octets: bytes) -> None:
        self.connection.sock.sendall(b"".join(octets))

    def respond(self, status: int = 200, headers: wire.HeaderItems = (), body: bytes = b"") -> None:
        """A whole response in one write, framed by Content-Length; to HEAD its head alone."""
        framed = [*headers, ("Content-Length", str(len(body)))]
        self.send(wire.status_head(status, framed), b"" if self.request.method == b"HEAD" else body)

    def start(
        self, status: int = 200, headers: wire.HeaderItems = (), length: int | None = None
    ) -> None:
        """A head alone: of a body of `length` octets, or of a chunked one."""
        chunked = ("Transfer-Encoding", "chunked")
        framing = chunked if length is None else ("Content-Length", str(length))
        self.send(wire.status_head(status, [*headers, framing]))

    def chunk(self, data: bytes) -> None:
        self.send(wire.chunk(data))

    def end(self) -> None:
        """The last chunk."""
        self.send(b"0\r\n\r\n")

    def wait(self, gate: Gate, timeout: float = 60.0) -> None:
        """Wait until the test opens the gate; ends the script when the peer leaves."""
        deadline = time.monotonic() + timeout
        # Two things can end the wait and one can be blocked on, hence the glances at the other.
        while not gate.passed(_GLANCE):
            if self.connection.closed_by_peer.is_set() or self.connection.leaving.is_set():
                raise PeerGoneError(f"during {self.request.line!r}")
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody opened the gate within {timeout} s")

    def hang(self) -> None:
        """Do nothing until the peer leaves."""
        self.wait(Gate(), timeout=600)

    def close(self) -> None:
        """End the connection with FIN once the script is over, whatever was promised."""
        self.closing = True

    def reset(self) -> None:
        """End the connection with RST once the script is over."""
        self.connection.reset_on_close()
        self.closing = True

    def _find_framing(self) -> Iterator[bytes]:
        reader, headers = self.connection.reader, self.request.headers
        if wire.is_chunked(headers):
            return wire.read_chunked(reader)
        length = wire.content_length(headers) or 0
        if not length:
            self.request.complete.set()
        return wire.read_length(reader, length)
