"""Messages through Relay: of each kind and size, in order, and no larger than allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Relay

from .support import frames
from .support.session import Session
from .support.upstream import Upstream
from .support.websocket import (
    ZERO_MASK,
    Accept,
    PeerClosedError,
    UpstreamPeer,
    WebSocketClient,
    echo,
    through,
)
from .support.websocket_servers import serve_websockets

if TYPE_CHECKING:
    from .support.websocket import WebSocketPeer

pytestmark = pytest.mark.usefixtures("ways")

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537]
MEGABYTE = 1_000_000
LIMIT = 1000
SLOW = 60.0
"""Seconds that a machine may take for what is no wait of the relay's."""

TEXTS = [
    "\0",
    "\ufeffmark",
    "é€😀",
    "\uffff\U0010ffff",
    "\r\n\r\n",
    '{"json": true}',
    "\u2028" * 30_000,
]


def octets(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def text(size: int) -> str:
    return ("abcdefghij" * (size // 10 + 1))[:size]


# -- kinds and sizes -----------------------------------------------------------------------------


def test_messages_of_each_size_come_back_as_they_were() -> None:
    messages = [make(size) for size in SIZES for make in (octets, text)]
    with through(Accept(echo)) as ends:
        for message in messages:
            ends.client.send_message(message)
            # Neither the kind nor an octet changes: b"" is not "".
            assert ends.client.receive_message() == message


@pytest.mark.parametrize("message", TEXTS, ids=lambda message: ascii(message[:8]))
def test_texts_come_back_as_they_were(message: str) -> None:
    with through(Accept(echo)) as ends:
        ends.client.send_text(message)
        assert ends.client.receive_message() == message


def test_octets_that_are_text_stay_binary() -> None:
    with through() as ends:
        ends.client.send_binary(b"text")
        assert ends.peer.receive_message() == b"text"
        ends.peer.send_binary(b"text")
        assert ends.client.receive_message() == b"text"


@pytest.mark.parametrize(
    "message", [octets(10 * MEGABYTE), "é😀" * MEGABYTE], ids=["binary", "text"]
)
def test_ten_megabytes_each_way(message: str | bytes) -> None:
    with through(Accept(echo)) as ends:
        ends.client.send_message(message, mask=ZERO_MASK)
        # Not by `==` in an assert, which would explain ten megabytes of difference.
        assert (ends.client.receive_message() == message) is True


def test_a_hundred_megabytes_each_way() -> None:
    message = octets(100 * MEGABYTE)

    def talk(peer: UpstreamPeer) -> None:
        peer.sock.settimeout(SLOW)
        echo(peer)

    with (
        ThreadPoolExecutor() as threads,
        Upstream(Accept(talk)) as upstream,
        serve_websockets(Relay(upstream.url)) as server,
        WebSocketClient(server.port, timeout=SLOW) as client,
    ):
        client.open()
        sending = threads.submit(client.send_binary, message, mask=ZERO_MASK)
        assert (client.receive_message() == message) is True
        sending.result()
        # What comes behind it finds nothing left over.
        client.send_text("small")
        assert client.receive_message() == "small"


@pytest.mark.anyio
async def test_each_event_loop_carries_each_kind(anyio_backend: Any) -> None:
    messages: list[str | bytes] = ["", b"", "text", b"\0\xff", octets(MEGABYTE), text(MEGABYTE)]
    with Upstream(Accept(echo)) as upstream:
        async with Relay(upstream.url) as relay, Session().run(relay) as session:
            await session.accepted()
            for message in messages:
                session.say(message)
                assert await session.message() == message
            session.say(*messages)
            assert [await session.message() for _ in messages] == messages
            session.leave(1000)


# -- order ---------------------------------------------------------------------------------------


def numbered(count: int) -> list[str | bytes]:
    """Messages of both kinds and of changing size."""
    made: list[str | bytes] = []
    for number in range(count):
        message = f"{number}:" + "x" * (number * 37 % 300)
        made.append(message if number % 3 else message.encode())
    return made


def send_all(peer: WebSocketPeer, messages: list[str | bytes]) -> None:
    """In a few segments: a call for each message would take the test's time."""
    mask = None if isinstance(peer, UpstreamPeer) else ZERO_MASK
    octets = b"".join(
        frames.encode(frames.TEXT, message.encode(), mask=mask)
        if isinstance(message, str)
        else frames.encode(frames.BINARY, message, mask=mask)
        for message in messages
    )
    for start in range(0, len(octets), 50_000):
        peer.send(octets[start : start + 50_000])


def test_thousands_each_way_at_once_arrive_in_order() -> None:
    messages = numbered(5000)
    with ThreadPoolExecutor() as threads, through() as ends:
        sent = [threads.submit(send_all, end, messages) for end in (ends.client, ends.peer)]
        up = threads.submit(lambda: [ends.peer.receive_message() for _ in messages])
        assert [ends.client.receive_message() for _ in messages] == messages
        assert up.result() == messages
        for done in sent:
            done.result()


def test_a_burst_in_one_segment_arrives_in_order() -> None:
    burst = b"".join(frames.encode(frames.TEXT, b"%d" % number) for number in range(2000))
    with through() as ends:
        ends.peer.send(burst)
        assert [ends.client.receive_message() for _ in range(2000)] == list(map(str, range(2000)))


def test_many_websockets_at_once_keep_to_themselves() -> None:
    clients = 20
    with ThreadPoolExecutor(clients) as threads, through(Accept(echo)) as ends:
        barrier = threading.Barrier(clients)

        def talk(number: int) -> list[str | bytes]:
            with WebSocketClient(ends.front.port) as client:
                client.open(f"/{number}")
                barrier.wait(10)
                for turn in range(20):
                    client.send_text(f"{number}-{turn}")
                return [client.receive_message() for _ in range(20)]

        answers = list(threads.map(talk, range(clients)))
    assert answers == [[f"{n}-{turn}" for turn in range(20)] for n in range(clients)]


def test_the_first_messages_may_come_in_the_segment_of_the_101() -> None:
    first = frames.encode(frames.TEXT, b"hello") + frames.encode(frames.BINARY, b"\0\1")
    with through(Accept(followed_by=first)) as ends:
        assert ends.client.receive_message() == "hello"
        assert ends.client.receive_message() == b"\0\1"
        ends.client.send_text("and you")
        assert ends.peer.receive_message() == "and you"


def test_a_message_and_a_close_in_the_segment_of_the_101() -> None:
    goodbye = frames.encode(frames.TEXT, b"hello") + frames.encode(
        frames.CLOSE, frames.close_payload(4001, "at once")
    )
    with through(Accept(followed_by=goodbye)) as ends:
        assert ends.client.receive_message() == "hello"
        assert ends.client.answer_close() == (4001, "at once")
        assert ends.peer.expect_close() == (4001, "at once")


def test_what_the_upstream_sent_before_its_close_arrives_before_it() -> None:
    messages = numbered(1000)
    with through() as ends:
        send_all(ends.peer, messages)
        ends.peer.close(4002, "done")
        assert [ends.client.receive_message() for _ in messages] == messages
        assert ends.client.expect_close() == (4002, "done")


def test_what_the_client_sent_before_its_close_arrives_before_it() -> None:
    messages = numbered(1000)
    with through() as ends:
        send_all(ends.client, messages)
        ends.client.close(4003, "done")
        assert [ends.peer.receive_message() for _ in messages] == messages
        assert ends.peer.expect_close() == (4003, "done")


def test_what_the_upstream_sent_before_it_vanished_arrives() -> None:
    messages = numbered(1000)
    with through() as ends:
        send_all(ends.peer, messages)
        ends.peer.finish()
        assert [ends.client.receive_message() for _ in messages] == messages
        assert ends.client.expect_close()[0] == 1011


@pytest.mark.anyio
async def test_what_the_client_sent_while_the_upstream_was_thinking_arrives(
    anyio_backend: Any,
) -> None:
    # A server gives no message before the accept; an app around the relay may.
    with Upstream(Accept(echo)) as upstream:
        session = Session()
        session.say("one", b"two")
        async with Relay(upstream.url) as relay, session.run(relay):
            assert [await session.message(), await session.message()] == ["one", b"two"]
            session.leave(1000)


# -- ws_max_message_size -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [octets, text])
def test_a_message_of_the_largest_size_passes_each_way(make: Any) -> None:
    with through(ws_max_message_size=LIMIT) as ends:
        for sender, receiver in ((ends.peer, ends.client), (ends.client, ends.peer)):
            for _ in range(3):
                sender.send_message(make(LIMIT))
            assert [receiver.receive_message() for _ in range(3)] == [make(LIMIT)] * 3


def too_large_whole(peer: WebSocketPeer) -> None:
    peer.send_binary(octets(LIMIT + 1))


def too_large_text(peer: WebSocketPeer) -> None:
    # The limit is one of octets.
    peer.send_text("é" * (LIMIT // 2 + 1))


def too_large_in_fragments(peer: WebSocketPeer) -> None:
    peer.send_fragments(frames.BINARY, [octets(LIMIT // 2)] * 2 + [b"x"])


def too_large_announced(peer: WebSocketPeer) -> None:
    """It is refused at its announcement, which is all that comes."""
    peer.send_frame(frames.BINARY, length=LIMIT + 1)


@pytest.mark.parametrize(
    "send",
    [
        too_large_whole,
        too_large_text,
        too_large_in_fragments,
        too_large_announced,
    ],
)
def test_a_larger_message_of_the_upstream_ends_it(send: Any) -> None:
    with through(ws_max_message_size=LIMIT) as ends:
        ends.peer.send_text("before")
        send(ends.peer)
        assert ends.client.receive_message() == "before"
        assert ends.client.expect_close()[0] == 1011
        assert ends.peer.expect_close()[0] == 1009


@pytest.mark.parametrize("send", [too_large_whole, too_large_text, too_large_in_fragments])
def test_a_larger_message_of_the_client_ends_it(send: Any) -> None:
    with through(ws_max_message_size=LIMIT) as ends:
        ends.client.send_text("before")
        send(ends.client)
        assert ends.peer.receive_message() == "before"
        assert ends.peer.expect_close()[0] == 1001
        assert ends.client.expect_close()[0] == 1009


@pytest.mark.parametrize("size", [1 << 30, 1 << 62, (1 << 64) - 1])
def test_nobody_reserves_memory_for_what_is_only_announced(size: int) -> None:
    # One octet above the bound that holds without ws_max_message_size.
    with through() as ends:
        ends.peer.send_frame(frames.BINARY, length=size + (size == 1 << 30))
        assert ends.client.expect_close()[0] == 1011
        # 2**63 and more is no length at all (RFC 6455 §5.2).
        assert ends.peer.expect_close()[0] in ({1009} if size < 1 << 63 else {1002, 1009})


def test_messages_behind_one_that_is_too_large_never_arrive() -> None:
    def talk(peer: UpstreamPeer) -> None:
        too_large_whole(peer)
        peer.send_text("behind")
        peer.park()

    with (
        through(Accept(talk), ws_max_message_size=LIMIT) as ends,
        pytest.raises(PeerClosedError) as closed,
    ):
        ends.client.receive_message()
    assert closed.value.code == 1011
