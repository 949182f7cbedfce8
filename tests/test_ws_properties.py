"""Whatever an upstream sends: messages arrive as they are, and all that is none ends the WebSocket.

Hypothesis makes up the frames; what they mean is decided here a second time, in a few lines.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, encode
from .support.front import Front, relayed
from .support.lending import lending
from .support.upstream import Upstream
from .support.websocket import Accept, PeerClosedError, UpstreamPeer, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same examples each time: a run that fails can be repeated.
bounded = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MESSAGES = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.sampled_from(["", b"", "é€😀" * 50, b"\xff" * 65_536, "x" * 65_535, "€" * 70_000]),
)
CUTS = st.lists(st.integers(1, 200), max_size=8)


@dataclass
class Ends:
    """Both ends of one relay; WebSockets come and go."""

    front: Front
    accept: Accept
    _count: Iterator[int] = field(default_factory=itertools.count)

    def open(self) -> tuple[WebSocketClient, UpstreamPeer]:
        client = WebSocketClient(self.front.port)
        client.open()
        peer = self.accept.peer(next(self._count))
        lending.lend(client, peer)
        return client, peer


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    accept = Accept()
    with Upstream(accept) as upstream, relayed(upstream.url) as front:
        yield Ends(front, accept)


@pytest.fixture(scope="module")
def opened(ends: Ends) -> Iterator[tuple[WebSocketClient, UpstreamPeer]]:
    """One WebSocket for all that leaves it open."""
    client, peer = ends.open()
    with client:
        yield client, peer
        client.vanish()
        peer.vanish()


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    """Pieces of these lengths, and what is left."""
    places = [0, *itertools.accumulate(cuts), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(places)]


# -- messages ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ways")
@bounded
@given(
    messages=st.lists(st.tuples(MESSAGES, CUTS, st.binary(max_size=125)), min_size=1, max_size=5),
    segments=CUTS,
)
@example(messages=[("😀", [1, 1, 1], b"")], segments=[1] * 8)
def test_any_messages_in_any_fragments_and_segments(
    ends: Ends,
    messages: list[tuple[str | bytes, list[int], bytes]],
    segments: list[int],
) -> None:
    client, peer = ends.open()
    octets = b""
    for message, cuts, ping in messages:
        opcode, payload = (
            (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        )
        pieces = cut(payload, cuts)
        for number, piece in enumerate(pieces):
            fin = number == len(pieces) - 1
            octets += encode(CONTINUATION if number else opcode, piece, fin=fin)
            octets += encode(PONG, ping) if number % 2 else b""
    with client:
        for piece in cut(octets, segments):
            peer.send(piece)
        for message, _, _ in messages:
            assert client.receive_message() == message
    peer.vanish()


@bounded
@given(
    messages=st.lists(st.tuples(MESSAGES, CUTS), min_size=1, max_size=5),
    masked=st.binary(min_size=4, max_size=4),
)
def test_any_messages_of_the_client(
    opened: tuple[WebSocketClient, UpstreamPeer],
    messages: list[tuple[str | bytes, list[int]]],
    masked: bytes,
) -> None:
    client, peer = opened
    for message, cuts in messages:
        opcode, payload = (
            (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        )
        pieces = cut(payload, cuts)
        for number, piece in enumerate(pieces):
            fin = number == len(pieces) - 1
            client.send_frame(CONTINUATION if number else opcode, piece, fin=fin, mask=masked)
    assert [peer.receive_message() for _ in messages] == [message for message, _ in messages]


# -- anything ------------------------------------------------------------------------------------

PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.sampled_from([b"", b"\xe2\x82", b"\xac", b"x" * 126, close_payload(1000, "bye")]),
)
FRAMES = st.builds(
    encode,
    st.sampled_from([CONTINUATION, TEXT, BINARY, TEXT, BINARY, CONTINUATION, PING, PONG, 3, 11]),
    PAYLOADS,
    fin=st.sampled_from([True, True, False]),
    mask=st.sampled_from([None, None, None, None, b"mask"]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1, 4]),
)
CLOSES = st.builds(
    lambda code, reason: encode(CLOSE, close_payload(code, reason)),
    st.sampled_from([None, 0, 999, 1000, 1001, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000]),
    st.sampled_from([b"", "é".encode(), b"\xff"]),
)
GARBAGE = st.binary(min_size=1, max_size=10)


def meaning(octets: bytes) -> tuple[list[str | bytes], int | None]:
    """The messages, and the code of a close; 1011 for a fault and None where it goes on."""
    messages: list[str | bytes] = []
    opcode, pieces = CONTINUATION, list[bytes]()
    while len(octets) >= 2:
        first, second = octets[:2]
        kind, fin, size, skip = first & 15, bool(first & 0x80), second & 127, 2
        control = kind >= CLOSE
        if first & 0x70 or kind not in (0, 1, 2, 8, 9, 10):
            return messages, 1011
        if control and (not fin or size > 125):
            return messages, 1011
        if not control and (kind == CONTINUATION) is not bool(pieces):
            return messages, 1011
        if size >= 126:
            skip = 4 if size == 126 else 10
            size = int.from_bytes(octets[2:skip], "big")
        if second & 0x80:
            return messages, 1011
        if len(octets) < skip + size:
            break
        payload, octets = octets[skip : skip + size], octets[skip + size :]
        if kind == CLOSE:
            return messages, closing(payload)
        if control:
            continue
        opcode = kind or opcode
        pieces.append(payload)
        if fin:
            try:
                messages.append(b"".join(pieces).decode() if opcode == TEXT else b"".join(pieces))
            except UnicodeDecodeError:
                return messages, 1011
            pieces = []
    return messages, None


def closing(payload: bytes) -> int:
    code = int.from_bytes(payload[:2], "big")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return 1011
    if not payload:
        return 1000
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    return code if len(payload) > 1 and (known or 3000 <= code <= 4999) else 1011


@pytest.mark.usefixtures("ways")
@bounded
@given(parts=st.lists(st.one_of(FRAMES, FRAMES, FRAMES, CLOSES, GARBAGE), max_size=6))
@example(parts=[])
@example(parts=[encode(TEXT, b"a", fin=False), encode(CLOSE, close_payload(4000))])
@example(parts=[encode(TEXT, b"a"), b"\x81"])
def test_any_octets_are_messages_or_an_end(ends: Ends, parts: list[bytes]) -> None:
    octets = b"".join(parts)
    messages, code = meaning(octets)
    client, peer = ends.open()
    with client:
        peer.send(octets)
        peer.finish()
        # A connection that ends without a close has failed too.
        for message in messages:
            assert client.receive_message() == message
        with pytest.raises(PeerClosedError) as closed:
            client.receive_message()
    assert closed.value.code == (1011 if code is None else code)
    peer.vanish()
