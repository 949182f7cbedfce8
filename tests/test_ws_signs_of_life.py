"""What counts as a sign of life of an upstream that was asked for one: any octet.

When it is asked, and what becomes of one that gives none, is in test_ws_liveness.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from .support.abreast import abreast
from .support.frames import BINARY, CONTINUATION, PING, TEXT
from .support.websocket import ZERO_MASK, UpstreamPeer, through
from .support.wire import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ways")

INTERVAL, LIMIT = 1.0, 2.0
"""Of `ws_ping_interval` and of `ws_ping_timeout`."""

SILENCE = INTERVAL + LIMIT
"""The longest that there may be."""

PAUSE = 0.8
SEVERAL = 4
"""Pauses that are longer than that together."""

SLOWLY = 700_000
"""Octets of a large message that are taken in such a time: less than a third of the system's
buffer, which is when that asks for more, and more than is kept unsent.
"""

SIGNS: dict[str, Callable[[UpstreamPeer], None]] = {
    "message": lambda peer: peer.send_text("a message"),
    "ping": lambda peer: peer.ping(),
    "pong": lambda peer: peer.pong(b"not what was asked for"),
    "fragments": lambda peer: peer.send_fragments(BINARY, [b"a", b"b"]),
}


def test_any_frame_will_do() -> None:
    # One whose sign is none is given up before it is asked again.
    with abreast(len(SIGNS), ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as pairs:
        for (_, peer), sign in zip(pairs, SIGNS.values(), strict=True):
            assert is_asked(peer)
            sign(peer)
        for (client, peer), name in zip(pairs, SIGNS, strict=True):
            assert is_asked(peer), f"given up after a {name}"
            peer.pong()
            client.send_text("still here")
            while peer.receive().payload != b"still here":
                pass


def is_asked(peer: UpstreamPeer) -> bool:
    """Wait until it is asked for a sign, or given up: whether it is the first."""
    with contextlib.suppress(ClosedError, ConnectionError):
        while peer.receive().opcode != PING:
            pass
        return True
    return False


def test_a_frame_that_comes_slowly_will_do() -> None:
    """No pong can come before it is over: a large message over a slow link."""
    pieces = [b"x" * 1000] * SEVERAL
    with through(ws_ping_interval=INTERVAL, ws_ping_timeout=LIMIT) as ends:
        ends.peer.send_frame(BINARY, length=1000 * SEVERAL)
        for piece in pieces:
            time.sleep(PAUSE)
            ends.peer.send(piece)
        assert ends.client.receive_message() == b"".join(pieces)


def test_fragments_of_a_message_that_comes_slowly_will_do() -> None:
    with through(ws_ping_interval=INTERVAL, ws_ping_timeout=LIMIT) as ends:
        ends.peer.send_frame(TEXT, b"a", fin=False)
        for _ in range(SEVERAL):
            time.sleep(PAUSE)
            ends.peer.send_frame(CONTINUATION, b"b", fin=False)
        ends.peer.send_frame(CONTINUATION, b"c")
        assert ends.client.receive_message() == "a" + "b" * SEVERAL + "c"


def test_a_large_message_that_is_taken_slowly_will_do() -> None:
    """No pong can come: the ping would stand behind the message in the system's buffer."""
    with (
        through(ws_ping_interval=INTERVAL, ws_ping_timeout=LIMIT) as ends,
        ThreadPoolExecutor() as threads,
    ):
        threads.submit(ends.client.send_binary, bytes(8_000_000), mask=ZERO_MASK)
        begun, taken = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < 1.2 * SILENCE:
            due = int(elapsed / SILENCE * SLOWLY)
            ends.peer.reader.exactly(due - taken)
            taken = due
            time.sleep(SILENCE / 40)
        ends.peer.send_text("still here")
        assert ends.client.receive_message() == "still here"


def test_a_frame_that_stands_still_will_not() -> None:
    with through(ws_ping_interval=0.2, ws_ping_timeout=LIMIT) as ends:
        ends.peer.send_frame(BINARY, b"half", length=8)
        assert ends.client.expect_close()[0] == 1011


def test_very_many_pings_are_answered_or_overtaken_by_later_ones() -> None:
    """RFC 6455 §5.5.3 lets a peer answer the latest alone."""
    with through() as ends:
        for number in range(1000):
            ends.peer.ping(b"%d" % number)
        while ends.peer.receive().payload != b"999":
            pass
        ends.peer.send_text("behind them")
        assert ends.client.receive_message() == "behind them"
