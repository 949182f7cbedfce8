"""A client that speaks HTTP/2 in the clear, stream by stream, for what a stream's end means."""

from __future__ import annotations

import socket
from collections import defaultdict
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived

from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType


class Http2Client:
    """One connection with prior knowledge (RFC 9113 §3.3); `with Http2Client(port) as client:`."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._protocol = H2Connection(H2Configuration(client_side=True))
        self._protocol.initiate_connection()
        self._came: defaultdict[int, bytes] = defaultdict(bytes)
        self._flush()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.close()

    def start(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        ended: bool = True,
    ) -> int:
        """Send a request's head; the number of its stream."""
        stream = self._protocol.get_next_available_stream_id()
        head = [(":method", method), (":path", target), (":scheme", "http")]
        head += [(":authority", "relay.test"), *headers]
        self._protocol.send_headers(stream, head, ended)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes) -> None:
        """Send a part of a body that goes on."""
        self._protocol.send_data(stream, data)
        self._flush()

    def read(self, stream: int, size: int) -> bytes:
        """So many octets of a stream's response, whatever comes for others meanwhile."""
        while len(self._came[stream]) < size:
            octets = self._sock.recv(65536)
            assert octets, f"closed after {self._came[stream]!r}"
            for event in self._protocol.receive_data(octets):
                if isinstance(event, DataReceived) and event.stream_id is not None:
                    self._came[event.stream_id] += event.data or b""
            self._flush()
        data, self._came[stream] = self._came[stream][:size], self._came[stream][size:]
        return data

    def reset(self, stream: int) -> None:
        """Give one request up, and keep the connection."""
        self._protocol.reset_stream(stream)
        self._flush()

    def _flush(self) -> None:
        self._sock.sendall(self._protocol.data_to_send())
