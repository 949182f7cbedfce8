"""Retries with several targets: elsewhere, at once, and never so many that they are the outage."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import ConnectTimeout, RemoteProtocolError, Timeout

from .support import scripts
from .support.client import TruncatedError
from .support.fleet import asked, asking, balanced, status_of, upstreams
from .support.front import patience, relayed
from .support.upstream import refusing, silent
from .support.waiting import wait_until

if TYPE_CHECKING:
    from .support.exchange import Script

# Round robin: the first of two is asked by one of any two requests. Nobody is ever ejected.
plain: dict[str, Any] = {"balance": "round_robin", "passive_health": None}
once: dict[str, Any] = {**plain, "max_retries": 1}
FACTOR = 30
"""A wait so long that nobody would mistake it for none."""


# -- elsewhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH"])
def test_a_failure_to_connect_goes_to_another_target_at_once(method: str) -> None:
    with refusing() as url, upstreams(scripts.echo) as (b,):
        with balanced(url, b, **once, retry_backoff_factor=FACTOR) as front:
            begin = time.monotonic()
            for _ in range(4):
                response = front.fetch(method=method, body=b"body")
                assert (response.status, response.body) == (200, b"body")
            assert time.monotonic() - begin < FACTOR / 3
        assert len(b.requests) == 4


def test_so_does_a_connect_that_takes_too_long() -> None:
    with silent() as url, upstreams("b") as (b,):
        settings = {**once, "timeout": Timeout(connect=0.5), "retry_backoff_factor": FACTOR}
        # It is no ConnectError, so it has to be asked for.
        with balanced(url, b, **settings, retry_exceptions=[ConnectTimeout]) as front:
            assert {front.fetch().body for _ in range(2)} == {b"b"}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_so_does_a_retryable_status(status: int) -> None:
    with upstreams(scripts.answer(status), "b") as (a, b):
        with balanced(a, b, **once, retry_backoff_factor=FACTOR) as front:
            begin = time.monotonic()
            assert [front.fetch().body for _ in range(4)] == [b"b"] * 4
            assert time.monotonic() - begin < FACTOR / 3
        assert len(a.requests) >= 1


def test_so_does_a_read_timeout() -> None:
    settings = {**once, "timeout": Timeout(read=2), "retry_backoff_factor": FACTOR}
    with upstreams(scripts.hang, "b") as (a, b), balanced(a, b, **settings) as front:
        with asking(front, 2) as clients:
            assert [client.read().body for client in clients] == [b"b"] * 2
        assert a.requests


@pytest.mark.parametrize(
    "policy", ["round_robin", "random", "p2c", "least_connections", "least_latency"]
)
def test_every_target_is_tried_before_one_is_tried_again(policy: str) -> None:
    settings = {**plain, "balance": policy, "retry_backoff_factor": FACTOR, "retry_budget": None}
    unavailable = [scripts.answer(503) for _ in range(4)]
    with upstreams(*unavailable) as four, balanced(*four, **settings, max_retries=3) as front:
        for number in range(4):
            assert front.fetch(f"/{number}").status == 503
        for number in range(4):
            got = [sum(r.target == f"/{number}".encode() for r in one.requests) for one in four]
            assert got == [1, 1, 1, 1]


def test_when_all_were_tried_it_waits_as_before() -> None:
    settings = {**plain, "max_retries": 2, "retry_backoff_factor": 0.15}
    with upstreams(scripts.answer(503), scripts.answer(503)) as two:
        with balanced(*two, **settings) as front:
            assert front.fetch().status == 503
        _, second, third = sorted(one.at for up in two for one in up.requests)
    # The second retry is the first that waits, and it waits as a second one does.
    assert third - second >= 0.3 * 0.95


def test_before_all_were_tried_nothing_waits() -> None:
    settings = {**plain, "max_retries": 2, "retry_backoff_factor": FACTOR}
    with (
        upstreams(scripts.answer(503), scripts.answer(503)) as two,
        balanced(*two, **settings) as front,
        asking(front),
    ):
        begin = time.monotonic()
        for one in two:
            one.wait_requests()
        assert time.monotonic() - begin < FACTOR / 3


def test_it_is_not_tried_again_beyond_max_retries() -> None:
    unavailable = scripts.answer(503)
    with (
        upstreams(unavailable, unavailable, unavailable, "d") as four,
        balanced(*four, **once) as front,
    ):
        for number in range(8):
            status = front.fetch(f"/{number}").status
            tries = [one for up in four for one in up.requests if one.target == b"/%d" % number]
            assert len(tries) <= 2
            assert status == 200 or len(tries) == 2


def test_without_retries_nothing_is_tried_elsewhere() -> None:
    with upstreams(scripts.answer(503), "b") as two, balanced(*two, **plain) as front:
        assert Counter(front.fetch().status for _ in range(4)) == {200: 2, 503: 2}


def test_the_last_answer_arrives_whole() -> None:
    def unavailable(name: str) -> Script:
        return scripts.answer(503, [("Retry-After", "7"), ("X-Name", name)], name.encode())

    with upstreams(unavailable("a"), unavailable("b")) as two:
        with balanced(*two, **once) as front:
            response = front.fetch()
        last = max(two, key=lambda one: one.requests[0].at)
    assert response.value("retry-after") == b"7"
    assert response.body == response.value("x-name") == b"ab"[two.index(last) :][:1]


# -- bodies and methods ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_is_replayed_to_another_target(chunked: bool) -> None:
    """Lilya replays a chunked one as an empty one."""
    body = bytes(range(256)) * 256
    with upstreams(scripts.answer(503), scripts.echo) as (a, b):
        with balanced(a, b, **once) as front:
            for _ in range(2):
                with front.client() as client:
                    if chunked:
                        client.start("PUT", chunked=True)
                        client.send_chunks([body[:30_000], body[30_000:]])
                    else:
                        client.start("PUT", length=len(body))
                        client.send(body)
                    response = client.read()
                    assert (response.status, response.body) == (200, body)
        assert {one.body for one in a.requests} == {body}


def test_each_target_gets_its_own_host_with_a_replay() -> None:
    with upstreams(scripts.answer(503), scripts.ok) as (a, b):
        with balanced(f"{a.url}/one", f"{b.url}/two", **once) as front:
            for _ in range(2):
                assert front.fetch("/x").status == 200
        assert {(one.target, one.value("host")) for one in a.requests} == {
            (b"/one/x", a.authority.encode())
        }
        assert {(one.target, one.value("host")) for one in b.requests} == {
            (b"/two/x", b.authority.encode())
        }


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (scripts.answer(503), 503),
        (scripts.hang, 504),
        (scripts.close, 502),
        (scripts.reset, 502),
        (scripts.say(b"nonsense\r\n\r\n"), 502),
    ],
    ids=["503", "timeout", "fin", "rst", "garbage"],
)
def test_a_post_that_may_have_been_seen_is_not_sent_elsewhere(script: Script, status: int) -> None:
    settings = {
        **once,
        "timeout": patience(script, little=2),
        "retry_exceptions": [Exception],
    }
    with upstreams(script, scripts.ok) as (a, b), balanced(a, b, **settings) as front:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(front.client()) for _ in range(4)]
            for client in clients:
                client.start("POST", length=3)
                client.send(b"pay")
            statuses = Counter(client.read().status for client in clients)
        assert statuses == {status: 2, 200: 2}
        assert [len(asked(one)) for one in (a, b)] == [2, 2]


def test_with_retry_non_idempotent_it_is() -> None:
    with upstreams(scripts.answer(503), scripts.echo) as (a, b):
        with balanced(a, b, **once, retry_non_idempotent=True) as front:
            said = [front.fetch(method="POST", body=b"pay").body for _ in range(2)]
        assert said == [b"pay"] * 2
        assert a.requests


def test_nothing_is_tried_elsewhere_once_the_response_has_begun() -> None:
    settings = {**once, "retry_exceptions": [Exception]}
    with upstreams(scripts.cut_length(), "b") as (a, b), balanced(a, b, **settings) as front:
        ends = []
        for _ in range(2):
            with contextlib.suppress(TruncatedError):
                ends.append(front.fetch().body)
        assert ends == [b"b"]
        assert len(b.requests) == 1


def test_a_failure_of_the_protocol_goes_elsewhere_where_it_is_asked_for() -> None:
    settings = {**once, "retry_exceptions": [RemoteProtocolError]}
    with upstreams(scripts.close, "b") as (a, b), balanced(a, b, **settings) as front:
        assert [front.fetch().body for _ in range(2)] == [b"b"] * 2


# -- the budget ------------------------------------------------------------------------------------

RESERVE = 10


def tries_in_an_outage(requests: int, **settings: Any) -> tuple[int, float]:
    """How many requests the upstreams got, and in how many seconds."""
    down: list[Script] = [scripts.answer(503)] * 2
    with upstreams(*down) as two:
        settings = {**plain, "retry_backoff_factor": 0, **settings}
        with balanced(*two, **settings) as front, front.client() as client:
            begin = time.monotonic()
            for _ in range(requests):
                assert client.request().status == 503
            took = time.monotonic() - begin
        return sum(len(one.requests) for one in two), took


@pytest.mark.parametrize("retries", [1, 5])
def test_an_outage_cannot_multiply_the_requests(retries: int) -> None:
    tries, took = tries_in_an_outage(200, max_retries=retries)
    # A fifth of the requests, the reserve, and what it refills by in a second.
    assert 200 + RESERVE + 38 <= tries <= 200 + RESERVE + 40 + took + 1


def test_a_budget_of_0_has_its_reserve_alone() -> None:
    tries, took = tries_in_an_outage(100, max_retries=1, retry_budget=0)
    assert 100 + RESERVE <= tries <= 100 + RESERVE + took + 1


def test_no_budget_is_no_bound() -> None:
    tries, _ = tries_in_an_outage(60, max_retries=2, retry_budget=None)
    assert tries == 180


def test_good_days_are_saved_for_bad_ones() -> None:
    script = scripts.by_path({b"/good": scripts.ok, b"/bad": scripts.answer(503)})
    settings = {**plain, "max_retries": 1, "retry_backoff_factor": 0}
    with upstreams(script) as (a,):
        with balanced(a, **settings) as front, front.client() as client:
            for _ in range(300):
                client.request(target="/good")
            begin = time.monotonic()
            for _ in range(200):
                client.request(target="/bad")
            took = time.monotonic() - begin
        tries = sum(one.target == b"/bad" for one in a.requests)
    # 70 were there, and no more than 100 ever are; 40 are added meanwhile.
    assert 200 + RESERVE + 60 + 38 <= tries <= 200 + 100 + 40 + took + 1


def test_out_of_budget_the_failure_is_passed_on() -> None:
    with refusing() as url, refusing() as other:
        settings = {**plain, "max_retries": 1, "retry_budget": 0, "retry_backoff_factor": 0}
        with balanced(url, other, **settings) as front, front.client() as client:
            responses = [client.request() for _ in range(30)]
    assert {response.status for response in responses} == {502}
    assert all(response.body.startswith(b"Upstream error") for response in responses)


def test_one_upstream_alone_has_a_budget_too() -> None:
    with upstreams(scripts.answer(503)) as (a,):
        settings = {"max_retries": 3, "retry_backoff_factor": 0, "retry_budget": 0}
        with relayed(a.url, **settings) as front, front.client() as client:
            begin = time.monotonic()
            for _ in range(20):
                client.request()
            took = time.monotonic() - begin
        assert 20 + RESERVE <= len(a.requests) <= 20 + RESERVE + took + 1


def test_a_retry_does_not_need_room_beside_the_try_before_it() -> None:
    settings = {**once, "max_in_flight": 1, "queue_timeout": 0, "retry_backoff_factor": 0.3}
    with (
        upstreams(scripts.in_turn(scripts.answer(503), scripts.ok)) as (a,),
        balanced(a, **settings) as front,
        front.client() as client,
    ):
        client.start()
        a.wait_requests()
        # Nor does it have any while it waits.
        wait_until(lambda: status_of(front.relay, a)["in_flight"] == 0, "the wait")
        assert client.read().status == 200
