"""An ejected target is let back in by one good answer, and stays out longer with each bad one."""

from __future__ import annotations

import contextlib
import itertools
import time

from asgi_relay import HealthCheck, Target, TargetChange

from .support import scripts
from .support.exchange import Gate
from .support.failing import Fickle, ask_until_ejected, begin_trial, by_failures
from .support.fleet import asking, balanced, says, state_of, upstreams
from .support.waiting import AT_ONCE, PATIENCE, wait_until

# -- trials ----------------------------------------------------------------------------------


def test_it_comes_back_by_one_good_answer() -> None:
    fickle = Fickle("a", 500)
    with (
        upstreams(fickle, "b") as (a, b),
        balanced(a, b, **by_failures(2, eject_time=0.4)) as front,
    ):
        ask_until_ejected(front, a)
        # The answer that it is out for came behind this.
        out = a.requests[-1].at
        fickle.status = 200
        seen = len(a.requests)
        while len(a.requests) == seen:
            front.fetch()
            assert time.monotonic() - out < PATIENCE
        assert a.requests[-1].at - out >= 0.4 * 0.95
        wait_until(lambda: state_of(front.relay, a) == "healthy", "the way back")
        assert {front.fetch().body for _ in range(2)} == {b"a", b"b"}


def test_one_trial_at_a_time() -> None:
    gate = Gate()
    script = scripts.in_turn(scripts.answer(500), scripts.gated(gate, says("a")), says("a"))
    with (
        upstreams(script, "b") as (a, b),
        balanced(a, b, **by_failures(1, eject_time=0.2)) as front,
        contextlib.ExitStack() as stack,
    ):
        ask_until_ejected(front, a)
        trial = begin_trial(front, a, stack)
        # It hangs, and nobody else's request goes there meanwhile.
        assert [front.fetch().body for _ in range(10)] == [b"b"] * 10
        assert len(a.requests) == 2
        assert state_of(front.relay, a) == "ejected"
        gate.throw_open()
        assert trial.read().body == b"a"
        wait_until(lambda: state_of(front.relay, a) == "healthy", "the way back")
        assert {front.fetch().body for _ in range(2)} == {b"a", b"b"}


def test_a_trial_that_is_abandoned_is_followed_by_another() -> None:
    script = scripts.in_turn(scripts.answer(500), scripts.hang, says("a"))
    with (
        upstreams(script, "b") as (a, b),
        balanced(a, b, **by_failures(1, eject_time=0.1)) as front,
    ):
        ask_until_ejected(front, a)
        with contextlib.ExitStack() as stack:
            begin_trial(front, a, stack)
        # Its client has left.
        deadline = time.monotonic() + PATIENCE
        while front.fetch().body != b"a":
            assert time.monotonic() < deadline


def test_a_trial_at_a_target_that_was_removed_does_not_keep_another_out() -> None:
    all_there, gate = Gate(), Gate()
    failing = scripts.answer(500)
    late = scripts.gated(all_there, failing)
    first = scripts.in_turn(late, scripts.gated(gate, says("a")))
    second = scripts.in_turn(late, failing, says("b"))
    with (
        upstreams(first, second, "c", "d") as (a, b, c, d),
        balanced(a, b, c, d, **by_failures(1, eject_time=0.2)) as front,
        contextlib.ExitStack() as stack,
    ):
        with asking(front, 4) as clients:
            # None is ejected before each has been asked: no request is a trial already.
            for one in (a, b, c, d):
                one.wait_requests()
            all_there.throw_open()
            for client in clients:
                client.read()
        assert [state_of(front.relay, one) for one in (a, b)] == ["ejected"] * 2
        trial = begin_trial(front, a, stack)
        front.relay.targets.remove(a.url)
        gate.throw_open()
        assert trial.read().body == b"a"
        deadline = time.monotonic() + PATIENCE
        while state_of(front.relay, b) == "ejected":
            front.fetch()
            assert time.monotonic() < deadline, "nobody tries it again"


def test_each_ejection_is_twice_as_long_as_the_one_before() -> None:
    with upstreams(scripts.answer(500), "b") as (a, b):
        with balanced(a, b, **by_failures(1, eject_time=0.15)) as front:
            while len(a.requests) < 4:
                front.fetch()
        times = [one.at for one in a.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, least in zip(gaps, [0.15, 0.3, 0.6], strict=True):
        assert least * 0.95 <= gap < least + AT_ONCE, gaps


def test_a_trial_that_fails_costs_a_retry_and_no_answer() -> None:
    settings = {**by_failures(1, eject_time=0.1), "max_retries": 1}
    with upstreams(scripts.answer(503), "b") as (a, b), balanced(a, b, **settings) as front:
        while len(a.requests) < 3:
            assert front.fetch().body == b"b"


# -- who is told, and what is on top ---------------------------------------------------------------


def test_both_ways_are_told() -> None:
    fickle = Fickle("a", 500)
    changes: list[TargetChange] = []
    settings = {**by_failures(1, eject_time=0.1), "on_target_change": changes.append}
    with upstreams(fickle, "b") as (a, b), balanced(a, b, **settings) as front:
        ask_until_ejected(front, a)
        fickle.status = 200
        while state_of(front.relay, a) == "ejected":
            front.fetch()
        wait_until(lambda: len(changes) >= 2, "both changes")
        url = a.url
    assert changes == [
        TargetChange(url, "healthy", "ejected"),
        TargetChange(url, "ejected", "healthy"),
    ]


def test_draining_and_unhealthy_show_above_ejected() -> None:
    fickle = Fickle("a", 500)
    check = HealthCheck("/health", expected_statuses=[500], interval=0.05, fall=1)
    with upstreams(fickle, "b") as (a, b):
        own = Target(a.url, health_check=check)
        with balanced(own, b, **by_failures(1)) as front:
            ask_until_ejected(front, a)
            fickle.status = 404
            wait_until(lambda: state_of(front.relay, a) == "unhealthy", "the check")
            fickle.status = 500
            wait_until(lambda: state_of(front.relay, a) == "ejected", "the check")
            front.relay.targets.drain(a.url)
            assert state_of(front.relay, a) == "draining"
