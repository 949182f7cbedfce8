"""Passive health: who fails what it is asked is left out for a time, but never too many.

How it comes back is in test_ejection_return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, PassiveHealth, Timeout

from .support import scripts
from .support.failing import Fickle, ask_until_ejected, by_failures, for_long, in_turn
from .support.fleet import balanced, state_of, status_of, upstreams
from .support.front import patience, relayed
from .support.upstream import refusing, silent
from .support.waiting import wait_until

if TYPE_CHECKING:
    from .support.exchange import Script


# -- what ejects -----------------------------------------------------------------------------------


def test_so_many_failures_in_a_row_eject() -> None:
    with upstreams(scripts.answer(500), "b", "c") as (a, b, c):
        with balanced(a, b, c, **by_failures(3)) as front:
            statuses = [front.fetch().status for _ in range(30)]
            assert state_of(front.relay, a) == "ejected"
            assert status_of(front.relay, a)["failures"] == 3
        assert len(a.requests) == 3
    assert statuses.count(500) == 3
    assert set(statuses[9:]) == {200}


def test_a_success_between_them_begins_the_count_anew() -> None:
    good, bad = scripts.ok, scripts.answer(500)
    script = scripts.in_turn(bad, bad, good, bad, bad, good, bad, bad, bad, good)
    with upstreams(script, "b") as (a, b), balanced(a, b, **by_failures(3)) as front:
        ask_until_ejected(front, a)
        assert len(a.requests) == 9


@pytest.mark.parametrize(
    "script",
    [
        scripts.answer(500),
        scripts.answer(503),
        scripts.answer(599),
        scripts.close,
        scripts.reset,
        scripts.say(b"nonsense\r\n\r\n"),
        scripts.hang,
        scripts.cut_length(),
    ],
    ids=["500", "503", "599", "fin", "rst", "garbage", "read-timeout", "cut"],
)
def test_a_failure_is(script: Script) -> None:
    with (
        upstreams(script, "b") as (a, b),
        balanced(a, b, **by_failures(2), timeout=patience(script, little=2)) as front,
    ):
        assert ask_until_ejected(front, a) <= 4
        assert {front.fetch().body for _ in range(4)} == {b"b"}


def test_a_failure_to_connect_is_one() -> None:
    with (
        refusing() as url,
        upstreams("b") as (b,),
        balanced(url, b, **by_failures(2)) as front,
    ):
        assert ask_until_ejected(front, url) <= 4
        assert status_of(front.relay, url)["failures"] == 2
        assert "ConnectError" in status_of(front.relay, url)["last_error"]


def test_a_connect_that_never_ends_is_one() -> None:
    with (
        silent() as url,
        upstreams("b") as (b,),
        balanced(url, b, **by_failures(2), timeout=Timeout(connect=0.15)) as front,
    ):
        assert ask_until_ejected(front, url) <= 4


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 404, 418, 429, 499])
def test_no_other_answer_is(status: int) -> None:
    with upstreams(scripts.answer(status, body=b""), "b") as (a, b):
        with balanced(a, b, **by_failures(1)) as front:
            for _ in range(6):
                front.fetch()
            assert state_of(front.relay, a) == "healthy"
            assert status_of(front.relay, a)["failures"] == 0
        assert len(a.requests) == 3


def test_each_try_counts_where_it_was_made() -> None:
    settings = {**by_failures(3), "max_retries": 1}
    with upstreams(scripts.answer(503), "b") as (a, b), balanced(a, b, **settings) as front:
        assert {front.fetch().status for _ in range(20)} == {200}
        assert (status_of(front.relay, a)["failures"], len(a.requests)) == (3, 3)
        assert status_of(front.relay, b)["failures"] == 0


def test_a_client_that_leaves_is_nobodys_failure() -> None:
    with (
        upstreams(scripts.hang) as (a,),
        balanced(a, "http://127.0.0.1:9", **by_failures(1)) as front,
    ):
        front.relay.targets.drain("http://127.0.0.1:9")
        for number in range(1, 4):
            with front.client() as client:
                client.start()
                a.wait_requests(number)
            a.connections[-1].wait_closed()
        wait_until(lambda: status_of(front.relay, a)["in_flight"] == 0, "the end")
        assert state_of(front.relay, a) == "healthy"
        assert status_of(front.relay, a)["failures"] == 0


# -- the rate --------------------------------------------------------------------------------------


def by_rate(rate: float, **settings: Any) -> dict[str, Any]:
    passive = PassiveHealth(
        failure_rate=rate, **{"consecutive_failures": None, **for_long, **settings}
    )
    return {**in_turn, "passive_health": passive}


def test_a_rate_of_failures_ejects_from_the_tenth_answer_on() -> None:
    alternating = scripts.in_turn(*[scripts.ok, scripts.answer(500)] * 30)
    with upstreams(alternating, "b") as (a, b), balanced(a, b, **by_rate(0.5)) as front:
        ask_until_ejected(front, a)
        assert len(a.requests) == 10


def test_nine_bad_answers_are_too_few_to_tell() -> None:
    with upstreams(scripts.answer(500), "b") as (a, b), balanced(a, b, **by_rate(0.5)) as front:
        while len(a.requests) < 9:
            front.fetch()
        assert state_of(front.relay, a) == "healthy"
        ask_until_ejected(front, a, 3)


def test_a_rate_below_it_does_not() -> None:
    alternating = scripts.in_turn(*[scripts.ok, scripts.answer(500)] * 30)
    with upstreams(alternating, "b") as (a, b), balanced(a, b, **by_rate(0.6)) as front:
        for _ in range(60):
            front.fetch()
        assert state_of(front.relay, a) == "healthy"
        assert len(a.requests) == 30


@pytest.mark.parametrize(
    "passive",
    [None, PassiveHealth(consecutive_failures=None, failure_rate=None)],
    ids=["none", "off"],
)
def test_it_can_be_turned_off(passive: PassiveHealth | None) -> None:
    with (
        upstreams(scripts.answer(500), "b") as (a, b),
        balanced(a, b, **in_turn, passive_health=passive) as front,
    ):
        for _ in range(40):
            front.fetch()
        assert state_of(front.relay, a) == "healthy"
        assert status_of(front.relay, a)["failures"] == 20


# -- never too many --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "targets", "out"),
    [(0.5, 2, 1), (0.5, 3, 1), (0.5, 4, 2), (0.3, 4, 1), (0.1, 3, 1), (1, 3, 3), (0, 3, 0)],
)
def test_no_more_than_a_share_of_all_are_out(share: float, targets: int, out: int) -> None:
    with (
        upstreams(*[scripts.answer(500) for _ in range(targets)]) as several,
        balanced(*several, **by_failures(1, max_ejected=share)) as front,
    ):
        for _ in range(4 * targets):
            assert front.fetch().status == 500
            states = [state_of(front.relay, one) for one in several]
            assert states.count("ejected") <= out
        assert states.count("ejected") == out


@pytest.mark.parametrize("share", [0.5, 1])
def test_one_alone_is_never_out(share: float) -> None:
    with upstreams(scripts.answer(500)) as (a,):
        passive = PassiveHealth(consecutive_failures=1, max_ejected=share)
        with relayed(a.url, passive_health=passive) as front:
            for _ in range(5):
                assert front.fetch().status == 500
            if share < 1:
                assert state_of(front.relay, a) == "healthy"
        assert len(a.requests) == 5


def test_when_all_are_out_all_are_tried() -> None:
    """Better than none."""
    scripted = [Fickle("a", 500), Fickle("b", 500)]
    with (
        upstreams(*scripted) as two,
        balanced(*two, **by_failures(1, max_ejected=1)) as front,
    ):
        for _ in range(4):
            assert front.fetch().status == 500
        assert {state_of(front.relay, one) for one in two} == {"ejected"}
        for one in scripted:
            one.status = 200
        said = [front.fetch() for _ in range(8)]
        assert {answer.status for answer in said} == {200}
        assert {answer.body for answer in said} == {b"a", b"b"}


def test_who_is_unhealthy_is_not_tried_even_then() -> None:
    with refusing() as url, upstreams(Fickle("a", 500)) as (a,):
        check = HealthCheck(expected_statuses=[500], interval=60)
        with balanced(url, a, **by_failures(1, max_ejected=1), health_check=check) as front:
            assert {front.fetch().status for _ in range(4)} == {500}
            assert state_of(front.relay, a) == "ejected"
            assert state_of(front.relay, url) == "unhealthy"
