"""How a WebSocket ends: codes and reasons both ways, and ends without either.

Each test has the raw client on one side and the scripted upstream on the other. How the engine
itself ends a WebSocket (shutdown, cancellation) is in test_ws_lifecycle, protocol errors in the
messages of an upstream are in test_ws_fragments.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from asgi_relay import Relay

from .support.each import EACH
from .support.frames import BINARY, CLOSE, NO_CODE, TEXT
from .support.servers import serve
from .support.session import Session
from .support.upstream import Upstream
from .support.websocket import (
    Accept,
    UpstreamPeer,
    WebSocketClient,
    WebSocketPeer,
    through,
)
from .support.wire import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("ways")

LONGEST = "é" * 61 + "x"
"""123 octets: what is left of a control frame's payload behind the code."""

CODES = [1000, 1001, 1002, 1003, *range(1007, 1014), 3000, 3999, 4000, 4999]
CLOSES = [
    *[(code, "") for code in CODES],
    (1000, "bye"),
    (3000, "\N{GRINNING FACE} \u20ac"),
    (4000, LONGEST),
    (4999, "x" * 123),
]
WITHIN = 4.0
"""Seconds within which the other side learns that a peer has vanished: the relay waits for five
where it waits for an answer to a close, and longer for any other sign.
"""


# -- with a close frame ----------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), CLOSES)
def test_fastapi_reverse_proxy_defect_the_upstream_s_close_is_the_client_s(
    code: int, reason: str
) -> None:
    """It loses every code."""
    with through() as ends:
        ends.peer.close(code, reason)
        assert ends.client.answer_close() == (code, reason)
        assert ends.peer.expect_close()[0] == code
        ends.peer.finish()
        ends.client.expect_end()
        ends.peer.expect_end()


@pytest.mark.parametrize(
    ("code", "reason"), [(1014, ""), (1014, "bad gateway behind"), (1002, "Protocol violation")]
)
def test_an_upstream_s_close_that_the_library_replaces_is_the_client_s(
    code: int, reason: str
) -> None:
    with through() as ends:
        ends.peer.send_text("before")
        ends.peer.close(code, reason)
        assert ends.client.receive_message() == "before"
        assert ends.client.answer_close() == (code, reason)
        # The library's own answer.
        assert ends.peer.expect_close()[0] == 1002
        ends.peer.expect_end()


@pytest.mark.parametrize(("code", "reason"), [*CLOSES, (1014, "")])
def test_the_client_s_close_is_the_upstream_s(code: int, reason: str) -> None:
    with through() as ends:
        ends.client.close(code, reason)
        assert ends.peer.answer_close() == (code, reason)
        assert ends.client.expect_close()[0] == code
        ends.peer.expect_end()
        ends.client.expect_end()


def test_no_code_of_the_upstream_is_1000_at_the_client() -> None:
    with through() as ends:
        ends.peer.close(None)
        assert ends.client.answer_close() == (1000, "")
        assert ends.peer.expect_close()[0] in {1000, NO_CODE}


def test_no_code_of_the_client_is_1000_at_the_upstream() -> None:
    with through() as ends:
        ends.client.close(None)
        assert ends.peer.answer_close() == (1000, "")


@pytest.mark.parametrize("count", [1, 500])
def test_messages_before_the_upstream_s_close_arrive_before_it(count: int) -> None:
    with through() as ends:
        for number in range(count):
            ends.peer.send_text(f"{number}")
        ends.peer.close(4001, "done")
        assert [ends.client.receive_message() for _ in range(count)] == list(map(str, range(count)))
        assert ends.client.expect_close() == (4001, "done")


@pytest.mark.parametrize("count", [1, 500])
def test_messages_before_the_client_s_close_arrive_before_it(count: int) -> None:
    with through() as ends:
        for number in range(count):
            ends.client.send_text(f"{number}")
        ends.client.close(4001, "done")
        assert [ends.peer.receive_message() for _ in range(count)] == list(map(str, range(count)))
        assert ends.peer.expect_close() == (4001, "done")


def test_a_large_message_before_a_close_arrives_before_it() -> None:
    large = bytes(3_000_000)
    with through() as ends:
        ends.peer.send_binary(large)
        ends.peer.close(1000)
        assert ends.client.receive_message() == large
        assert ends.client.expect_close() == (1000, "")
    with through() as ends:
        ends.client.send_binary(large)
        ends.client.close(1000)
        assert ends.peer.receive_message() == large
        assert ends.peer.expect_close() == (1000, "")


