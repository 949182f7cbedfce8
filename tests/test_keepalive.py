"""The race with a kept connection that the upstream closes: it must never cost a client an error.

Where a request may have been acted on, the client is told instead (RFC 9110 §9.2.2).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Relay

from .support import scripts
from .support.client import fetch
from .support.exchange import Gate
from .support.front import relayed
from .support.upstream import Connection, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve
    from .support.exchange import Script


@pytest.mark.parametrize("end", [Connection.close, Connection.reset], ids=["fin", "rst"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_kept_connection_that_closed_while_idle_costs_nobody_an_error(
    method: str, end: Any
) -> None:
    with Upstream(scripts.echo) as upstream, relayed(upstream.url) as front:
        for round_ in range(1, 11):
            assert front.fetch(method=method, body=b"x").body == b"x"
            # The end is in the kernel when this returns; the next request comes at once.
            end(upstream.connections[-1])
            assert len(upstream.requests) == round_


def test_many_kept_connections_that_closed_while_idle_cost_nobody_an_error() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url) as front,
    ):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(front.client()) for _ in range(15)]
            for client in clients:
                client.start()
            upstream.wait_requests(15)
            gate.throw_open()
            for client in clients:
                client.read()
        for connection in upstream.connections:
            connection.close()
        for method in ("POST", "GET") * 5:
            assert front.fetch(method=method, body=b"x").status == 200


@pytest.mark.parametrize("end", [scripts.close, scripts.reset], ids=["fin", "rst"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_connection_that_closes_exactly_when_the_second_request_comes(
    method: str, end: Script
) -> None:
    """An idempotent request goes again over a new connection, even with no retries allowed."""
    script = scripts.in_turn(scripts.ok, end, scripts.ok)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 200
        response = front.fetch(method=method, body=b"body")
        assert response.status == 200
        assert [request.connection.index for request in upstream.requests] == [0, 0, 1]
        assert upstream.requests[1].raw == upstream.requests[2].raw


def test_a_post_that_a_closing_connection_has_taken_is_not_sent_again() -> None:
    """The upstream may have acted on it: the client must decide."""
    script = scripts.in_turn(scripts.ok, scripts.close, scripts.ok)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 200
        assert front.fetch(method="POST", body=b"order").status == 502
        assert [request.body for request in upstream.requests] == [b"", b"order"]


def test_a_chunked_put_on_a_connection_that_closes_is_sent_again_whole() -> None:
    script = scripts.in_turn(scripts.ok, scripts.close, scripts.echo)
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        client.request()
        client.start("PUT", chunked=True)
        client.send_chunks([b"a" * 50_000, b"b" * 50_000])
        assert client.read().body == b"a" * 50_000 + b"b" * 50_000


def test_a_new_connection_that_closes_is_a_502_and_no_race() -> None:
    with Upstream(scripts.close) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 502
        assert len(upstream.requests) == 1


def test_an_upstream_that_restarts_costs_nobody_an_error(server: Serve, tmp_path: Path) -> None:
    path = tmp_path / "up.sock"
    with Upstream(scripts.ok, unix=path) as first:
        port = server(Relay(first.url)).port
        for _ in range(3):
            assert fetch(port).status == 200
    path.unlink()
    with Upstream(scripts.ok, unix=path) as second:
        for method in ("POST", "GET", "POST"):
            assert fetch(port, method=method, body=b"x").status == 200
        assert len(second.requests) == 3
