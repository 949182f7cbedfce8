"""Who is still there: the relay's pings to the upstream, and where nothing is said at all."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from asgi_relay import Relay

from .support.abreast import abreast
from .support.frames import CLOSE, PING, PONG
from .support.records import Records
from .support.session import Session
from .support.stream import Stream
from .support.upstream import Upstream
from .support.websocket import Accept, UpstreamPeer, through

pytestmark = pytest.mark.usefixtures("ways")

SOON = 0.1
PATIENT = 2.0
"""Of a limit that ends the WebSocket: time to open it, and to be lent, on a busy machine."""
LATER = 0.4


def read_all(peer: UpstreamPeer, answer: Any) -> list[int]:
    """Answer each ping as told until the relay closes; the opcodes of all that came."""
    opcodes = []
    while True:
        frame = peer.receive()
        opcodes.append(frame.opcode)
        if frame.opcode == CLOSE:
            peer.close(frame.code)
            return opcodes
        if frame.opcode == PING:
            answer(peer, frame.payload)


# -- pings ---------------------------------------------------------------------------------------


def test_a_silent_upstream_is_pinged_and_stays_while_it_answers() -> None:
    with through(ws_ping_interval=SOON, ws_ping_timeout=PATIENT) as ends:
        begin = time.monotonic()
        while time.monotonic() - begin < PATIENT + 5 * SOON:
            ping = ends.peer.receive()
            assert ping.opcode == PING
            ends.peer.pong(ping.payload)
        ends.peer.send_text("still here")
        # The client's own hop is its server's business: it sees none of them.
        assert ends.client.receive().payload == b"still here"


def test_an_upstream_that_answers_no_ping_is_given_up() -> None:
    records = Records()
    with through(ws_ping_interval=SOON, ws_ping_timeout=PATIENT, logger=records.logger) as ends:
        begin = time.monotonic()
        # What it says last, so that its silence begins no sooner.
        ends.peer.send_text("the last")
        assert ends.client.receive_message() == "the last"
        assert ends.peer.receive().opcode == PING
        assert ends.client.expect_close()[0] == 1011
        assert time.monotonic() - begin >= SOON + PATIENT
        ends.peer.wait_closed()
    (line,) = records.lines
    assert line.startswith("reverse_proxy.websocket_error ")


def test_an_upstream_that_sends_is_not_pinged() -> None:
    with through(ws_ping_interval=2.5) as ends:
        for _ in range(7):
            time.sleep(LATER)
            ends.peer.send_text("busy")
            assert ends.client.receive_message() == "busy"
        ends.client.send_text("and the client")
        assert ends.peer.receive().payload == b"and the client"


@pytest.mark.parametrize("interval", [None, 60.0])
def test_none_is_sent_before_its_time_or_without_one(interval: float | None) -> None:
    with through(ws_ping_interval=interval, ws_ping_timeout=SOON) as ends:
        ends.peer.sock.settimeout(LATER)
        with pytest.raises(TimeoutError):
            ends.peer.receive()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_within_its_timeout_an_upstream_may_be_silent(timeout: float | None) -> None:
    with through(ws_ping_interval=SOON, ws_ping_timeout=timeout) as ends:
        for _ in range(5):
            assert ends.peer.receive().opcode == PING
        ends.peer.send_text("late")
        assert ends.client.receive_message() == "late"


@pytest.mark.anyio
@pytest.mark.parametrize("ways", ["kept"], indirect=True)
async def test_an_upstream_that_nobody_reads_is_not_given_up(anyio_backend: Any) -> None:
    """While the client is slow the relay does not read, and so cannot see an answer."""
    stream, accept = Stream(400), Accept()
    pings = {"ws_ping_interval": PATIENT / 2, "ws_ping_timeout": PATIENT / 2}
    with Upstream(accept) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.1, **pings)  # type: ignore[arg-type]
        async with relay, Session().run(relay) as session:
            await session.accepted()
            peer = await anyio.to_thread.run_sync(accept.peer)
            session.stop_reading()
            sending = threading.Thread(target=stream.send, args=[peer])
            sending.start()
            await anyio.sleep(PATIENT + 5 * SOON)
            assert stream.sent < stream.count
            session.go_on_reading()
            for _ in range(stream.count):
                stream.check(await session.message())
            session.leave(1000)
            await anyio.to_thread.run_sync(sending.join)


# -- idle ----------------------------------------------------------------------------------------


def test_where_nothing_is_said_both_sides_are_closed() -> None:
    begin = time.monotonic()
    with through(ws_idle_timeout=PATIENT) as ends:
        assert ends.client.answer_close()[0] == 1011
        assert time.monotonic() - begin >= PATIENT
        assert ends.peer.answer_close()[0] == 1001


def test_pings_are_no_messages() -> None:
    with through(ws_idle_timeout=PATIENT, ws_ping_interval=SOON, ws_ping_timeout=5) as ends:
        opcodes = read_all(ends.peer, lambda peer, payload: peer.pong(payload))
        assert opcodes[-1] == CLOSE
        assert PING in opcodes
        assert ends.client.answer_close()[0] == 1011


def test_pings_of_the_upstream_are_none_either() -> None:
    with through(ws_idle_timeout=PATIENT) as ends:
        frame = None
        while frame is None or frame.opcode == PONG:
            ends.peer.ping(b"keep me")
            time.sleep(SOON / 2)
            frame = ends.peer.receive()
        assert (frame.opcode, frame.code) == (CLOSE, 1001)


def test_messages_either_way_keep_it() -> None:
    with abreast(2, ws_idle_timeout=3, ws_ping_interval=None) as [(client, peer), (other, sender)]:
        for number in range(4):
            if number:
                time.sleep(1.1)
            client.send_text(f"up {number}")
            assert peer.receive_message() == f"up {number}"
            sender.send_text(f"down {number}")
            assert other.receive_message() == f"down {number}"


def test_the_time_without_a_message_begins_with_the_last() -> None:
    with through(ws_idle_timeout=3, ws_ping_interval=None) as ends:
        time.sleep(1)
        sent = time.monotonic()
        ends.client.send_text("the only one")
        assert ends.peer.receive_message() == "the only one"
        assert ends.client.answer_close()[0] == 1011
        assert time.monotonic() - sent >= 3


def test_by_default_nothing_need_be_said() -> None:
    with through(ws_ping_interval=None) as ends:
        ends.client.sock.settimeout(LATER)
        with pytest.raises(TimeoutError):
            ends.client.receive()
