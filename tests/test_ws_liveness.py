"""Signs of life, and what the four parameters for WebSockets do: pings, idle times, sizes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync as aside

from asgi_relay import Relay

from .support.frames import BINARY, CONTINUATION, PING, PONG, TEXT
from .support.session import Session
from .support.upstream import Upstream
from .support.websocket import Accept, Through, echo, through

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 0.4
MARGIN = 1.5


def silence(ends: Through, seconds: float) -> None:
    """Nothing may come for the upstream for so long."""
    ends.peer.sock.settimeout(seconds)
    with pytest.raises(TimeoutError):
        ends.peer.receive()
    ends.peer.sock.settimeout(10)


def assert_open(ends: Through) -> None:
    ends.peer.send_text("still here")
    assert ends.client.receive_message() == "still here"
    ends.client.send_text("so am I")
    assert ends.peer.receive_message() == "so am I"


# -- pings of the peers ----------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", b"\0\xff" * 62])
def test_the_upstream_s_ping_is_answered_and_stays_on_its_hop(payload: bytes) -> None:
    with through() as ends:
        ends.peer.ping(payload)
        frame = ends.peer.receive()
        assert (frame.opcode, frame.payload) == (PONG, payload)
        ends.peer.send_text("behind it")
        assert ends.client.receive().payload == b"behind it"


def test_the_client_s_ping_is_answered_and_stays_on_its_hop() -> None:
    with through() as ends:
        ends.client.ping(b"x")
        frame = ends.client.receive()
        assert (frame.opcode, frame.payload) == (PONG, b"x")
        ends.client.send_text("behind it")
        assert ends.peer.receive().payload == b"behind it"


def test_pings_between_fragments_are_answered() -> None:
    with through() as ends:
        ends.peer.send_frame(TEXT, b"a", fin=False)
        ends.peer.ping(b"1")
        ends.peer.send_frame(CONTINUATION, b"b", fin=False)
        ends.peer.ping(b"2")
        assert [ends.peer.receive().payload for _ in range(2)] == [b"1", b"2"]
        ends.peer.send_frame(CONTINUATION, b"c")
        assert ends.client.receive_message() == "abc"


def test_pongs_that_nobody_asked_for_are_no_matter() -> None:
    with through() as ends:
        ends.peer.pong(b"unasked")
        ends.client.pong(b"unasked")
        assert_open(ends)


def test_very_many_pings_are_answered_or_overtaken_by_later_ones() -> None:
    """RFC 6455 §5.5.3 lets a peer answer the latest alone."""
    with through() as ends:
        for number in range(1000):
            ends.peer.ping(b"%d" % number)
        while ends.peer.receive().payload != b"999":
            pass
        assert_open(ends)


# -- our pings -------------------------------------------------------------------------------------


def test_a_silent_upstream_is_asked_for_a_sign_of_life_and_asked_again() -> None:
    with through(ws_ping_interval=0.2, ws_ping_timeout=30) as ends:
        for _ in range(3):
            frame = ends.peer.receive()
            assert frame.opcode == PING
            ends.peer.pong(frame.payload)
        assert_open(ends)


@pytest.mark.parametrize(
    "sign",
    [
        lambda ends: ends.peer.send_text("a message"),
        lambda ends: ends.peer.ping(),
        lambda ends: ends.peer.pong(b"not what was asked for"),
        lambda ends: ends.peer.send_frame(BINARY, b"a fragment", fin=False),
    ],
    ids=["message", "ping", "pong", "fragment"],
)
def test_whatever_comes_is_a_sign_of_life(sign: Callable[[Through], None]) -> None:
    with through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends:
        end = time.monotonic() + 2 * (LIMIT + LIMIT)
        while time.monotonic() < end:
            frame = ends.peer.receive()
            if frame.opcode == PING:
                sign(ends)
                if sign.__name__ == "fragment":
                    break
        ends.peer.send_frame(PONG)


def test_an_upstream_that_gives_no_sign_of_life_is_1011_at_the_client() -> None:
    with through(ws_ping_interval=LIMIT, ws_ping_timeout=LIMIT) as ends:
        begin = time.monotonic()
        code, _ = ends.client.expect_close()
        took = time.monotonic() - begin
        assert code == 1011
        # Since the handshake, a moment before.
        assert LIMIT < took < 2 * LIMIT + MARGIN
        ends.peer.wait_closed()


def test_an_upstream_that_talks_is_not_asked() -> None:
    with through(ws_ping_interval=1, ws_ping_timeout=30) as ends:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            ends.peer.send_text("tick")
            assert ends.client.receive_message() == "tick"
            time.sleep(0.02)
        ends.client.send_text("first")
        assert ends.peer.receive().payload == b"first"


def test_without_an_interval_nobody_is_asked() -> None:
    with through(ws_ping_interval=None, ws_ping_timeout=0.1) as ends:
        silence(ends, 0.6)
        assert_open(ends)


def test_without_a_timeout_nobody_has_to_answer() -> None:
    with through(ws_ping_interval=0.1, ws_ping_timeout=None) as ends:
        time.sleep(0.8)
        assert ends.peer.receive().opcode == PING
        assert_open(ends)


def test_by_default_a_silent_upstream_has_its_time() -> None:
    with through() as ends:
        silence(ends, 0.6)
        assert_open(ends)


@pytest.mark.anyio
async def test_while_the_client_is_slow_the_upstream_s_silence_is_not_its_own() -> None:
    size, count = 100_000, 200
    accept = Accept()
    settings = {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.2}

    def send() -> None:
        for _ in range(count):
            accept.peer().send_binary(bytes(size))

    with Upstream(accept) as upstream:
        async with (
            Relay(upstream.url, **settings) as relay,
            Session().run(relay) as session,
            anyio.create_task_group() as tasks,
        ):
            await session.accepted()
            session.stop_reading()
            tasks.start_soon(aside, send)
            await session.until(lambda: bool(session.messages))
            # The upstream cannot send, and its answers wait behind what it has sent.
            await anyio.sleep(1)
            session.go_on_reading()
            for _ in range(count):
                assert len(await session.message()) == size
            session.leave(1000)


# -- idle times ------------------------------------------------------------------------------------


def test_without_a_message_either_way_it_ends_after_the_idle_time() -> None:
    with through(ws_idle_timeout=LIMIT, ws_ping_interval=0.1) as ends:
        begin = time.monotonic()
        for _ in range(2):
            # Pings are no messages.
            assert ends.peer.receive().opcode == PING
            ends.peer.pong()
            ends.client.ping()
            assert ends.client.receive().opcode == PONG
        assert ends.client.expect_close()[0] == 1011
        took = time.monotonic() - begin
        assert ends.peer.expect_close()[0] == 1001
        assert LIMIT / 2 < took < LIMIT + MARGIN


@pytest.mark.parametrize("talker", ["client", "upstream"])
def test_messages_of_either_side_keep_it_open(talker: str) -> None:
    with through(ws_idle_timeout=1) as ends:
        one, other = (ends.client, ends.peer) if talker == "client" else (ends.peer, ends.client)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            one.send_text("tick")
            assert other.receive_message() == "tick"
            time.sleep(0.02)
        assert_open(ends)


def test_by_default_there_is_no_idle_time() -> None:
    with through(ws_ping_interval=0.1) as ends:
        for _ in range(5):
            assert ends.peer.receive().opcode == PING
            ends.peer.pong()
        assert_open(ends)


# -- sizes -----------------------------------------------------------------------------------------

MOST = 1000


@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST])
def test_a_message_of_the_largest_size_passes_both_ways(size: int) -> None:
    with through(Accept(echo), ws_max_message_size=MOST) as ends:
        for message in ("x" * size, b"x" * size):
            ends.client.send_message(message)
            assert ends.client.receive_message() == message


def in_one_frame(ends: Through) -> None:
    ends.peer.send_binary(bytes(MOST + 1))


def in_fragments(ends: Through) -> None:
    ends.peer.send_fragments(TEXT, [b"x" * (MOST // 2)] * 3)


def announced(ends: Through) -> None:
    ends.peer.send_frame(BINARY, b"some", length=MOST + 1)


@pytest.mark.parametrize("too_much", [in_one_frame, in_fragments, announced])
def test_an_upstream_that_sends_more_gets_1009_and_the_client_1011(
    too_much: Callable[[Through], None],
) -> None:
    with through(ws_max_message_size=MOST) as ends:
        ends.peer.send_text("before")
        too_much(ends)
        assert ends.client.receive_message() == "before"
        assert ends.client.expect_close()[0] == 1011
        assert ends.peer.expect_close()[0] == 1009


def test_a_client_that_sends_more_gets_1009_and_the_upstream_1001() -> None:
    with through(ws_max_message_size=MOST) as ends:
        ends.client.send_text("before")
        ends.client.send_text("x" * (MOST + 1))
        ends.client.send_text("behind")
        assert ends.client.expect_close()[0] == 1009
        assert ends.peer.receive_message() == "before"
        assert ends.peer.expect_close()[0] == 1001


def test_sizes_are_of_octets_and_not_of_characters() -> None:
    with through(ws_max_message_size=MOST) as ends:
        ends.client.send_text("é" * (MOST // 2))
        assert ends.peer.receive_message() == "é" * (MOST // 2)
        ends.client.send_text("é" * MOST)
        assert ends.client.expect_close()[0] == 1009


@pytest.mark.parametrize("length", [(1 << 30) + 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_more_than_a_gigabyte_is_never_taken(length: int) -> None:
    with through() as ends:
        ends.peer.send_frame(BINARY, b"some", length=length)
        assert ends.client.expect_close()[0] == 1011
        assert ends.peer.expect_close()[0] in {1009, 1002}
