"""A retry that finds no target: the client gets the upstream's own last answer, whole."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Limits, Timeout

from .support import scripts
from .support.client import TruncatedError
from .support.exchange import Gate
from .support.fleet import asking, balanced, status_of, upstreams, wait_in_flight
from .support.upstream import refusing
from .support.waiting import wait_until
from .support.websocket import WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.client import Client
    from .support.exchange import Exchange, Script
    from .support.front import Front
    from .support.upstream import Upstream

retrying: dict[str, Any] = {"max_retries": 1, "retry_backoff_factor": 0, "passive_health": None}
HEADERS = [("Retry-After", "7"), ("X-Own", "yes")]
WORDS = b"own words"
LARGE = b"x" * 300_000


def unavailable(body: bytes = WORDS, status: int = 503) -> Script:
    return scripts.answer(status, HEADERS, body)


def chunked(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.start(503, HEADERS)
    for word in (b"own", b" ", b"words"):
        exchange.chunk(word)
    exchange.end()


def cut(exchange: Exchange) -> None:
    """More was promised."""
    exchange.read_body()
    exchange.start(503, HEADERS, length=100)
    exchange.send(WORDS)
    exchange.close()


@contextlib.contextmanager
def left_alone(
    script: Script, target: str = "/", **settings: Any
) -> Iterator[tuple[Front, Upstream, Client]]:
    """A client whose request has been answered by the only target, drained meanwhile."""
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, script)) as (a,),
        balanced(a, **{**retrying, **settings}) as front,
        asking(front, 1, target) as (client,),
    ):
        a.wait_requests()
        front.relay.targets.drain(a.url)
        gate.throw_open()
        yield front, a, client


@pytest.mark.parametrize("status", [502, 503, 504])
def test_no_target_is_left(status: int) -> None:
    with left_alone(unavailable(status=status)) as (front, a, client):
        response = client.read()
        assert (response.status, response.body) == (status, WORDS)
        assert [response.value(name) for name in ("retry-after", "x-own")] == [b"7", b"yes"]
        wait_in_flight(front, a, 0)
        assert len(a.requests) == 1


@pytest.mark.parametrize(
    ("script", "body"),
    [(unavailable(b""), b""), (chunked, WORDS), (unavailable(LARGE), LARGE)],
    ids=["empty", "chunked", "large"],
)
def test_its_body_arrives_whole(script: Script, body: bytes) -> None:
    with left_alone(script) as (front, a, client):
        response = client.read()
        assert (response.status, response.body) == (503, body)
        wait_in_flight(front, a, 0)


def test_one_that_breaks_off_is_seen_to() -> None:
    with left_alone(cut) as (_, _, client), pytest.raises(TruncatedError):
        client.read()


def test_one_that_goes_on_is_in_flight_again() -> None:
    gate = Gate()
    pieces = scripts.drip(gate, [WORDS, WORDS], status=503)
    with left_alone(pieces) as (front, a, client):
        head = client.read_head()
        wait_in_flight(front, a, 1)
        gate.throw_open()
        assert b"".join(piece.data for piece in client.pieces(head)) == WORDS + WORDS
        wait_in_flight(front, a, 0)


def test_all_have_become_full_meanwhile() -> None:
    first, second = Gate(), Gate()
    script = scripts.in_turn(
        scripts.gated(first, unavailable()), scripts.gated(second, scripts.ok), scripts.ok
    )
    settings = {**retrying, "retry_backoff_factor": 2, "max_in_flight": 1}
    with (
        upstreams(script) as (a,),
        balanced(a, **settings, queue_timeout=2) as front,
        asking(front) as (one,),
    ):
        a.wait_requests()
        with asking(front) as (other,):
            # It is in the queue, or comes while the retry waits for two seconds.
            first.throw_open()
            a.wait_requests(2)
            response = one.read()
            assert (response.status, response.body) == (503, WORDS)
            assert response.value("retry-after") == b"7"
            second.throw_open()
            assert other.read().status == 200


def test_a_large_one_holds_no_connection_while_its_retry_waits() -> None:
    settings = {**retrying, "retry_backoff_factor": 4, "limits": Limits(max_connections=1)}
    with (
        upstreams(scripts.in_turn(unavailable(LARGE), scripts.ok)) as (a,),
        balanced(a, **settings, timeout=Timeout(60, pool=2)) as front,
        asking(front) as (one,),
    ):
        a.wait_requests()
        assert front.fetch().status == 200
        assert len(a.requests) == 2
        assert one.read().status == 200


def test_one_that_has_been_let_go_of_is_not_missed_in_vain() -> None:
    """There was a target when its retry began to wait, and none when it ended."""
    with (
        upstreams(unavailable(LARGE)) as (a,),
        balanced(a, **{**retrying, "retry_backoff_factor": 3}) as front,
        asking(front) as (client,),
    ):
        a.wait_requests()
        a.connections[0].wait_closed()
        front.relay.targets.drain(a.url)
        response = client.read()
        assert (response.status, response.body) == (
            503,
            b"Service Unavailable: no upstream is healthy",
        )


def test_a_connection_is_kept_while_a_short_one_waits() -> None:
    with (
        upstreams(scripts.in_turn(unavailable(), scripts.ok)) as (a,),
        balanced(a, **retrying) as front,
    ):
        assert front.fetch().status == 200
        assert len(a.requests) == 2
        assert len(a.connections) == 1


def test_a_failure_stays_what_it_was() -> None:
    with refusing() as url, balanced(url, **retrying, max_in_flight=1) as front:
        assert front.fetch().status == 502


def test_the_budget_is_used_up() -> None:
    with (
        upstreams(unavailable()) as (a,),
        balanced(a, **retrying, retry_budget=0) as front,
        front.client() as client,
    ):
        for _ in range(30):
            response = client.request()
            assert (response.status, response.body) == (503, WORDS)
        assert len(a.requests) < 60


def test_a_refused_handshake_too() -> None:
    gate = Gate()
    with (
        upstreams(scripts.gated(gate, unavailable())) as (a,),
        balanced(a, **retrying) as front,
        WebSocketClient(front.port) as client,
    ):
        client.start()
        a.wait_requests()
        front.relay.targets.drain(a.url)
        gate.throw_open()
        response = client.http.read()
        assert (response.status, response.body) == (503, WORDS)
        wait_until(lambda: status_of(front.relay, a)["in_flight"] == 0, "the end")
