"""WebSockets whose small messages the event loop's thread reads by itself, after many of them.

What such a WebSocket has in common with any other is in the tests that have the fixture `ways`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import Relay

from .support.frames import PONG
from .support.lending import lending, lent
from .support.session import Session
from .support.upstream import Upstream
from .support.waiting import PATIENCE, wait_until
from .support.websocket import Accept, echo, through

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.authority import Authority

ROUNDS = 100


@pytest.fixture
def all_lent() -> Iterator[None]:
    lending.wanted = True
    yield
    lending.wanted = False


@pytest.fixture(autouse=True)
def none_before() -> None:
    wait_until(lambda: lent() == 0, "what other tests have lent")


async def count_lent(target: str, verify: bool | str = True) -> int:
    """How many sockets are lent at most while messages go to and fro; they come back right."""
    most = 0
    async with Relay(target, verify=verify) as relay, Session().run(relay) as session:
        await session.accepted()
        for number in range(ROUNDS):
            session.say(f"{number}")
            assert await session.message() == f"{number}"
            most = max(most, lent())
        session.leave(1000)
    return most


@pytest.mark.anyio
async def test_each_event_loop_reads_by_itself(anyio_backend: object) -> None:
    with Upstream(Accept(echo)) as upstream:
        assert await count_lent(upstream.url) == 1
    assert lent() == 0


def test_a_unix_socket_is_read_so_too(tmp_path: Path) -> None:
    with Upstream(Accept(echo), unix=tmp_path / "up.sock") as upstream:
        assert anyio.run(count_lent, upstream.url) == 1


def test_tls_is_not(authority: Authority) -> None:
    """What the socket has is not what the upstream said."""
    with Upstream(Accept(echo), tls=authority.server("127.0.0.1")) as upstream:
        assert anyio.run(count_lent, upstream.url, str(authority.pem)) == 0


@pytest.mark.usefixtures("all_lent")
def test_a_loop_that_does_not_go_round_does_not_keep_the_upstream_waiting() -> None:
    stands, goes_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        stands.set()
        assert goes_on.wait(PATIENCE)

    with through() as ends:
        ends.front.loop.call_soon_threadsafe(stand_still)
        try:
            assert stands.wait(PATIENCE)
            ends.peer.ping(b"still there?")
            pong = ends.peer.receive()
            assert (pong.opcode, pong.payload) == (PONG, b"still there?")
            ends.peer.send_text("behind it")
        finally:
            goes_on.set()
        assert ends.client.receive_message() == "behind it"


@pytest.mark.usefixtures("all_lent")
def test_it_goes_back_and_is_lent_again() -> None:
    with through() as ends:
        for number in range(1, 5):
            ends.peer.send_binary(bytes(10_000 * number))
            assert ends.client.receive_message() == bytes(10_000 * number)
            assert lent() == 0
            lending.lend(ends.client, ends.peer)
            ends.client.send_text("and up")
            assert ends.peer.receive_message() == "and up"


@pytest.mark.usefixtures("all_lent")
def test_shutdown_closes_both_sides() -> None:
    with through() as ends:
        stopping = asyncio.run_coroutine_threadsafe(ends.front.relay.shutdown(), ends.front.loop)
        assert ends.peer.answer_close() == (1001, "")
        assert ends.client.answer_close() == (1001, "")
        stopping.result(PATIENCE)
        assert lent() == 0