def test_messages_behind_a_close_frame_are_not_messages() -> None:
    with through() as ends:
        ends.peer.close(4001)
        ends.peer.send_text("too late")
        ends.peer.ping()
        assert ends.client.answer_close() == (4001, "")
        ends.peer.finish()
        ends.client.expect_end()
    with through() as ends:
        ends.client.close(4001)
        ends.client.send_text("too late")
        assert ends.peer.answer_close() == (4001, "")
        ends.peer.expect_end()


def test_both_close_at_once() -> None:
    with through() as ends:
        ends.peer.close(4001, "upstream")
        ends.client.close(4002, "client")
        # Each has sent its own and gets one: the other's, or its own in answer.
        assert ends.client.expect_close()[0] in {4001, 4002}
        assert ends.peer.expect_close()[0] in {4001, 4002}
        ends.peer.finish()
        ends.client.expect_end()
        ends.peer.expect_end()


def drain(peer: WebSocketPeer) -> None:
    """Read to the end of the connection."""
    with contextlib.suppress(ClosedError, ConnectionError):
        while True:
            peer.receive()


def chatter(peer: UpstreamPeer) -> None:
    """Send without a pause, until the connection ends."""
    with contextlib.suppress(OSError):
        while True:
            peer.send_binary(bytes(1000))
    peer.park()


@pytest.mark.parametrize("kind", EACH)
def test_a_close_of_the_client_arrives_though_the_upstream_talks_on(kind: str) -> None:
    """Servers raise out of `send` then, maybe before `receive` tells what the client has sent."""
    accept = Accept(chatter)
    with (
        Upstream(accept) as upstream,
        serve(Relay(upstream.url), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        client.open()
        assert client.receive_message() == bytes(1000)
        for number in range(100):
            client.send_text(f"{number}")
        client.close(4001, "done")
        reading = threading.Thread(target=drain, args=(client,))
        reading.start()
        peer = accept.peer()
        assert [peer.receive_message() for _ in range(100)] == list(map(str, range(100)))
        code, _ = peer.expect_close()
        # hypercorn does not tell what the client has said.
        assert code == (1001 if kind.startswith("hypercorn") else 4001)
        peer.vanish()
        reading.join()


# -- without one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [UpstreamPeer.vanish, UpstreamPeer.reset])
@pytest.mark.parametrize("half", [b"", b"\x81", b"\x81\x05he"], ids=["idle", "head", "frame"])
def test_an_upstream_that_vanishes_is_1011_at_the_client(
    leave: Callable[[UpstreamPeer], None], half: bytes
) -> None:
    with through() as ends:
        ends.peer.send_text("last words")
        assert ends.client.receive_message() == "last words"
        ends.peer.send(half)
        left = time.monotonic()
        leave(ends.peer)
        code, _ = ends.client.expect_close()
        assert code == 1011
        assert time.monotonic() - left < WITHIN


def test_messages_before_an_upstream_vanishes_arrive_before_the_1011() -> None:
    with through() as ends:
        for number in range(100):
            ends.peer.send_text(f"{number}")
        ends.peer.vanish()
        assert [ends.client.receive_message() for _ in range(100)] == list(map(str, range(100)))
        assert ends.client.expect_close()[0] == 1011


def test_a_message_that_is_not_over_when_its_upstream_vanishes_never_arrives() -> None:
    with through() as ends:
        ends.peer.send_frame(TEXT, b"first half", fin=False)
        ends.peer.vanish()
        assert ends.client.expect_close()[0] == 1011


@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
def test_a_client_that_vanishes_is_seen_upstream(leave: Callable[[WebSocketClient], None]) -> None:
    with through() as ends:
        left = time.monotonic()
        leave(ends.client)
        assert ends.peer.expect_close() == (1001, "")
        assert time.monotonic() - left < WITHIN
        ends.peer.close(1001)
        ends.peer.finish()
        ends.peer.expect_end()


@pytest.mark.parametrize("half", [b"\x81", b"\x81\x85\0\0\0\0he"], ids=["head", "frame"])
def test_a_client_that_vanishes_within_a_frame_is_seen_upstream(half: bytes) -> None:
    with through() as ends:
        ends.client.send_text("last words")
        ends.client.send(half)
        ends.client.vanish()
        assert ends.peer.receive_message() == "last words"
        assert ends.peer.expect_close() == (1001, "")


# -- closes that a server tells of in its own way --------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ({"code": 1000, "reason": "bye"}, (1000, "bye")),
        ({"code": 4999, "reason": LONGEST}, (4999, LONGEST)),
        ({"code": 4999, "reason": None}, (4999, "")),
        ({"code": 3000}, (3000, "")),
        ({"code": 1005, "reason": ""}, (1000, "")),
        ({"code": None, "reason": ""}, (1000, "")),
        # uvicorn's way to say that there was no close frame.
        ({"code": 1005}, (1001, "")),
        ({"code": 1006, "reason": ""}, (1001, "")),
        ({"code": 1006}, (1001, "")),
        ({"code": 1012}, (1012, "")),
        ({"code": 1014}, (1014, "")),
        ({"code": 1015}, (1001, "")),
        ({"code": 999}, (1001, "")),
        ({"code": 0}, (1001, "")),
        ({"code": 2999}, (1001, "")),
        ({"code": 5000}, (1001, "")),
        ({"code": 70000}, (1001, "")),
        ({"code": -1}, (1001, "")),
        ({"code": 4000, "reason": "\u20ac" * 60}, (4000, "\u20ac" * 41)),
    ],
    ids=str,
)
async def test_what_a_server_says_of_the_client_s_close_goes_up(
    told: dict[str, object], sent: tuple[int, str]
) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay, Session().run(relay) as session:
            await session.accepted()
            session.arrive({"type": "websocket.disconnect", **told})
            assert await anyio.to_thread.run_sync(accept.peer().answer_close) == sent
        assert session.types == ["websocket.accept"]


