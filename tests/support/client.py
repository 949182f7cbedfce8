"""A raw HTTP/1.1 client: it sends any octets, and tells how and when each part of the answer came.

It never retries, pools or decodes: what a test asserts is what was on the wire.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import wire
from .wire import ClosedError, Reader

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator
    from types import TracebackType

PATIENCE = 10.0
"""Seconds without a single octet after which a read fails the test with TimeoutError."""


class TruncatedError(EOFError):
    """The response ended short of its framing, as a client sees it: `after` octets of the body."""

    def __init__(self, after: int, reset: bool) -> None:
        super().__init__(f"truncated after {after} octets" + (", by RST" if reset else ""))
        self.after = after
        self.reset = reset


@dataclass
class Response:
    """A response head, and the body once it has been read."""

    status: int
    reason: bytes
    version: bytes
    headers: wire.Headers
    raw_head: bytes
    at: float
    """time.monotonic() when the head was complete."""
    body: bytes = b""
    interim: list[int] = field(default_factory=list)
    """The 1xx statuses that came before."""

    def value(self, name: str) -> bytes | None:
        return wire.value(self.headers, name)

    def values(self, name: str) -> list[bytes]:
        return wire.values(self.headers, name)


@dataclass(frozen=True)
class Piece:
    """A part of a body, and time.monotonic() when it came."""

    data: bytes
    at: float


class Client:
    """One connection to a server; `with Client(port) as client:`."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        timeout: float = PATIENCE,
    ) -> None:
        """`receive_buffer` is SO_RCVBUF, for tests in which the client stops reading."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((host, port))
            self.sock = tls.wrap_socket(sock, server_hostname=host) if tls is not None else sock
        except OSError:
            sock.close()
            raise
        self.reader = Reader(self.sock)
        self._methods: list[bytes] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- sending -----------------------------------------------------------------------------

    def send(self, *octets: bytes) -> None:
        """Send octets as they are. `read` then has to be told of a HEAD request."""
        self.sock.sendall(b"".join(octets))

    def start(
        self,
        method: str | bytes = b"GET",
        target: str | bytes = b"/",
        headers: wire.HeaderItems = (),
        *,
        host: str | bytes | None = b"relay.test",
        length: int | None = None,
        chunked: bool = False,
    ) -> None:
        """Send a request's head; its body, if there is one, comes with `send` or `send_chunks`."""
        verb, path = wire.octets(method), wire.octets(target)
        fields: list[tuple[bytes | str, bytes | str]] = [("Host", host)] if host is not None else []
        fields += headers
        if length is not None:
            fields.append(("Content-Length", str(length)))
        if chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        self._methods.append(verb)
        self.send(wire.head(b"%s %s HTTP/1.1" % (verb, path), fields))

    def send_chunks(self, chunks: Iterable[bytes], *, last: bool = True) -> None:
        """Send chunks of a chunked body; `last` ends it."""
        for data in chunks:
            self.send(wire.chunk(data))
        if last:
            self.send(b"0\r\n\r\n")

    def request(
        self,
        method: str | bytes = b"GET",
        target: str | bytes = b"/",
        headers: wire.HeaderItems = (),
        body: bytes | None = None,
        *,
        host: str | bytes | None = b"relay.test",
    ) -> Response:
        """One whole exchange; the body with a Content-Length if there is one."""
        self.start(method, target, headers, host=host, length=None if body is None else len(body))
        if body:
            # An upstream that answers early may not want it; what it says is read all the same.
            with contextlib.suppress(ConnectionError):
                self.send(body)
        return self.read()

    # -- receiving ---------------------------------------------------------------------------

    def read(self, *, method: bytes | None = None) -> Response:
        """A whole response; TruncatedError if it ends short of its framing."""
        response = self.read_head()
        response.body = b"".join(piece.data for piece in self.pieces(response, method=method))
        return response

    def read_head(self) -> Response:
        """The head of the next response that is not an interim one."""
        interim: list[int] = []
        while True:
            try:
                raw = self.reader.head()
            except (ClosedError, ConnectionError) as error:
                raise TruncatedError(0, isinstance(error, ConnectionError)) from error
            first, headers = wire.parse_head(raw)
            version, status, reason = (first + b" ").split(b" ", 2)
            code = int(status)
            if code >= 200 or code == 101:
                now = time.monotonic()
                return Response(code, reason.strip(), version, headers, raw, now, interim=interim)
            interim.append(code)

    def pieces(self, response: Response, *, method: bytes | None = None) -> Iterator[Piece]:
        """The body as it arrives; TruncatedError if it ends short of its framing."""
        asked = method or (self._methods.pop(0) if self._methods else b"GET")
        taken = 0
        try:
            for data in self._framed(response, asked):
                taken += len(data)
                yield Piece(data, time.monotonic())
        except (ClosedError, ConnectionError) as error:
            raise TruncatedError(taken, isinstance(error, ConnectionError)) from error

    def _framed(self, response: Response, method: bytes) -> Iterator[bytes]:
        if method == b"HEAD" or response.status in (204, 304):
            return iter(())
        if wire.is_chunked(response.headers):
            return wire.read_chunked(self.reader)
        length = wire.content_length(response.headers)
        if length is not None:
            return wire.read_length(self.reader, length)
        return wire.read_to_end(self.reader)

    def read_until_closed(self) -> bytes:
        """Everything until the server closes; also shows octets that no response accounts for."""
        data = self.reader.take_pending()
        with contextlib.suppress(ClosedError, ConnectionError):
            while True:
                data += self.reader.some()
        return data

    # -- leaving -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Send FIN and keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave with FIN (the kernel makes it an RST if something is unread)."""
        self.sock.close()

    def abort(self) -> None:
        """Leave with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


def fetch(
    port: int,
    target: str | bytes = b"/",
    *,
    method: str | bytes = b"GET",
    headers: wire.HeaderItems = (),
    body: bytes | None = None,
    host: str | bytes | None = b"relay.test",
    tls: ssl.SSLContext | None = None,
) -> Response:
    """One exchange on a connection of its own, closed by us."""
    with Client(port, tls=tls) as client:
        return client.request(method, target, headers, body, host=host)
