"""`max_in_flight`: how many requests a target may have at once, and what counts as one.

What those beyond them get is in test_circuit_queue.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Limits, Target, Timeout

from .support import scripts
from .support.exchange import Gate
from .support.fleet import asking, balanced, says, status_of, upstreams, wait_in_flight
from .support.front import patience, relayed
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from .support.client import Client

one_each: dict[str, Any] = {"balance": "round_robin", "max_in_flight": 1}


# -- room ------------------------------------------------------------------------------------------


def test_no_more_than_so_many_are_in_flight() -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, says("a"))) as (a,),
        balanced(a, max_in_flight=3, queue_timeout=10) as front,
        asking(front, 8) as clients,
    ):
        a.wait_requests(3)
        for finished in range(1, 9):
            assert status_of(front.relay, a)["in_flight"] <= 3
            gate.open()
            a.wait_requests(min(8, 3 + finished))
            assert len(a.requests) == min(8, 3 + finished)
        assert [client.read().body for client in clients] == [b"a"] * 8
        assert status_of(front.relay, a)["in_flight"] == 0


def test_one_that_is_full_is_passed_over() -> None:
    gate = Gate()
    slow = scripts.by_path({b"/wait": scripts.gated(gate, says("a")), b"/": says("a")})
    with (
        upstreams(slow, "b") as (a, b),
        balanced(a, b, **one_each) as front,
    ):
        with contextlib.ExitStack() as stack:
            waiting: list[Client] = []
            while not a.requests:
                waiting += stack.enter_context(asking(front, 1, "/wait"))
                count = len(waiting)
                wait_until(
                    lambda count=count: len(a.requests + b.requests) == count,  # type: ignore[misc]
                    "the request",
                )
            assert [front.fetch().body for _ in range(6)] == [b"b"] * 6
            gate.throw_open()
            assert waiting[-1].read().body == b"a"
        assert {front.fetch().body for _ in range(4)} == {b"a", b"b"}


def test_each_target_may_have_its_own_number() -> None:
    gate = Gate()
    held = [scripts.gated(gate, says(name)) for name in "ab"]
    with (
        upstreams(*held) as (a, b),
        balanced(Target(a.url, max_in_flight=4), b, max_in_flight=2, queue_timeout=10) as front,
        asking(front, 8) as clients,
    ):
        a.wait_requests(4)
        b.wait_requests(2)
        in_flight = [status_of(front.relay, one)["in_flight"] for one in (a, b)]
        assert in_flight == [4, 2]
        gate.throw_open()
        assert all(client.read().status == 200 for client in clients)


# -- what is in flight -----------------------------------------------------------------------------


def test_a_request_is_in_flight_until_its_last_octet() -> None:
    gate = Gate()
    with (
        upstreams(scripts.drip(gate, [b"one", b"two"])) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=0) as front,
        asking(front) as (client,),
    ):
        response = client.read_head()
        pieces = client.pieces(response)
        gate.open()
        assert next(pieces).data == b"one"
        assert status_of(front.relay, a)["in_flight"] == 1
        assert front.fetch().status == 503
        gate.throw_open()
        assert next(pieces).data == b"two"
        assert list(pieces) == []
        wait_in_flight(front, a, 0)
        assert front.fetch().status == 200


def test_a_web_socket_is_in_flight_until_its_end() -> None:
    accept = Accept()
    with (
        upstreams(accept) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=0) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open()
        assert status_of(front.relay, a)["in_flight"] == 1
        with WebSocketClient(front.port) as other:
            refused = other.shake()
            assert (refused.status, refused.value("retry-after")) == (503, b"1")
        client.close()
        accept.peer().answer_close()
        wait_in_flight(front, a, 0)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (scripts.close, 502),
        (scripts.reset, 502),
        (scripts.say(b"?\r\n\r\n"), 502),
        (scripts.hang, 504),
    ],
    ids=["fin", "rst", "garbage", "timeout"],
)
def test_a_failure_makes_room(script: Any, status: int) -> None:
    with (
        upstreams(script) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=0, timeout=patience(script)) as front,
    ):
        for _ in range(3):
            assert front.fetch(method="POST", body=b"x").status == status
        assert status_of(front.relay, a)["in_flight"] == 0


def test_a_wait_for_room_is_not_a_wait_for_a_connection() -> None:
    """The two limits are checked one behind the other, and each has its own answer."""
    settings = {"limits": Limits(max_connections=1), "timeout": Timeout(read=60, pool=2)}
    with (
        upstreams(scripts.hang) as (a,),
        balanced(a, max_in_flight=2, queue_timeout=0, **settings) as front,
        asking(front),
    ):
        a.wait_requests()
        assert front.fetch().status == 504
        with asking(front):
            # It is in flight for as long as it waits for a connection.
            wait_in_flight(front, a, 2)
            assert front.fetch().status == 503


def test_one_upstream_alone_may_be_protected_as_well() -> None:
    with (
        upstreams(scripts.hang) as (a,),
        relayed(a.url, max_in_flight=1, queue_timeout=0) as front,
        asking(front),
    ):
        a.wait_requests()
        assert front.fetch().status == 503
