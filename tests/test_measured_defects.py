"""Defects that were measured in other proxies and that no other file has a test for.

The rest are where their subject is: `grep -r "_defect_" tests` finds them all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_relay import Relay, Timeout

from .support import asgi, scripts
from .support.apps import mount
from .support.client import Client, fetch
from .support.exchange import Gate
from .support.front import relayed
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from .support.asgi import Receive, Scope, Send

PATIENT = Timeout(read=60)
"""So long that an upstream which learns at once of a client's leaving was not told by it."""

event_stream = [("Content-Type", "text/event-stream")]


@pytest.mark.parametrize("framework", ["ravyn", "lilya", "starlette", "fastapi"])
def test_lilya_defect_a_client_that_leaves_an_event_stream_is_noticed(framework: str) -> None:
    """With Lilya the upstream goes on for ever."""
    gate = Gate()
    script = scripts.drip(gate, [b"data: 1\n\n", b"data: 2\n\n"], headers=event_stream)
    with Upstream(script) as upstream:
        app = mount(framework, "/auth", Relay(upstream.url, timeout=PATIENT))
        with serve(app) as server:
            with Client(server.port) as client:
                client.start("GET", "/auth/events")
                gate.open()
                pieces = client.pieces(client.read_head())
                assert next(pieces).data == b"data: 1\n\n"
            left = time.monotonic()
            assert upstream.connections[0].wait_closed() - left < AT_ONCE


@pytest.mark.parametrize("framework", ["ravyn", "lilya", "starlette", "fastapi"])
def test_python_peers_defect_a_client_that_leaves_before_the_first_byte_is_noticed(
    framework: str,
) -> None:
    """None of the Python peers cancels the upstream then."""
    with Upstream(scripts.hang) as upstream:
        app = mount(framework, "/auth", Relay(upstream.url, timeout=PATIENT))
        with serve(app) as server:
            with Client(server.port) as client:
                client.start("GET", "/auth/slow")
                connection = upstream.wait_requests().connection
            left = time.monotonic()
            assert connection.wait_closed() - left < AT_ONCE


def test_pyserve_defect_an_event_stream_is_not_buffered() -> None:
    gate = Gate()
    events = [b"data: %d\n\n" % number for number in range(5)]
    with (
        Upstream(scripts.drip(gate, events, headers=event_stream)) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        client.start()
        pieces = client.pieces(client.read_head())
        for event in events:
            # The upstream does not go on before the client has got this one.
            gate.open()
            assert next(pieces).data == event


def test_pyserve_defect_a_short_mount_does_not_shadow_a_longer_one() -> None:
    with Upstream(scripts.ok) as first, Upstream(scripts.ok) as second:
        routes = [
            Mount("/api/v2", Relay(second.url, upstream_prefix="/two")),
            Mount("/api", Relay(first.url, upstream_prefix="/one")),
        ]
        with serve(Starlette(routes=routes)) as server:
            for target in ("/api/v2/x", "/api/x", "/api/v22/x"):
                assert fetch(server.port, target).status == 200
        assert [request.target for request in first.requests] == [b"/one/x", b"/one/v22/x"]
        assert [request.target for request in second.requests] == [b"/two/x"]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_lilya_defect_objects_of_httpx_work_when_a_request_comes(library: Any) -> None:
    """Lilya wants httpx2's, takes httpx's, and fails with them at request time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asgi.respond(send, b"from memory: " + scope["raw_path"])

    settings = {
        "timeout": library.Timeout(5.0, connect=1.0),
        "limits": library.Limits(max_connections=5, max_keepalive_connections=2),
        "retry_exceptions": (library.ConnectError, library.ReadTimeout),
        "max_retries": 1,
    }
    with Upstream(scripts.ok) as upstream, relayed(upstream.url, **settings) as front:
        assert front.fetch("/x").body == b"ok"
    settings["transport"] = library.ASGITransport(app=app)
    with relayed("http://upstream", **settings) as front:
        assert front.fetch("/x").body == b"from memory: /x"
