"""Frames of the upstream: fragments, control frames, and the faults that never become messages."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import pytest

from .support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, encode
from .support.records import Records
from .support.websocket import Accept, PeerClosedError, echo, through
from .support.wire import ClosedError

if TYPE_CHECKING:
    from .support.websocket import Through

pytestmark = pytest.mark.usefixtures("ways")

PIECE = 1024 * 1024
"""Of what size a larger message goes up in fragments."""


def octet_by_octet(text: str) -> list[bytes]:
    return [bytes([octet]) for octet in text.encode()]


# -- fragments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "pieces"),
    [
        (TEXT, [b"one ", b"mess", b"age"]),
        (BINARY, [b"\0", b"\xff\xfe", b""]),
        (BINARY, [b""] * 5),
        (TEXT, [b"", b"", b"late", b""]),
        # Inside of a character of two, three and four octets.
        (TEXT, octet_by_octet("é€😀\U0010ffff")),
        (TEXT, [b"\xf0\x9f", b"", b"\x98\x80"]),
        (BINARY, [b"\xf0\x9f", b"\x98"]),
        (TEXT, [b"x" * 126] * 1000),
        (BINARY, [b"x" * 65_536] * 20),
    ],
)
def test_the_fragments_of_the_upstream_are_one_message(opcode: int, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    with through() as ends:
        ends.peer.send_fragments(opcode, pieces)
        assert ends.client.receive_message() == (whole.decode() if opcode == TEXT else whole)
        # And nothing is left over for the next.
        ends.peer.send_text("next")
        assert ends.client.receive_message() == "next"


def test_frames_may_come_octet_by_octet() -> None:
    message = encode(TEXT, "né€".encode(), fin=False) + encode(CONTINUATION, b"x" * 200)
    with through() as ends:
        for octet in message + encode(BINARY, b"y" * 126):
            ends.peer.send(bytes([octet]))
        assert ends.client.receive_message() == "né€" + "x" * 200
        assert ends.client.receive_message() == b"y" * 126


def test_control_frames_may_come_between_the_fragments() -> None:
    with through() as ends:
        ends.peer.send_frame(TEXT, b"\xf0\x9f", fin=False)
        ends.peer.ping(b"first")
        # It is answered before the message is whole, and with what it said.
        assert ends.peer.receive().payload == b"first"
        ends.peer.pong(b"nobody asked")
        ends.peer.send_frame(CONTINUATION, b"\x98", fin=False)
        ends.peer.ping(b"")
        assert ends.peer.receive().opcode == PONG
        ends.peer.send_frame(CONTINUATION, b"\x80")
        assert ends.client.receive_message() == "😀"


def test_a_close_between_the_fragments_ends_it_without_them() -> None:
    with through() as ends:
        ends.peer.send_frame(TEXT, b"never", fin=False)
        ends.peer.close(4009, "changed my mind")
        assert ends.client.answer_close() == (4009, "changed my mind")
        assert ends.peer.expect_close() == (4009, "changed my mind")


def test_the_fragments_of_the_client_are_one_message() -> None:
    with through(Accept(echo)) as ends:
        ends.client.send_fragments(TEXT, octet_by_octet("né€😀"))
        assert ends.client.receive_message() == "né€😀"
        ends.client.send_frame(BINARY, b"a", fin=False)
        ends.client.ping(b"between")
        ends.client.send_frame(CONTINUATION, b"b")
        frames = [ends.client.receive(), ends.client.receive()]
        assert {(frame.opcode, frame.payload) for frame in frames} == {
            (PONG, b"between"),
            (BINARY, b"ab"),
        }


@pytest.mark.parametrize(("opcode", "character"), [(BINARY, b"\xff"), (TEXT, "€".encode())])
@pytest.mark.parametrize(
    "size", [65_535, 65_537, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 17]
)
def test_a_large_message_goes_up_in_fragments(opcode: int, character: bytes, size: int) -> None:
    message = character * (size // len(character)) + b"x" * (size % len(character))
    with through() as ends:
        ends.client.send_frame(opcode, message)
        received, opcodes = b"", []
        while True:
            frame = ends.peer.receive()
            opcodes.append(frame.opcode)
            assert len(frame.payload) <= PIECE
            received += frame.payload
            if frame.fin:
                break
        assert (received == message) is True
        assert opcodes == [opcode] + [CONTINUATION] * (-(-size // PIECE) - 1)


def test_nothing_gets_into_the_middle_of_a_large_frame() -> None:
    message = bytes(range(256)) * (8 * PIECE // 256)
    with through() as ends:
        ends.client.send_frame(BINARY, b"before")
        ends.client.send_frame(BINARY, message)
        ends.client.send_frame(BINARY, b"behind")
        assert ends.peer.receive().payload == b"before"
        # Nobody reads: the relay is in the middle of a frame when it hears of these.
        for number in range(3):
            ends.peer.ping(b"%d" % number)
        received, pongs = [b""], [b""]
        while received[-1] != b"behind" or pongs[-1:] != [b"2"]:
            frame = ends.peer.receive()
            if frame.opcode == PONG:
                pongs.append(frame.payload)
                continue
            received[-1] += frame.payload
            if frame.fin and frame.payload != b"behind":
                received.append(b"")
        assert len(received) == 2
        assert (received[0] == message) is True


# -- control frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_ping_of_the_upstream_is_answered_by_the_relay(payload: bytes) -> None:
    with through() as ends:
        ends.peer.ping(payload)
        pong = ends.peer.receive()
        assert (pong.opcode, pong.payload) == (PONG, payload)
        # The client hears nothing of it.
        ends.peer.send_text("after")
        frame = ends.client.receive()
        assert (frame.opcode, frame.payload) == (TEXT, b"after")


def test_a_ping_of_the_client_is_answered_on_its_own_hop() -> None:
    with through() as ends:
        ends.client.ping(b"are you there?")
        pong = ends.client.receive()
        assert (pong.opcode, pong.payload) == (PONG, b"are you there?")
        ends.client.send_text("after")
        frame = ends.peer.receive()
        assert (frame.opcode, frame.payload) == (TEXT, b"after")


def test_a_pong_that_nobody_asked_for_goes_nowhere() -> None:
    with through() as ends:
        for sender, receiver in ((ends.peer, ends.client), (ends.client, ends.peer)):
            sender.pong(b"unasked")
            sender.send_text("after")
            assert receiver.receive().payload == b"after"


def test_pings_are_answered_while_messages_pass() -> None:
    with through(Accept()) as ends:
        for number in range(100):
            ends.peer.send(encode(TEXT, b"%d" % number) + encode(PING, b"%d" % number))
        assert [ends.client.receive_message() for _ in range(100)] == list(map(str, range(100)))
        # Of several pings at once, the last is enough (RFC 6455 §5.5.2).
        while ends.peer.receive().payload != b"99":
            pass


# -- faults --------------------------------------------------------------------------------------


def fault(name: str, octets: bytes, *codes: int) -> object:
    return pytest.param(octets, codes, id=name)


NOT_UTF8 = {
    "lone-octet": b"\xff",
    "cut": b"\xe2\x82",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond": b"\xf4\x90\x80\x80",
    "in-the-midst": b"good" * 100 + b"\x80" + b"good" * 100,
}

FAULTS = [
    *(fault(f"utf8-{name}", encode(TEXT, text), 1007) for name, text in NOT_UTF8.items()),
    fault("utf8-in-fragments", encode(TEXT, b"ok\xe2", fin=False) + encode(0, b"\x28\xa1"), 1007),
    fault("utf8-cut-in-fragments", encode(TEXT, b"ok", fin=False) + encode(0, b"\xe2\x82"), 1007),
    *(fault(f"rsv-{bits}", encode(TEXT, b"x", rsv=bits), 1002) for bits in (1, 2, 4, 7)),
    *(fault(f"opcode-{code:x}", encode(code, b"x"), 1002) for code in (3, 4, 5, 6, 7)),
    *(fault(f"opcode-{code:x}", encode(code, b"x"), 1002) for code in (11, 12, 13, 14, 15)),
    fault("masked", encode(TEXT, b"x", mask=b"mask"), 1002),
    fault("continuation-of-nothing", encode(CONTINUATION, b"x"), 1002),
    fault("continuation-unfinished", encode(CONTINUATION, b"x", fin=False), 1002),
    fault("text-within-text", encode(TEXT, b"a", fin=False) + encode(TEXT, b"b"), 1002),
    fault("binary-within-text", encode(TEXT, b"a", fin=False) + encode(BINARY, b"b"), 1002),
    fault("ping-in-fragments", encode(PING, b"x", fin=False), 1002),
    fault("ping-of-126", encode(PING, b"x" * 126), 1002),
    fault("close-of-126", encode(CLOSE, close_payload(1000, b"x" * 124)), 1002),
    fault("close-in-fragments", encode(CLOSE, close_payload(1000), fin=False), 1002),
    fault("http", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, 1002),
    fault("negative-length", b"\x82\x7f" + struct.pack("!Q", 1 << 63) + b"x" * 100, 1002, 1009),
]


def expect_fault(ends: Through, codes: tuple[int, ...]) -> None:
    """What came before arrived, and the client is told that the fault is not its own."""
    assert ends.client.receive_message() == "before"
    assert ends.client.expect_close()[0] == 1011
    assert ends.peer.expect_close()[0] in codes


@pytest.mark.parametrize(("octets", "codes"), FAULTS)
def test_a_fault_of_the_upstream_is_never_a_message(octets: bytes, codes: tuple[int, ...]) -> None:
    with through() as ends:
        ends.peer.send(encode(TEXT, b"before") + octets)
        expect_fault(ends, codes)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03",
        *(close_payload(code) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)),
        close_payload(1000, b"\xff"),
        close_payload(1000, b"\xe2\x82"),
    ],
)
def test_a_close_frame_that_nobody_should_send_is_a_fault(payload: bytes) -> None:
    with through() as ends:
        ends.peer.send(encode(TEXT, b"before") + encode(CLOSE, payload))
        assert ends.client.receive_message() == "before"
        assert ends.client.expect_close()[0] == 1011
        with contextlib.suppress(ClosedError):
            assert ends.peer.expect_close()[0] in (1002, 1007)


def test_what_comes_behind_a_close_is_never_a_message() -> None:
    with through() as ends:
        ends.peer.send(encode(CLOSE, close_payload(4000)) + encode(TEXT, b"late"))
        with pytest.raises(PeerClosedError) as closed:
            ends.client.receive_message()
        assert closed.value.code == 4000


@pytest.mark.parametrize("cut", [1, 2, 3, 6, 19])
@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_a_frame_that_breaks_off_is_never_a_message(cut: int, rst: bool) -> None:
    with through() as ends:
        ends.peer.send_text("before")
        assert ends.client.receive_message() == "before"
        ends.peer.send(encode(TEXT, b"x" * 126)[:cut])
        if rst:
            ends.peer.reset()
        else:
            ends.peer.vanish()
        assert ends.client.expect_close()[0] == 1011


def test_a_message_that_breaks_off_is_never_one() -> None:
    with through() as ends:
        ends.peer.send_frame(TEXT, b"the first half", fin=False)
        ends.peer.vanish()
        assert ends.client.expect_close()[0] == 1011


def test_a_fault_is_told_to_the_log() -> None:
    records = Records()
    with through(logger=records.logger) as ends:
        ends.peer.send_frame(TEXT, b"\xff")
        assert ends.client.expect_close()[0] == 1011
        ends.peer.expect_close()
        url = ends.upstream.url
    (line,) = records.lines
    assert line.startswith(f"reverse_proxy.websocket_error url='{url}/' error='")
    (record,) = records.all
    assert record.__dict__["event"] == "websocket_error"


def test_faults_of_the_client_end_its_own_hop() -> None:
    with through() as ends:
        ends.client.send_text("before")
        assert ends.peer.receive_message() == "before"
        ends.client.send_text(b"\xff")
        # 1007 is the server's word to the client; that it left is all that the upstream is told.
        assert ends.client.expect_close()[0] in (1002, 1007)
        assert ends.peer.expect_close()[0] in (1001, 1002, 1007)
