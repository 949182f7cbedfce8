"""WebSocket peers on raw sockets, for both ends: they do what a test says, well and badly.

`Accept` is a script for `Upstream`: it answers the handshake and makes a `WebSocketPeer`, which the
test talks with on its own thread, or a function on the connection's. `WebSocketClient` is the other
end, over a server. `through` sets up both with a relay between. An app is called without a server
by `session.Session`; the frames are in `frames`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import frames, wire
from .client import Client, Response
from .frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from .front import Front, relayed
from .lending import lending
from .upstream import Upstream
from .waiting import PATIENCE
from .wire import ClosedError, MalformedError, value, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from .exchange import Exchange, Request
    from .wire import Reader

ZERO_MASK = b"\0\0\0\0"
"""A mask that changes nothing, for messages so large that masking them takes long."""


class PeerClosedError(Exception):
    """A close frame came where a message was wanted."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(f"closed with {frame.code} {frame.reason!r}")
        self.code = frame.code
        self.reason = frame.reason


class WebSocketPeer:
    """One end of an open WebSocket; may be used by any one thread at a time.

    A read without an octet for PATIENCE is a TimeoutError, the end of the stream a ClosedError
    (FIN) or a ConnectionError (RST), and a frame that nobody should send a MalformedError.
    """

    def __init__(self, sock: socket.socket, reader: Reader, *, client: bool) -> None:
        self.sock = sock
        self.reader = reader
        self._client = client

    # -- sending -----------------------------------------------------------------------------

    def send(self, *octets: bytes) -> None:
        """Octets as they are."""
        self.sock.sendall(b"".join(octets))

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        mask: bytes | bool | None = None,
        rsv: int = 0,
        length: int | None = None,
    ) -> None:
        """One frame, masked as this end has to if `mask` is None; see `frames.encode`."""
        wanted = self._client if mask is None else mask
        key = wanted if isinstance(wanted, bytes) else os.urandom(4) if wanted else None
        self.send(frames.encode(opcode, payload, fin=fin, mask=key, rsv=rsv, length=length))

    def send_text(self, text: str | bytes, **options: Any) -> None:
        """Octets that are not UTF-8 go as well."""
        payload = text.encode() if isinstance(text, str) else text
        self.send_frame(TEXT, payload, **options)

    def send_binary(self, payload: bytes, **options: Any) -> None:
        self.send_frame(BINARY, payload, **options)

    def send_message(self, message: str | bytes, **options: Any) -> None:
        """Text or binary, by the type."""
        if isinstance(message, str):
            self.send_text(message, **options)
        else:
            self.send_binary(message, **options)

    def send_fragments(self, opcode: int, pieces: Iterable[bytes]) -> None:
        """One message in as many frames as there are pieces."""
        *others, last = pieces
        for number, piece in enumerate(others):
            self.send_frame(CONTINUATION if number else opcode, piece, fin=False)
        self.send_frame(CONTINUATION if others else opcode, last)

    def ping(self, payload: bytes = b"") -> None:
        self.send_frame(PING, payload)

    def pong(self, payload: bytes = b"") -> None:
        self.send_frame(PONG, payload)

    def close(self, code: int | None = 1000, reason: str | bytes = "") -> None:
        """A close frame, whatever it says; the connection stays."""
        self.send_frame(CLOSE, frames.close_payload(code, reason))

    # -- receiving ---------------------------------------------------------------------------

    def receive(self) -> Frame:
        """The next frame, of any kind."""
        return frames.read(self.reader, masked=not self._client)

    def receive_data(self) -> Frame:
        """The next frame that is no ping, which is answered, and no pong."""
        while (frame := self.receive()).opcode in (PING, PONG):
            if frame.opcode == PING:
                self.pong(frame.payload)
        return frame

    def receive_message(self) -> str | bytes:
        """The next message, its fragments joined; PeerClosedError if a close frame comes."""
        opcode, pieces = CONTINUATION, list[bytes]()
        while True:
            frame = self.receive_data()
            if frame.opcode == CLOSE:
                raise PeerClosedError(frame)
            if (frame.opcode == CONTINUATION) is not bool(pieces):
                raise MalformedError(f"opcode {frame.opcode} after {len(pieces)} fragment(s)")
            opcode = opcode or frame.opcode
            pieces.append(frame.payload)
            if frame.fin:
                payload = b"".join(pieces)
                return payload.decode() if opcode == TEXT else payload

    def expect_close(self) -> tuple[int, str]:
        """The code, 1005 for none, and the reason of the close frame that has to come next."""
        frame = self.receive_data()
        assert frame.opcode == CLOSE, f"{frame} where a close frame was wanted"
        return frame.code, frame.reason

    def expect_end(self) -> None:
        """The connection has to end next, by FIN or RST, without another frame."""
        with contextlib.suppress(ClosedError, ConnectionError):
            frame = self.receive()
            raise AssertionError(f"{frame} where the connection's end was wanted")

    def finish_close(self, code: int | None = 1000, reason: str = "") -> tuple[int, str]:
        """Close from this side: send a close frame and wait for the answer to it, skipping data."""
        self.close(code, reason)
        while (frame := self.receive_data()).opcode != CLOSE:
            pass
        return frame.code, frame.reason

    def answer_close(self) -> tuple[int, str]:
        """Wait for the other side's close frame, and send it back."""
        code, reason = self.expect_close()
        self.close(None if code == frames.NO_CODE else code, reason)
        return code, reason

    # -- leaving -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Send FIN, unless the other side has gone already, and keep reading."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)


