"""Connections to the upstream: which are kept, for how long, and how many there may be.

What a request gets when none comes free is in test_timeouts; the race with a connection that
closes is in test_keepalive.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from asgi_relay import Limits, Timeout

from .support import scripts
from .support.client import Client, TruncatedError
from .support.exchange import Gate
from .support.front import relayed
from .support.upstream import Upstream
from .support.waiting import wait_until

if TYPE_CHECKING:
    from .support.exchange import Exchange, Script

HEAD = b"HTTP/1.1 200 OK\r\n"
HTTP_1_0 = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"


def indices(upstream: Upstream) -> list[int]:
    """Which connection each request came over."""
    return [request.connection.index for request in upstream.requests]


# -- what is kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        scripts.ok,
        scripts.answer(204, body=b""),
        scripts.answer(500),
        scripts.answer(body=b"x" * 1_000_000),
        scripts.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ],
    ids=["length", "204", "500", "long", "chunked"],
)
def test_a_connection_is_used_again_after_a_whole_answer(script: Script) -> None:
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        for _ in range(3):
            front.fetch()
        assert indices(upstream) == [0, 0, 0]


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "OPTIONS"])
def test_a_connection_is_used_again_after_every_method(method: str) -> None:
    with Upstream(scripts.ok) as upstream, relayed(upstream.url) as front:
        for _ in range(3):
            front.fetch(method=method, body=b"x")
        assert indices(upstream) == [0, 0, 0]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_connection_is_used_again_after_an_upload_in_pieces(chunked: bool) -> None:
    piece = b"x" * 200_000
    with (
        Upstream(scripts.ok) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        for _ in range(3):
            if chunked:
                client.start("POST", chunked=True)
                client.send_chunks([piece, piece, piece])
            else:
                client.start("POST", length=3 * len(piece))
                for _ in range(3):
                    client.send(piece)
            assert client.read().body == b"ok"
        assert indices(upstream) == [0, 0, 0]


@pytest.mark.parametrize(
    "script",
    [
        scripts.answer(headers=[("Connection", "close")]),
        scripts.answer(headers=[("Connection", "Close")]),
        scripts.answer(headers=[("Connection", "x-a, close")]),
        scripts.say(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        scripts.say(HTTP_1_0),
        scripts.early(200),
    ],
    ids=["close", "Close", "close-in-a-list", "http-1.0", "http-1.0-keep-alive", "early"],
)
def test_a_connection_that_the_upstream_wants_closed_is_not_used_again(script: Script) -> None:
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        for _ in range(2):
            assert front.fetch(method="PUT", body=b"x").status == 200
        assert indices(upstream) == [0, 1]


def test_a_chunked_body_is_whole_behind_an_answer_in_http_1_0() -> None:
    with (
        Upstream(scripts.say(HTTP_1_0)) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        for _ in range(2):
            client.start("PUT", chunked=True)
            client.send_chunks([b"not ", b"lost"])
            assert client.read().body == b"ok"
        requests = upstream.requests
    assert [request.version for request in requests] == [b"HTTP/1.1"] * 2
    assert [request.body for request in requests] == [b"not lost"] * 2


def test_an_answer_before_the_end_of_an_upload_does_not_mix_the_rest_into_the_next_request() -> (
    None
):
    # It says nothing about closing, and goes on reading what comes over the connection.
    def early(exchange: Exchange) -> None:
        if exchange.request.method == b"POST":
            exchange.respond(413, body=b"too much")
        exchange.read_body()
        if exchange.request.method != b"POST":
            exchange.respond(body=b"next")

    with Upstream(early) as upstream, relayed(upstream.url) as front:
        with front.client() as client:
            client.start("POST", length=1_000_000)
            client.send(b"x" * 1000)
            assert client.read().body == b"too much"
            assert front.fetch().body == b"next"
            with contextlib.suppress(ConnectionError):
                client.send(b"GET /evil HTTP/1.1\r\n\r\n")
        assert [request.target for request in upstream.requests] == [b"/", b"/"]
        assert indices(upstream) == [0, 1]


@pytest.mark.parametrize(
    "script",
    [scripts.say(b"?\r\n\r\n"), scripts.cut_length(), scripts.cut_chunked(rst=True), scripts.reset],
    ids=["garbage", "cut-length", "cut-chunked", "reset"],
)
def test_a_connection_is_not_used_again_after_a_failure(script: Script) -> None:
    with (
        Upstream(scripts.in_turn(script, scripts.ok)) as upstream,
        relayed(upstream.url) as front,
    ):
        with contextlib.suppress(TruncatedError):
            front.fetch()
        assert front.fetch().body == b"ok"
        assert indices(upstream) == [0, 1]


def test_a_connection_is_not_used_again_after_its_client_left_a_download() -> None:
    gate = Gate()
    script = scripts.in_turn(scripts.drip(gate, [b"a", b"b"]), scripts.ok)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        with front.client() as client:
            client.start()
            client.read_head()
        upstream.connections[0].wait_closed()
        assert front.fetch().body == b"ok"
        assert indices(upstream) == [0, 1]


def test_two_relays_share_no_connection() -> None:
    with Upstream(scripts.ok) as upstream:
        for _ in range(2):
            with relayed(upstream.url) as front:
                front.fetch()
            upstream.wait_until(
                lambda: all(c.closed_by_peer.is_set() for c in upstream.connections),
                "the shutdown to close what is idle",
            )
        assert indices(upstream) == [0, 1]


# -- limits ----------------------------------------------------------------------------------------


def hold(upstream: Upstream, front: Any, count: int, stack: contextlib.ExitStack) -> list[Client]:
    """Have so many requests wait at the upstream at once."""
    clients = [stack.enter_context(front.client()) for _ in range(count)]
    for client in clients:
        client.start()
    upstream.wait_requests(count)
    return clients


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_connections=2),
        httpx.Limits(max_connections=2),
        httpx2.Limits(max_connections=2),
    ],
    ids=["ours", "httpx", "httpx2"],
)
def test_no_more_than_max_connections_are_open(limits: object) -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, limits=limits) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(front.client()) for _ in range(6)]
        for client in clients:
            client.start()
        upstream.wait_requests(2)
        gate.throw_open()
        assert [client.read().body for client in clients] == [b"ok"] * 6
        assert len(upstream.connections) == 2


def test_who_waits_first_is_served_first() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, limits=Limits(max_connections=1)) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(front.client()) for _ in range(5)]
        for number, client in enumerate(clients):
            client.start("GET", f"/{number}")
            if number == 0:
                upstream.wait_requests()
            # A request that waits in the pool shows nowhere; a round through the server does.
            assert front.fetch(method="GET", target="/../x").status == 400
        gate.throw_open()
        for client in clients:
            client.read()
        assert [request.target for request in upstream.requests] == [
            b"/0", b"/1", b"/2", b"/3", b"/4",
        ]  # fmt: skip


def test_none_is_no_limit() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, limits=Limits(max_connections=None)) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = hold(upstream, front, 120, stack)
        gate.throw_open()
        assert {client.read().body for client in clients} == {b"ok"}


def test_the_default_limit_is_100_connections() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(front.client()) for _ in range(110)]
        for client in clients:
            client.start()
        upstream.wait_requests(100)
        gate.throw_open()
        assert {client.read().body for client in clients} == {b"ok"}
        assert len(upstream.connections) == 100


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_no_more_than_max_keepalive_connections_are_kept(kept: int) -> None:
    gate = Gate()
    limits = Limits(max_keepalive_connections=kept)
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, limits=limits) as front,
        contextlib.ExitStack() as stack,
    ):
        clients = hold(upstream, front, 5, stack)
        gate.throw_open()
        for client in clients:
            client.read()
        upstream.wait_until(lambda: closed(upstream) >= 5 - kept, "the others to be closed")
        for _ in range(5):
            front.fetch()
        assert len(upstream.connections) == (10 if kept == 0 else 5)
        assert closed(upstream) >= 5 - kept


def test_the_connection_of_a_client_that_left_comes_free() -> None:
    script = scripts.in_turn(scripts.hang, scripts.ok)
    with (
        Upstream(script) as upstream,
        relayed(upstream.url, limits=Limits(max_connections=1)) as front,
    ):
        with front.client() as client:
            client.start()
            upstream.wait_requests()
        assert front.fetch().body == b"ok"


def test_a_client_that_leaves_while_it_waits_gives_its_place_up() -> None:
    gate = Gate()
    settings = {"limits": Limits(max_connections=1), "timeout": Timeout(read=60, pool=60)}
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, **settings) as front,
        front.client() as first,
    ):
        first.start("GET", "/first")
        upstream.wait_requests()
        with front.client() as second:
            second.start("GET", "/second")
            assert front.fetch("/../x").status == 400
        wait_until(lambda: front.active == 1, "its leaving")
        gate.throw_open()
        first.read()
        assert front.fetch("/third").body == b"ok"
        assert [request.target for request in upstream.requests] == [b"/first", b"/third"]


# -- expiry ----------------------------------------------------------------------------------------


def test_an_idle_connection_is_closed_after_keepalive_expiry() -> None:
    with (
        Upstream(scripts.ok) as upstream,
        relayed(upstream.url, limits=Limits(keepalive_expiry=0.3)) as front,
    ):
        front.fetch()
        asked_at = upstream.requests[0].at
        # By default it would be 5 seconds.
        assert 0.3 <= upstream.connections[0].wait_closed() - asked_at < 4
        assert front.fetch().body == b"ok"
        assert indices(upstream) == [0, 1]


def test_use_renews_an_idle_connection() -> None:
    with (
        Upstream(scripts.ok) as upstream,
        relayed(upstream.url, limits=Limits(keepalive_expiry=2.5)) as front,
    ):
        front.fetch()
        for _ in range(3):
            time.sleep(1)
            front.fetch()
        assert indices(upstream) == [0, 0, 0, 0]


def test_an_expiry_of_0_keeps_nothing() -> None:
    with (
        Upstream(scripts.ok) as upstream,
        relayed(upstream.url, limits=Limits(keepalive_expiry=0)) as front,
    ):
        front.fetch()
        upstream.connections[0].wait_closed()
        front.fetch()
        assert indices(upstream) == [0, 1]


def closed(upstream: Upstream) -> int:
    return sum(connection.closed_by_peer.is_set() for connection in upstream.connections)