@pytest.mark.anyio
async def test_the_app_returns_with_the_close_and_not_with_the_upstream_s_answer() -> None:
    """An upstream that never answers a close frame holds no app up."""
    accept = Accept()
    with Upstream(accept) as upstream:
        async with Relay(upstream.url) as relay:
            async with Session().run(relay) as session:
                await session.accepted()
                begin = time.monotonic()
                session.leave(1000)
            assert time.monotonic() - begin < WITHIN
            assert await anyio.to_thread.run_sync(accept.peer().expect_close) == (1000, "")
            accept.peer().vanish()


# -- peers that do not finish ----------------------------------------------------------------------

DROPPED_AFTER = 5.0


def test_an_upstream_that_never_answers_a_close_frame_is_dropped() -> None:
    with through() as ends:
        ends.client.close(1000)
        assert ends.peer.expect_close() == (1000, "")
        begin = time.monotonic()
        # It goes on talking meanwhile, which is no answer.
        for _ in range(3):
            ends.peer.send_text("still talking")
        assert ends.peer.wait_closed(2 * DROPPED_AFTER) - begin > DROPPED_AFTER / 2


def test_an_upstream_that_closes_and_keeps_the_connection_is_dropped() -> None:
    with through() as ends:
        ends.peer.close(1000)
        assert ends.peer.expect_close()[0] == 1000
        assert ends.client.answer_close() == (1000, "")
        ends.peer.wait_closed(2 * DROPPED_AFTER)


def test_a_client_that_never_answers_a_close_frame_does_not_keep_the_upstream() -> None:
    with through() as ends:
        assert ends.peer.finish_close(4000, "bye")[0] == 4000
        assert ends.client.expect_close() == (4000, "bye")
        ends.peer.expect_end()


def test_an_upstream_that_ends_right_behind_its_close_frame_has_closed() -> None:
    with through() as ends:
        ends.peer.close(4000, "bye")
        ends.peer.vanish()
        assert ends.client.expect_close() == (4000, "bye")


# -- close frames that are wrong -------------------------------------------------------------------

WRONG: dict[str, Callable[[WebSocketPeer], None]] = {
    "one octet": lambda peer: peer.send_frame(CLOSE, b"\x03"),
    "reason not UTF-8": lambda peer: peer.close(1000, b"\xff"),
    "reason cut within a character": lambda peer: peer.close(1000, "€".encode()[:2]),
    "too long": lambda peer: peer.close(1000, "x" * 124),
    "fragmented": lambda peer: peer.send_frame(CLOSE, b"\x03\xe8", fin=False),
    "reserved bit": lambda peer: peer.send_frame(CLOSE, b"\x03\xe8", rsv=4),
}
for _code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
    WRONG[str(_code)] = functools.partial(WebSocketPeer.close, code=_code)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_close_frame_of_the_upstream_is_1011_at_the_client(
    wrong: Callable[[WebSocketPeer], None],
) -> None:
    with through() as ends:
        ends.peer.send_frame(BINARY, b"before")
        wrong(ends.peer)
        assert ends.client.receive_message() == b"before"
        assert ends.client.expect_close()[0] == 1011
        assert ends.peer.expect_close()[0] in {1002, 1007}
        ends.peer.expect_end()


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_close_frame_of_the_client_is_a_right_one_upstream(
    wrong: Callable[[WebSocketPeer], None],
) -> None:
    with through() as ends:
        wrong(ends.client)
        # `expect_close` would not take a wrong one.
        ends.peer.answer_close()
        ends.peer.expect_end()
