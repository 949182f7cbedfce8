"""Over HTTP/2 a client leaves one stream and keeps its connection: that one exchange ends."""

from __future__ import annotations

import time

import pytest

from asgi_relay import Relay, Timeout

from .support import scripts
from .support.exchange import Gate
from .support.http2 import Http2Client
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import AT_ONCE

PATIENT = Timeout(read=60)
"""So long that an upstream which learns at once of a client's leaving was not told by it."""


@pytest.mark.parametrize("kind", ["hypercorn-asyncio", "hypercorn-trio", "granian"])
def test_leaving_one_stream_ends_that_one_only(kind: str) -> None:
    gate = Gate()
    event = b"data: 1\n\n"
    script = scripts.by_path(
        {b"/left": scripts.stall(event), b"/stays": scripts.drip(gate, [event, event])}
    )
    with (
        Upstream(script) as upstream,
        serve(Relay(upstream.url, timeout=PATIENT), kind) as server,
        Http2Client(server.port) as client,
    ):
        left = client.start("GET", "/left")
        leaving = upstream.wait_requests(1).connection
        stays = client.start("GET", "/stays")
        staying = upstream.wait_requests(2).connection
        gate.open()
        assert (client.read(left, 9), client.read(stays, 9)) == (event, event)
        at = time.monotonic()
        client.reset(left)
        assert leaving.wait_closed() - at < AT_ONCE
        gate.open()
        assert client.read(stays, 9) == event
        assert not staying.closed_by_peer.is_set()


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("hypercorn-asyncio", []),
        ("hypercorn-trio", []),
        # Without a length, granian tells of a stream that was reset as of a complete body.
        ("granian", [("content-length", "1000")]),
    ],
)
def test_half_an_upload_of_a_stream_is_never_complete(
    kind: str, headers: list[tuple[str, str]]
) -> None:
    with (
        Upstream(scripts.hang) as upstream,
        serve(Relay(upstream.url, timeout=PATIENT), kind) as server,
        Http2Client(server.port) as client,
    ):
        stream = client.start("POST", "/", headers, ended=False)
        client.send(stream, b"half")
        request = upstream.wait_requests()
        upstream.wait_until(lambda: request.body_size == 4, "half of the upload")
        left = time.monotonic()
        client.reset(stream)
        assert request.connection.wait_closed() - left < AT_ONCE
        request.connection.wait_done()
        assert not request.complete.is_set()
