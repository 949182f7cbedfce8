"""`relay.targets`: targets come and go, and what they have in flight finishes where it is."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from asgi_relay import HealthCheck, Limits, Relay, Target, TargetChange

from .support import scripts
from .support.exchange import Gate
from .support.fleet import (
    asking,
    balanced,
    fleet,
    probed,
    relay_to,
    state_of,
    status_of,
    upstreams,
    wait_in_flight,
)
from .support.load import Load
from .support.upstream import refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient, echo

A, B = "http://a.test:8000", "http://b.test:8000"
in_turn: dict[str, Any] = {"balance": "round_robin"}


# -- as a collection -------------------------------------------------------------------------------


def test_it_is_a_collection_of_urls() -> None:
    relay = Relay([A, Target(B)])
    assert list(relay.targets) == [A, B]
    assert len(relay.targets) == 2
    assert A in relay.targets
    assert "http://c.test" not in relay.targets
    assert 5 not in relay.targets
    assert A in repr(relay.targets)


def test_it_changes_before_the_start_too() -> None:
    relay = Relay(A)
    relay.targets.add(B)
    relay.targets.drain(A)
    assert [state_of(relay, url) for url in (A, B)] == ["draining", "healthy"]
    relay.targets.remove(A)
    assert list(relay.targets) == [B]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (A, ValueError),
        ("HTTP://A.test:8000/", ValueError),
        (Target(A, weight=2), ValueError),
        ("https://b.test", ValueError),
        ("nonsense", ValueError),
        ("http://user:s3cret@b.test", ValueError),
        (None, TypeError),
        (b"http://b.test", TypeError),
        ([B], TypeError),
    ],
    ids=ascii,
)
def test_what_the_constructor_refuses_is_not_added(wrong: Any, kind: type[Exception]) -> None:
    relay = Relay(A)
    with pytest.raises(kind) as raised:
        relay.targets.add(wrong)
    assert "s3cret" not in str(raised.value)
    assert list(relay.targets) == [A]


@pytest.mark.parametrize("method", ["drain", "remove"])
def test_a_target_that_is_not_there_is_a_key_error(method: str) -> None:
    relay = Relay([A, B])
    with pytest.raises(KeyError, match=r"c\.test"):
        getattr(relay.targets, method)("http://c.test")
    with pytest.raises(TypeError):
        getattr(relay.targets, method)(None)


@pytest.mark.parametrize("method", ["drain", "remove"])
@pytest.mark.parametrize("said", [f"{A}/", "HTTP://A.test:8000"])
def test_a_target_may_be_named_as_it_was_given(method: str, said: str) -> None:
    relay = Relay([said, B])
    getattr(relay.targets, method)(said)
    assert [one["state"] for one in relay.status()["targets"].values()].count("healthy") == 1


# -- added -----------------------------------------------------------------------------------------


def test_one_that_is_added_gets_its_share() -> None:
    with upstreams("a", "b") as (a, b), balanced(a, **in_turn) as front:
        assert front.fetch().body == b"a"
        front.relay.targets.add(b.url)
        assert Counter(front.fetch().body for _ in range(6)) == {b"a": 3, b"b": 3}


def test_its_weight_and_its_base_path_count() -> None:
    with upstreams("a", "b") as (a, b):
        with balanced(a, balance="weighted_round_robin", upstream_prefix="/api") as front:
            front.relay.targets.add(Target(f"{b.url}/base", weight=3))
            said = Counter(front.fetch("/x").body for _ in range(8))
        assert said == {b"a": 2, b"b": 6}
        assert {one.target for one in b.requests} == {b"/base/api/x"}


def test_one_that_is_added_is_checked_before_it_is_asked() -> None:
    gate = Gate()
    late = scripts.by_path({b"/health": scripts.gated(gate, scripts.ok), b"/": scripts.ok})
    check = HealthCheck("/health", interval=60)
    with (
        upstreams(scripts.answer(body=b"a"), late) as (a, b),
        balanced(a, **in_turn, health_check=check) as front,
    ):
        front.fetch()
        front.relay.targets.add(b.url)
        b.wait_requests()
        assert {front.fetch().body for _ in range(4)} == {b"a"}
        assert state_of(front.relay, b) == "unhealthy"
        gate.throw_open()
        wait_until(lambda: state_of(front.relay, b) == "healthy", "the check")
        assert {front.fetch().body for _ in range(4)} == {b"a", b"ok"}


def test_one_that_is_added_and_down_is_not_asked() -> None:
    with (
        refusing() as url,
        upstreams("a") as (a,),
        balanced(a, **in_turn, health_check=HealthCheck(interval=60)) as front,
    ):
        front.fetch()
        front.relay.targets.add(url)
        assert {front.fetch().status for _ in range(6)} == {200}
        assert status_of(front.relay, url)["requests"] == 0


# -- drained and removed ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["drain", "remove"])
def test_what_is_in_flight_finishes_where_it_is(method: str) -> None:
    gate = Gate()
    streaming = scripts.drip(gate, [b"one ", b"two"])
    with (
        upstreams(streaming, "b") as (a, b),
        balanced(a, **in_turn) as front,
        front.client() as client,
    ):
        client.start()
        pieces = client.pieces(client.read_head())
        gate.open()
        assert next(pieces).data == b"one "
        front.relay.targets.add(b.url)
        getattr(front.relay.targets, method)(a.url)
        assert {front.fetch().body for _ in range(4)} == {b"b"}
        if method == "drain":
            assert status_of(front.relay, a)["state"] == "draining"
            assert status_of(front.relay, a)["in_flight"] == 1
        else:
            assert a.url not in front.relay.status()["targets"]
        gate.throw_open()
        assert next(pieces).data == b"two"
        assert list(pieces) == []
        assert len(a.requests) == 1


@pytest.mark.parametrize("method", ["drain", "remove"])
def test_a_request_that_has_no_answer_yet_finishes_too(method: str) -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, scripts.ok), "b") as (a, b),
        balanced(a, **in_turn) as front,
        front.client() as client,
    ):
        client.start("POST", length=4)
        client.send(b"body")
        a.wait_requests()
        front.relay.targets.add(b.url)
        getattr(front.relay.targets, method)(a.url)
        gate.throw_open()
        assert client.read().body == b"ok"


@pytest.mark.parametrize("method", ["drain", "remove"])
def test_a_web_socket_stays_open(method: str) -> None:
    with (
        upstreams(Accept(echo), "b") as (a, b),
        balanced(a) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open()
        front.relay.targets.add(b.url)
        getattr(front.relay.targets, method)(a.url)
        client.send_text("still here?")
        assert client.receive_message() == "still here?"
        assert client.finish_close() == (1000, "")


def test_without_any_left_it_is_a_503() -> None:
    with upstreams("a", "b") as (a, b), balanced(a, b) as front:
        front.relay.targets.drain(a.url)
        front.relay.targets.drain(b.url)
        assert front.fetch().status == 503
        front.relay.targets.remove(a.url)
        front.relay.targets.remove(b.url)
        response = front.fetch()
        assert response.status == 503
        assert response.body.startswith(b"Service Unavailable: ")
        front.relay.targets.add(a.url)
        assert front.fetch().body == b"a"


def test_one_that_was_drained_comes_back_when_it_is_added() -> None:
    with upstreams("a", "b") as (a, b), balanced(a, b, **in_turn) as front:
        front.relay.targets.drain(a.url)
        assert {front.fetch().body for _ in range(4)} == {b"b"}
        front.relay.targets.add(a.url)
        assert sorted(front.relay.targets) == sorted([a.url, b.url])
        assert state_of(front.relay, a) == "healthy"
        assert {front.fetch().body for _ in range(2)} == {b"a", b"b"}


def test_one_that_was_removed_is_new_when_it_is_added() -> None:
    with upstreams("a", "b") as (a, b), balanced(a, b, **in_turn) as front:
        for _ in range(4):
            front.fetch()
        front.relay.targets.remove(a.url)
        front.relay.targets.add(a.url)
        assert status_of(front.relay, a)["requests"] == 0
        assert Counter(front.fetch().body for _ in range(4)) == {b"a": 2, b"b": 2}


@pytest.mark.parametrize("method", ["drain", "remove"])
def test_one_that_is_out_is_not_checked_any_more(method: str) -> None:
    """Although it still has something in flight."""
    routes = {b"/wait": scripts.hang, b"/health": scripts.ok}
    check = HealthCheck("/health", interval=0.03)
    with (
        upstreams(scripts.by_path(routes), scripts.by_path(routes)) as (a, b),
        balanced(a, b, **in_turn, health_check=check) as front,
        asking(front, 2, "/wait"),
    ):
        wait_in_flight(front, a, 1)
        getattr(front.relay.targets, method)(a.url)
        seen = len(probed(a)), len(probed(b))
        b.wait_until(lambda: len(probed(b)) >= seen[1] + 5, "probes of the other")
        # One may have been on its way.
        assert len(probed(a)) <= seen[0] + 1


def test_connections_to_one_that_is_removed_are_closed_when_they_are_idle() -> None:
    gate = Gate()
    routes = {b"/": scripts.ok, b"/wait": scripts.gated(gate, scripts.ok)}
    with (
        upstreams(scripts.by_path(routes), "b") as (a, b),
        balanced(a, b, **in_turn, limits=Limits(keepalive_expiry=60)) as front,
        asking(front, 2, "/wait"),
    ):
        a.wait_requests()
        while len(a.connections) < 2:
            front.fetch()
        busy, idle = a.connections
        front.relay.targets.remove(a.url)
        idle.wait_closed()
        assert not busy.closed_by_peer.is_set()
        gate.throw_open()
        busy.wait_closed()


def test_a_retry_does_not_go_to_one_that_is_gone() -> None:
    gate = Gate()
    settings = {**in_turn, "max_retries": 3, "retry_backoff_factor": 0}
    failing = scripts.gated(gate, scripts.answer(503))
    with (
        upstreams(failing, "b") as (a, b),
        balanced(a, **settings) as front,
        front.client() as client,
    ):
        client.start()
        a.wait_requests()
        front.relay.targets.add(b.url)
        front.relay.targets.remove(a.url)
        gate.throw_open()
        assert client.read().body == b"b"
        assert len(a.requests) == 1


# -- from anywhere ---------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_any_thread_may_change_them_under_load() -> None:
    stop = threading.Event()
    raised: list[BaseException] = []

    def change(relay: Relay, url: str) -> None:
        try:
            while not stop.is_set():
                relay.targets.drain(url)
                relay.targets.remove(url)
                relay.targets.add(Target(url, weight=2))
        except BaseException as error:
            raised.append(error)

    with fleet("a", "b", "c") as (a, b, c):
        async with relay_to(a, b, c) as relay:
            threads = [threading.Thread(target=change, args=(relay, one.url)) for one in (b, c)]
            for thread in threads:
                thread.start()
            async with Load(relay) as load:
                await load.more(300)
            stop.set()
            for thread in threads:
                thread.join()
            in_flight = {one["in_flight"] for one in relay.status()["targets"].values()}
    assert raised == []
    assert load.statuses == {200: len(load.answers)}
    assert in_flight == {0}


def test_a_callback_may_change_them() -> None:
    """As one that takes what is unhealthy out for good."""
    with refusing() as url, upstreams("a") as (a,):
        relays: list[Relay] = []

        def changed(change: TargetChange) -> None:
            if change.after == "unhealthy":
                relays[0].targets.remove(change.url)

        check = HealthCheck(interval=0.05, fall=1)
        with balanced(a, url, health_check=check, on_target_change=changed) as front:
            relays.append(front.relay)
            assert front.fetch().body == b"a"
            a.stop()
            wait_until(lambda: a.url not in front.relay.targets, "the removal")
            assert front.fetch().status == 503