class UpstreamPeer(WebSocketPeer):
    """The upstream's end."""

    def __init__(self, exchange: Exchange) -> None:
        self.connection = exchange.connection
        super().__init__(self.connection.sock, self.connection.reader, client=False)

    @property
    def request(self) -> Request:
        """The handshake."""
        return self.connection.requests[-1]

    def finish_close(self, code: int | None = 1000, reason: str = "") -> tuple[int, str]:
        """As for any peer, and then FIN: it is the server's to send (RFC 6455 §7.1.1)."""
        answer = super().finish_close(code, reason)
        self.finish()
        return answer

    def answer_close(self) -> tuple[int, str]:
        """As for any peer, and then FIN."""
        asked = super().answer_close()
        self.finish()
        return asked

    def vanish(self) -> None:
        """End the connection with FIN, without a close frame."""
        self.connection.close()

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.reset()

    def wait_closed(self, timeout: float = PATIENCE) -> float:
        """Wait until the other side has ended the connection; when that was noticed."""
        return self.connection.wait_closed(timeout)

    def park(self) -> None:
        """Do nothing, even when the other side leaves, until the test is over."""
        self.connection.leaving.wait()


def park(peer: UpstreamPeer) -> None:
    """Leave everything to the test's own thread."""
    peer.park()


def echo(peer: UpstreamPeer) -> None:
    """Send every message back, and the close frame too."""
    with contextlib.suppress(PeerClosedError):
        while True:
            try:
                peer.send_message(peer.receive_message())
            except PeerClosedError as closed:
                peer.close(None if closed.code == frames.NO_CODE else closed.code, closed.reason)
                raise


class Accept:
    """A script for `Upstream`: answers a handshake with 101, and hands the connection over.

    `talk` is called with the `UpstreamPeer` on the connection's thread, and the connection ends
    when it returns. Without it the connection is the test's: `accept.peer().send_text("hello")`.
    """

    def __init__(
        self,
        talk: Callable[[UpstreamPeer], None] = park,
        *,
        subprotocol: str | bytes | None = None,
        headers: wire.HeaderItems = (),
        status: bytes = b"101 Switching Protocols",
        upgrade: bytes | None = b"websocket",
        connection: bytes | None = b"Upgrade",
        accept: bytes | Callable[[bytes], bytes] | None = frames.accept_key,
        followed_by: bytes = b"",
    ) -> None:
        """None leaves a header line out; `followed_by` is in the segment of the 101."""
        self.talk = talk
        self._status = status
        self._lines: list[tuple[bytes | str, bytes | str | None]] = [
            ("Upgrade", upgrade),
            ("Connection", connection),
            ("Sec-WebSocket-Protocol", subprotocol),
            *headers,
        ]
        self._accept = accept
        self._followed_by = followed_by
        self.is_silent = talk is park and not followed_by
        """Whether all is left to the test."""
        self._peers: list[UpstreamPeer] = []
        self._came = threading.Condition()

    def __call__(self, exchange: Exchange) -> None:
        frames.check_handshake(exchange.request)
        # No request comes after this one, whatever the talk does.
        exchange.close()
        # What is read on the test's thread must not wait for ever.
        exchange.connection.sock.settimeout(PATIENCE)
        accept = self._accept
        if callable(accept):
            accept = accept(value(exchange.request.headers, "sec-websocket-key") or b"")
        lines = [*self._lines, ("Sec-WebSocket-Accept", accept)]
        present = [(name, text) for name, text in lines if text is not None]
        exchange.send(wire.head(b"HTTP/1.1 " + self._status, present) + self._followed_by)
        peer = UpstreamPeer(exchange)
        with self._came:
            self._peers.append(peer)
            self._came.notify_all()
        self.talk(peer)

    def peer(self, index: int = 0) -> UpstreamPeer:
        """The peer of the handshake that was answered first, or later; waits for it."""
        with self._came:
            if not self._came.wait_for(lambda: len(self._peers) > index, PATIENCE):
                raise AssertionError(f"{len(self._peers)} handshake(s), {index + 1} wanted")
            return self._peers[index]


