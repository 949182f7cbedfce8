"""HTTP/2 that means something else in HTTP/1.1: none of it may arrive upstream."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from .support import scripts
from .support.gateway import configured
from .support.upstream import Upstream
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

Head = list[tuple[bytes, bytes]]

GET: Head = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"h.test"),
]
POST: Head = [(b":method", b"POST"), *GET[1:]]


def changed(name: bytes, *values: bytes) -> Head:
    """A head with other values of one pseudo-header, or without it."""
    others = [pair for pair in GET if pair[0] != name]
    return [(name, value) for value in values] + others


REFUSED: dict[str, tuple[Head, bytes]] = {
    "a shorter body": ([*POST, (b"content-length", b"10")], b"short"),
    "a longer body": ([*POST, (b"content-length", b"2")], b"GET /smuggled HTTP/1.1\r\n\r\n"),
    "no body": ([*POST, (b"content-length", b"10")], b""),
    "two lengths": ([*POST, (b"content-length", b"5"), (b"content-length", b"6")], b"hello"),
    "a signed length": ([*POST, (b"content-length", b"+5")], b"hello"),
    "chunked": ([*POST, (b"transfer-encoding", b"chunked")], b"0\r\n\r\nGET /smuggled"),
    "a line end in a value": ([*GET, (b"x-a", b"1\r\nx-b: 2")], b""),
    "a line feed in a value": ([*GET, (b"x-a", b"1\nx-b: 2")], b""),
    "NUL in a value": ([*GET, (b"x-a", b"a\0b")], b""),
    "a line end in a name": ([*GET, (b"x-a: 1\r\nx-b", b"2")], b""),
    "a colon in a name": ([*GET, (b"x:a", b"1")], b""),
    "a space in a name": ([*GET, (b"x a", b"1")], b""),
    "a capital in a name": ([*GET, (b"X-A", b"1")], b""),
    "an empty name": ([*GET, (b"", b"1")], b""),
    "a line end in the path": (changed(b":path", b"/ HTTP/1.1\r\nx-b: 2\r\n\r\n"), b""),
    "a space in the path": (changed(b":path", b"/a b"), b""),
    "no slash in the path": (changed(b":path", b"x"), b""),
    "an empty path": (changed(b":path", b""), b""),
    "no path": (changed(b":path"), b""),
    "two paths": (changed(b":path", b"/", b"/other"), b""),
    "no method": (changed(b":method"), b""),
    "a line end in the method": (changed(b":method", b"GET / HTTP/1.1\r\nx: "), b""),
    "a space in the method": (changed(b":method", b"GET /x"), b""),
    "a line end in the authority": (changed(b":authority", b"h\r\nx-b: 2"), b""),
    "a path in the authority": (changed(b":authority", b"h/x"), b""),
    "a user in the authority": (changed(b":authority", b"u@h"), b""),
    "no authority": (changed(b":authority"), b""),
    "an unknown pseudo-header": ([*GET, (b":x", b"1")], b""),
    "a pseudo-header that is late": ([*GET[:3], (b"x-a", b"1"), GET[3]], b""),
    "a header of the connection": ([*GET, (b"connection", b"close")], b""),
    "an upgrade": ([*GET, (b"upgrade", b"websocket")], b""),
    "another TE": ([*GET, (b"te", b"gzip")], b""),
    "an escape": (changed(b":path", b"/public/../admin"), b""),
}


class Peer:
    """A client that sends what it is told to, unchecked."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        settings = H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        self.protocol = H2Connection(settings)
        self.protocol.initiate_connection()
        self.body = b""

    def ask(self, head: Head, body: bytes = b"") -> str:
        """Send a request: the status of its answer, or "refused" if it got none."""
        stream = self.protocol.get_next_available_stream_id()
        self.protocol.send_headers(stream, head, end_stream=not body)
        if body:
            self.protocol.send_data(stream, body, end_stream=True)
        self.sock.sendall(self.protocol.data_to_send())
        self.body, status = b"", "refused"
        while True:
            octets = self.sock.recv(65536)
            if not octets:
                return status
            try:
                events = self.protocol.receive_data(octets)
            except ProtocolError:
                return status
            for event in events:
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers)[b":status"].decode()
                if isinstance(event, DataReceived):
                    self.body += event.data or b""
                if isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)):
                    return status
            self.sock.sendall(self.protocol.data_to_send())


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.reflect) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def port(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    routes = [
        {"path": "/admin", "targets": f"{upstream.url}/secret"},
        {"targets": upstream.url},
    ]
    with configured(tmp_path_factory.mktemp("gateway"), routes) as gateway:
        yield gateway.port


@pytest.fixture
def peer(port: int) -> Iterator[Peer]:
    peer = Peer(port)
    with peer.sock:
        yield peer


@pytest.mark.parametrize("name", REFUSED)
def test_it_does_not_arrive(peer: Peer, upstream: Upstream, name: str) -> None:
    before = len(upstream.requests)
    head, body = REFUSED[name]
    assert peer.ask(head, body) in ("refused", "400")
    for request in upstream.requests[before:]:
        # Of a body whose length is wrong the beginning may have gone, but no more than that.
        assert request.target == b"/"
        request.connection.wait_closed()
        assert not request.complete.is_set()


def test_what_is_good_arrives(peer: Peer) -> None:
    length = (b"content-length", b"5")
    assert peer.ask([*POST, length, (b"te", b"trailers")], b"hello") == "200"
    assert peer.body.startswith(b"POST / HTTP/1.1\r\n")
    assert peer.body.lower().count(b"content-length: 5") == 1
    assert peer.body.endswith(b"\r\n\r\nhello")
    # Cookies may be split, and are one line in HTTP/1.1 (RFC 9113 §8.2.3).
    assert peer.ask([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")]) == "200"
    assert b"\r\ncookie: a=1; b=2\r\n" in peer.body.lower()
    # The authority is the host, whatever else is said.
    assert peer.ask([*GET, (b"host", b"h.test")]) == "200"
    assert b"\r\nx-forwarded-host: h.test\r\n" in peer.body


def test_heads_are_bounded(peer: Peer, upstream: Upstream) -> None:
    before = len(upstream.requests)
    many = [(b"x-%d" % number, b"a") for number in range(200)]
    assert peer.ask([*GET, *many]) in ("431", "refused")
    assert upstream.requests[before:] == []


def test_a_flood_of_resets_is_ended(port: int, upstream: Upstream) -> None:
    """Requests that are taken back at once cost the upstream few, and others nothing."""
    before = len(upstream.requests)
    flood = Peer(port)
    with flood.sock:
        with contextlib.suppress(OSError):
            for _ in range(100):
                for _ in range(50):
                    stream = flood.protocol.get_next_available_stream_id()
                    flood.protocol.send_headers(stream, GET, end_stream=True)
                    flood.protocol.reset_stream(stream)
                flood.sock.sendall(flood.protocol.data_to_send())
        other = Peer(port)
        with other.sock:
            assert other.ask(GET) == "200"
    assert len(upstream.requests) - before < 1000
