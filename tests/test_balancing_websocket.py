"""WebSockets with several upstreams: they are balanced, counted and ejected as requests are."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import ConsistentHash, PassiveHealth, Relay

from .support.fleet import balanced, relay_to, state_of, status_of, until, upstreams
from .support.session import Session
from .support.upstream import refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .support.front import Front
    from .support.upstream import Upstream
    from .support.websocket import UpstreamPeer

pytestmark = pytest.mark.anyio

in_turn: dict[str, Any] = {"balance": "round_robin"}


def accepts(name: str) -> Accept:
    """An upstream that names itself, and echoes."""
    return Accept(echo, headers=[("X-Name", name)])


def in_flight(relay: Relay) -> int:
    return sum(one["in_flight"] for one in relay.status()["targets"].values())


def opened(front: Front, headers: Any = ()) -> bytes:
    """Open one and close it again; which upstream it was."""
    before = in_flight(front.relay)
    with WebSocketClient(front.port) as client:
        response = client.open("/x", headers)
        client.finish_close()
    # The relay may know of its end a moment later than we do.
    wait_until(lambda: in_flight(front.relay) == before, "the end")
    return response.value("x-name") or b""


def test_they_take_turns_with_requests() -> None:
    with upstreams(accepts("a"), accepts("b")) as two, balanced(*two, **in_turn) as front:
        assert Counter(opened(front) for _ in range(6)) == {b"a": 3, b"b": 3}


@pytest.mark.parametrize("policy", ["p2c", "least_connections"])
def test_those_that_are_open_count(policy: str) -> None:
    with (
        upstreams(accepts("a"), accepts("b")) as two,
        balanced(*two, balance=policy) as front,
        WebSocketClient(front.port) as client,
    ):
        taken = client.open().value("x-name")
        other = {b"a": b"b", b"b": b"a"}[taken or b""]
        assert {opened(front) for _ in range(6)} == {other}


def test_a_key_brings_them_to_its_target() -> None:
    settings = {"balance": ConsistentHash(header="X-User")}
    with upstreams(accepts("a"), accepts("b")) as two, balanced(*two, **settings) as front:
        for user in "pqrstu":
            assert len({opened(front, [("X-User", user)]) for _ in range(3)}) == 1


def test_each_target_gets_its_own_host_and_path() -> None:
    with upstreams(accepts("a"), accepts("b")) as (a, b):
        with balanced(f"{a.url}/one", f"{b.url}/two", **in_turn) as front:
            for _ in range(2):
                opened(front)
        assert (a.requests[0].target, b.requests[0].target) == (b"/one/x", b"/two/x")
        assert [one.requests[0].value("host") for one in (a, b)] == [
            one.authority.encode() for one in (a, b)
        ]


def test_one_that_refuses_connections_is_ejected() -> None:
    passive = PassiveHealth(consecutive_failures=2, eject_time=60)
    with refusing() as url, upstreams(accepts("b")) as (b,):
        with balanced(url, b, **in_turn, passive_health=passive) as front:
            statuses = []
            for _ in range(8):
                with WebSocketClient(front.port) as client:
                    statuses.append(client.shake().status)
                    client.vanish()
            assert state_of(front.relay, url) == "ejected"
        assert statuses.count(502) == 2
        assert set(statuses[4:]) == {101}


def test_a_handshake_that_cannot_connect_goes_to_another_target() -> None:
    settings = {**in_turn, "max_retries": 1, "passive_health": None}
    with (
        refusing() as url,
        upstreams(accepts("b")) as (b,),
        balanced(url, b, **settings) as front,
    ):
        assert [opened(front) for _ in range(4)] == [b"b"] * 4


@pytest.mark.parametrize("ending", ["vanish", "reset"])
async def test_one_that_vanishes_in_the_middle_is_a_failure(ending: str) -> None:
    """As a response that is cut short is."""
    async with ended(lambda peer, session: getattr(peer, ending)()) as (relay, a):
        await until(lambda: status_of(relay, a)["failures"] == 1, "the failure")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_one_that_closes_is_none_whatever_its_code(code: int) -> None:
    async with ended(lambda peer, session: peer.finish_close(code)) as (relay, a):
        assert status_of(relay, a)["failures"] == 0


@pytest.mark.parametrize("code", [1000, 1006])
async def test_a_client_that_leaves_is_none(code: int) -> None:
    def leave(peer: UpstreamPeer, session: Session) -> None:
        anyio.from_thread.run_sync(session.leave, code)
        peer.answer_close()

    async with ended(leave) as (relay, a):
        assert status_of(relay, a)["failures"] == 0


async def test_nor_is_one_that_sends_too_much() -> None:
    def send(peer: UpstreamPeer, session: Session) -> None:
        anyio.from_thread.run_sync(session.say, "longer")
        assert peer.answer_close()[0] == 1001

    async with ended(send, ws_max_message_size=3) as (relay, a):
        assert status_of(relay, a)["failures"] == 0


async def test_nor_is_a_silence_of_both() -> None:
    def wait(peer: UpstreamPeer, _: Session) -> None:
        assert peer.answer_close()[0] == 1001

    async with ended(wait, ws_idle_timeout=0.2) as (relay, a):
        assert status_of(relay, a)["failures"] == 0


@contextlib.asynccontextmanager
async def ended(
    end: Callable[[UpstreamPeer, Session], object], **settings: Any
) -> AsyncIterator[tuple[Relay, Upstream]]:
    """A WebSocket that was open and that has ended in this way."""
    accept = Accept()
    with upstreams(accept) as (a,):
        async with relay_to(a, **settings) as relay:
            session = Session("/x")
            async with session.run(relay):
                await session.accepted()
                await anyio.to_thread.run_sync(end, accept.peer(), session)
            await until(lambda: status_of(relay, a)["in_flight"] == 0, "the end")
            yield relay, a