class WebSocketClient(WebSocketPeer):
    """The client's end, over a server: `with WebSocketClient(port) as client: client.open("/x")`.

    `http` is the connection as one of HTTP, for a handshake that is sent octet by octet.
    """

    def __init__(self, port: int, **options: Any) -> None:
        """`options` are those of `Client`."""
        self.http = Client(port, **options)
        super().__init__(self.http.sock, self.http.reader, client=True)

    def __enter__(self) -> WebSocketClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def start(
        self,
        target: str | bytes = "/",
        headers: wire.HeaderItems = (),
        *,
        host: str | bytes | None = "relay.test",
        subprotocols: Iterable[str] = (),
        key: bytes | None = None,
    ) -> bytes:
        """Send the handshake alone; its key."""
        key = key or base64.b64encode(os.urandom(16))
        lines: list[tuple[bytes | str, bytes | str]] = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key),
            ("Sec-WebSocket-Version", "13"),
            *headers,
        ]
        if offered := ", ".join(subprotocols):
            lines.append(("Sec-WebSocket-Protocol", offered))
        self.http.start("GET", target, lines, host=host)
        return key

    def shake(self, target: str | bytes = "/", headers: Any = (), **options: Any) -> Response:
        """The handshake and the answer to it, whatever it is, whole; `options` as of `start`."""
        key = self.start(target, headers, **options)
        response = self.http.read_head()
        if response.status == 101:
            assert values(response.headers, "sec-websocket-accept") == [frames.accept_key(key)]
        else:
            pieces = self.http.pieces(response, method=b"GET")
            response.body = b"".join(piece.data for piece in pieces)
        return response

    def open(self, target: str | bytes = "/", headers: Any = (), **options: Any) -> Response:
        """As `shake`, and it has to succeed."""
        response = self.shake(target, headers, **options)
        assert response.status == 101, f"{response.status}: {response.body!r}"
        return response

    def vanish(self) -> None:
        """Leave with FIN, without a close frame."""
        self.http.close()

    def reset(self) -> None:
        """Leave with RST."""
        self.http.abort()


@dataclass(frozen=True)
class Through:
    """An open WebSocket through a relay, with both its ends."""

    client: WebSocketClient
    peer: UpstreamPeer
    front: Front
    upstream: Upstream
    response: Response
    """The 101 that the client got."""


@contextlib.contextmanager
def through(accept: Accept | None = None, **settings: Any) -> Iterator[Through]:
    """Open a WebSocket through `Relay(…, **settings)` behind the shared server (see `front`).

    With the fixture `ways` it is lent to the event loop in half of the tests.
    """
    accepting = accept or Accept()
    with (
        Upstream(accepting) as upstream,
        relayed(upstream.url, **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.open()
        peer = accepting.peer()
        if accepting.talk is echo:
            lending.lend(client, None)
        elif accepting.is_silent:
            lending.lend(client, peer)
        try:
            yield Through(client, peer, front, upstream, response)
        finally:
            # The relay's shutdown should not have to wait for the answer of either.
            client.vanish()
            peer.vanish()
