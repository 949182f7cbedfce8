"""A redirect that is followed to another target of the set: it takes that target's turn."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, PassiveHealth, StickyCookie, Target

from .support import scripts
from .support.exchange import Gate
from .support.fleet import asking, balanced, state_of, status_of, upstreams, wait_in_flight
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Exchange, Script
    from .support.front import Front

following: dict[str, Any] = {
    "balance": "least_connections",
    "follow_redirects": True,
    "passive_health": None,
}


@contextlib.contextmanager
def leading(
    script: Script = scripts.ok,
    *,
    status: int = 302,
    base: str = "",
    max_in_flight: int | None = None,
    **settings: Any,
) -> Iterator[tuple[Front, Upstream, Upstream]]:
    """Two targets, of which the first leads to the second's `/there`, and gets what comes: the
    second one has a request in flight."""
    gate = Gate()
    there = {b"/there": script, f"{base}/hold".encode(): scripts.gated(gate, scripts.ok)}
    with upstreams(scripts.by_path(there)) as (b,):
        moved = scripts.answer(status, [("Location", f"{b.url}/there")])
        second = Target(f"{b.url}{base}", max_in_flight=max_in_flight)
        with (
            upstreams(moved) as (a,),
            balanced(second, **{**following, **settings}) as front,
            asking(front, 1, "/hold"),
        ):
            b.wait_requests()
            front.relay.targets.add(a.url)
            yield front, a, b
            gate.throw_open()


def led(b: Upstream) -> int:
    return sum(request.target == b"/there" for request in b.requests)


def test_it_is_in_flight_with_the_target_that_it_leads_to() -> None:
    gate = Gate()
    with leading(scripts.gated(gate, scripts.ok)) as (front, a, b):
        with asking(front, 1, "/start") as (client,):
            b.wait_requests(2)
            assert [status_of(front.relay, one)["in_flight"] for one in (a, b)] == [0, 2]
            gate.open()
            assert client.read().status == 200
        wait_in_flight(front, b, 1)
        for one, requests in ((a, 1), (b, 2)):
            status = status_of(front.relay, one)
            assert (status["requests"], status["failures"]) == (requests, 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_goes_along(method: str) -> None:
    with leading(scripts.echo, status=307) as (front, _, b):
        assert front.fetch(method=method, body=b"body").body == b"body"
        assert b.requests[-1].value("host") == b.authority.encode()


def test_a_base_path_makes_no_difference() -> None:
    with leading(base="/base") as (front, _, b):
        assert front.fetch().status == 200
        assert status_of(front.relay, f"{b.url}/base")["requests"] == 2


def test_a_failure_is_the_failure_of_the_target_that_it_leads_to() -> None:
    with leading(scripts.answer(500)) as (front, a, b):
        assert front.fetch().status == 500
        found = [status_of(front.relay, one) for one in (a, b)]
        assert [one["failures"] for one in found] == [0, 1]
        assert found[1]["last_error"] == "status 500"


def test_a_target_that_drains_gets_none() -> None:
    with leading() as (front, _, b):
        front.relay.targets.drain(b.url)
        response = front.fetch()
        assert (response.status, response.body) == (
            503,
            b"Service Unavailable: no upstream is healthy",
        )
        assert led(b) == 0


def test_nor_does_one_that_is_unhealthy() -> None:
    script = scripts.by_path({b"/health": scripts.answer(500), b"/there": scripts.ok})
    with upstreams(script) as (b,):
        check = HealthCheck("/health", interval=3600)
        with (
            upstreams(scripts.answer(302, [("Location", f"{b.url}/there")])) as (a,),
            balanced(Target(b.url, health_check=check), a, **following) as front,
        ):
            assert front.fetch().status == 503
            assert led(b) == 0


def test_a_full_one_is_waited_for() -> None:
    """As any request waits that has nobody else to go to."""
    gate = Gate()
    script = scripts.by_path({b"/there": scripts.ok, b"/hold": scripts.gated(gate, scripts.ok)})
    with upstreams(script) as (b,):
        moved = scripts.answer(302, [("Location", f"{b.url}/there")])
        with (
            upstreams(moved) as (a,),
            balanced(Target(b.url, max_in_flight=1), **following, queue_timeout=20) as front,
            asking(front, 1, "/hold"),
        ):
            b.wait_requests()
            front.relay.targets.add(a.url)
            with asking(front, 1, "/start") as (client,):
                a.wait_requests()
                # Its place with the first one is another's by now.
                wait_in_flight(front, a, 0)
                assert led(b) == 0
                gate.open()
                assert client.read().status == 200
            assert led(b) == 1


def test_not_for_longer_than_queue_timeout() -> None:
    with leading(max_in_flight=1, queue_timeout=0.1) as (front, a, b):
        response = front.fetch()
        assert (response.status, response.value("retry-after")) == (503, b"1")
        assert len(a.requests) == 1
        assert led(b) == 0


def test_one_that_is_ejected_is_asked() -> None:
    """As where all are ejected: there is nobody better."""
    passive = PassiveHealth(consecutive_failures=1, eject_time=300)
    settings = {**following, "balance": "round_robin", "passive_health": passive}
    with upstreams(scripts.by_path({b"/there": scripts.ok, b"/": scripts.answer(500)})) as (b,):
        moved = scripts.answer(302, [("Location", f"{b.url}/there")])
        routes = {b"/start": moved, b"/": scripts.ok}
        with upstreams(scripts.by_path(routes)) as (a,), balanced(a, b, **settings) as front:
            for _ in range(2):
                front.fetch()
            assert state_of(front.relay, b) == "ejected"
            assert front.fetch("/start").status == 200
            # It was no trial.
            assert state_of(front.relay, b) == "ejected"


def test_a_retry_stays_with_the_target_that_it_leads_to() -> None:
    script = scripts.in_turn(scripts.answer(503), scripts.ok)
    settings: dict[str, Any] = {"max_retries": 1, "retry_backoff_factor": 0}
    with leading(script, **settings) as (front, a, b):
        assert front.fetch().status == 200
        assert len(a.requests) == 1
        assert led(b) == 2
        status = status_of(front.relay, b)
        assert (status["requests"], status["failures"], status["in_flight"]) == (3, 1, 1)


def test_a_client_stays_with_the_target_that_was_chosen_for_it() -> None:
    with leading(sticky=StickyCookie("home")) as (front, a, b):
        first = front.fetch()
        cookie = (first.value("set-cookie") or b"").partition(b";")[0]
        assert cookie
        front.fetch(headers=[("Cookie", cookie)])
        assert len(a.requests) == 2
        assert led(b) == 2


def test_two_that_lead_to_each_other_do_not_wait_for_each_other() -> None:
    def script(exchange: Exchange) -> None:
        exchange.read_body()
        steps = int(exchange.request.target[1:])
        there = other[exchange.connection.upstream.url]
        location = [("Location", f"{there}/{steps - 1}")]
        exchange.respond(302 if steps else 200, location if steps else [])

    other: dict[str, str] = {}
    with upstreams(script, script) as (a, b):
        other.update({a.url: b.url, b.url: a.url})
        settings = {**following, "max_in_flight": 1, "queue_timeout": 0}
        with balanced(a, b, **settings) as front:
            assert front.fetch("/7").status == 200
            for one in (a, b):
                status = status_of(front.relay, one)
                assert (status["requests"], status["in_flight"]) == (4, 0)
