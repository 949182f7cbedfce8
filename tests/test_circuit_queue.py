"""Requests beyond `max_in_flight` wait for room: for how long, in what order, and what then."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Timeout

from .support import scripts
from .support.direct import Call
from .support.exchange import Gate
from .support.fleet import (
    asking,
    balanced,
    fleet,
    relay_to,
    says,
    status_of,
    until,
    upstreams,
    wait_in_flight,
)
from .support.load import Load
from .support.waiting import AT_ONCE
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from .support.exchange import Script
    from .support.front import Front


def front_settles(front: Front) -> None:
    """A request that is refused at once has come behind what was sent before it."""
    assert front.fetch("/%2e%2e/x").status == 400


def test_a_request_waits_for_room() -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, says("a"))) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=10) as front,
        asking(front) as (first,),
    ):
        a.wait_requests()
        with asking(front) as (second,):
            gate.open()
            assert first.read().body == b"a"
            a.wait_requests(2)
            gate.open()
            assert second.read().body == b"a"


@pytest.mark.parametrize(
    ("wait", "after"), [(0, b"1"), (0.2, b"1"), (1.2, b"2")], ids=["none", "short", "longer"]
)
def test_a_wait_that_is_too_long_is_a_503_that_says_when_to_come_back(
    wait: float, after: bytes
) -> None:
    with (
        upstreams(scripts.hang) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=wait, timeout=Timeout(read=60)) as front,
        asking(front),
    ):
        a.wait_requests()
        begin = time.monotonic()
        response = front.fetch()
        assert wait * 0.98 <= time.monotonic() - begin < wait + AT_ONCE
        assert len(a.requests) == 1
    assert response.status == 503
    assert response.value("retry-after") == after
    assert response.body.startswith(b"Service Unavailable: ")
    assert (response.value("content-type") or b"").startswith(b"text/plain")
    assert str(a.port).encode() not in response.body


def test_those_who_wait_are_served_in_turn() -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, says("a"))) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=10) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for number in range(4):
            clients += stack.enter_context(asking(front, 1, f"/{number}"))
            # One after another, as each has reached the relay when the next one is sent.
            if number == 0:
                a.wait_requests()
            else:
                front_settles(front)
        gate.throw_open()
        for client in clients:
            assert client.read().status == 200
        assert [one.target for one in a.requests] == [b"/0", b"/1", b"/2", b"/3"]


def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, says("a"))) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=10) as front,
        asking(front, 1, "/first") as (first,),
    ):
        a.wait_requests()
        with asking(front, 1, "/leaves"):
            front_settles(front)
        with asking(front, 1, "/stays") as (stays,):
            gate.throw_open()
            assert first.read().body == b"a"
            assert stays.read().body == b"a"
        assert status_of(front.relay, a)["in_flight"] == 0
        # It may just have been served, before its leaving was known; it does not hold anyone up.
        assert [one.target for one in a.requests if one.target != b"/leaves"] == [
            b"/first",
            b"/stays",
        ]


@pytest.mark.parametrize("script", [scripts.hang, scripts.stall(b"some")], ids=["head", "body"])
def test_a_client_that_leaves_a_target_makes_room(script: Any) -> None:
    with (
        upstreams(scripts.by_path({b"/hang": script, b"/": says("a")})) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=10) as front,
    ):
        with asking(front, 1, "/hang"):
            a.wait_requests()
            wait_in_flight(front, a, 1)
        assert front.fetch().body == b"a"


def test_a_target_that_joins_takes_over_those_who_wait() -> None:
    with (
        upstreams(scripts.hang, "b") as (a, b),
        balanced(a, max_in_flight=1, queue_timeout=30) as front,
        asking(front),
    ):
        a.wait_requests()
        with asking(front) as (waiting,):
            front_settles(front)
            front.relay.targets.add(b.url)
            assert waiting.read().body == b"b"


def test_a_web_socket_waits_for_room_like_a_request() -> None:
    gate = Gate()
    accept = Accept()
    routes: dict[bytes, Script] = {b"/": scripts.gated(gate, says("a")), b"/ws": accept}
    with (
        upstreams(scripts.by_path(routes)) as (a,),
        balanced(a, max_in_flight=1, queue_timeout=10) as front,
        asking(front) as (first,),
        WebSocketClient(front.port) as client,
    ):
        a.wait_requests()
        key = client.start("/ws")
        front_settles(front)
        assert len(a.requests) == 1
        gate.throw_open()
        assert first.read().body == b"a"
        assert client.http.read_head().status == 101
        assert key
        accept.peer().send_text("hello")
        assert client.receive_message() == "hello"


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_while_it_waits_frees_its_place() -> None:
    gate = Gate()
    with upstreams(scripts.gated(gate, says("a"))) as (a,):
        async with relay_to(a, max_in_flight=1, queue_timeout=10) as relay:
            async with anyio.create_task_group() as tasks:
                first, last = Call(), Call(target="/last")
                tasks.start_soon(first, relay)
                await until(lambda: bool(a.requests), "the request")
                async with anyio.create_task_group() as cancelled:
                    for _ in range(5):
                        cancelled.start_soon(Call(target="/cancelled"), relay)
                    await anyio.sleep(0.02)
                    cancelled.cancel_scope.cancel()
                tasks.start_soon(last, relay)
                gate.throw_open()
            assert [call.body for call in (first, last)] == [b"a", b"a"]
            assert status_of(relay, a)["in_flight"] == 0
    assert [one.target for one in a.requests] == [b"/", b"/last"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nobody_starves_while_others_keep_asking() -> None:
    with fleet("a") as (a,):
        a.tell("delay 0.003")
        async with (
            relay_to(a, max_in_flight=1, queue_timeout=10) as relay,
            Load(relay, clients=12, pause=0) as load,
        ):
            await load.more(150)
    assert load.statuses == {200: len(load.answers)}
    # Each client is as often served as the others, give or take one.
    served = Counter(answer.target.partition("-")[0] for answer in load.answers)
    assert max(served.values()) - min(served.values()) <= 2, served
