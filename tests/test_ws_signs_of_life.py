"""What counts as a sign of life of an upstream that was asked for one: any octet.

When it is asked, and what becomes of one that gives none, is in test_ws_liveness.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from .support.frames import BINARY, CONTINUATION, PING, TEXT
from .support.websocket import ZERO_MASK, Through, through

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ways")

LIMIT = 0.5
"""Of `ws_ping_interval` and of `ws_ping_timeout`: together the longest silence."""

PAUSE = 0.25

SLOWLY = 700_000
"""Octets of a large message that are taken in a second: less than a third of the system's buffer,
which is when that asks for more, and more than is kept unsent.
"""


@pytest.mark.parametrize(
    "sign",
    [
        lambda ends: ends.peer.send_text("a message"),
        lambda ends: ends.peer.ping(),
        lambda ends: ends.peer.pong(b"not what was asked for"),
        lambda ends: ends.peer.send_fragments(BINARY, [b"a", b"b"]),
    ],
    ids=["message", "ping", "pong", "fragments"],
)
def test_any_frame_will_do(sign: Callable[[Through], None]) -> None:
    with through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends:
        for _ in range(3):
            while ends.peer.receive().opcode != PING:
                pass
            sign(ends)
        ends.client.send_text("still here")
        while ends.peer.receive().payload != b"still here":
            pass


def test_a_frame_that_comes_slowly_will_do() -> None:
    """No pong can come before it is over: a large message over a slow link."""
    pieces = [b"x" * 1000] * 10
    with through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends:
        ends.peer.send_frame(BINARY, length=10_000)
        for piece in pieces:
            time.sleep(PAUSE)
            ends.peer.send(piece)
        assert ends.client.receive_message() == b"".join(pieces)


def test_fragments_of_a_message_that_comes_slowly_will_do() -> None:
    with through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends:
        ends.peer.send_frame(TEXT, b"a", fin=False)
        for _ in range(8):
            time.sleep(PAUSE)
            ends.peer.send_frame(CONTINUATION, b"b", fin=False)
        ends.peer.send_frame(CONTINUATION, b"c")
        assert ends.client.receive_message() == "abbbbbbbbc"


def test_a_large_message_that_is_taken_slowly_will_do() -> None:
    """No pong can come: the ping would stand behind the message in the system's buffer."""
    with (
        through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends,
        ThreadPoolExecutor() as threads,
    ):
        threads.submit(ends.client.send_binary, bytes(8_000_000), mask=ZERO_MASK)
        begun, taken = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < 5 * LIMIT:
            due = int(elapsed * SLOWLY)
            ends.peer.reader.exactly(due - taken)
            taken = due
            time.sleep(LIMIT / 20)
        ends.peer.send_text("still here")
        assert ends.client.receive_message() == "still here"


def test_a_frame_that_stands_still_will_not() -> None:
    with through(ws_ping_interval=0.2, ws_ping_timeout=0.2) as ends:
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
