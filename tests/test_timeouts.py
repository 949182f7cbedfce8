"""Each of the four timeouts: what it bounds, what it does not, and the 504 that it leads to.

Read and write are idle times between octets, as in httpx. Every bound here is asserted from below
exactly and from above generously.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import httpx
import httpx2
import pytest

from asgi_relay import Limits, ReadTimeout, Relay, Timeout

from .support import scripts
from .support.client import Response, TruncatedError, fetch
from .support.direct import Call
from .support.exchange import Gate
from .support.front import Front, called, relayed
from .support.upstream import Upstream, silent

if TYPE_CHECKING:
    import socket

    from .conftest import Serve
    from .support.authority import Authority
    from .support.exchange import Exchange

LIMIT = 0.25
MARGIN = 8.0
"""How much longer than its limit a timeout may take on a busy machine: by default it is 10 s."""

IDLE = 3.0
PAUSE = 0.8
"""A limit, and a pause that is well below it, of which several are above it."""


def assert_gateway_timeout(response: Response) -> None:
    assert response.status == 504
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert response.body == b"Gateway Timeout"


def timed(front: Front, **request: object) -> tuple[Response, float]:
    begin = time.monotonic()
    response = front.fetch(**request)  # type: ignore[arg-type]
    return response, time.monotonic() - begin


# -- connect ---------------------------------------------------------------------------------------


def test_a_connect_that_never_ends_is_a_504_after_timeout_connect() -> None:
    with silent() as url, relayed(url, timeout=Timeout(connect=LIMIT)) as front:
        response, took = timed(front)
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


def test_a_handshake_that_never_ends_counts_as_connecting(authority: Authority) -> None:
    # It accepts and waits for a request in clear text, which never comes.
    with Upstream(scripts.ok) as upstream:
        url = upstream.url.replace("http:", "https:")
        settings = {"verify": str(authority.pem), "timeout": Timeout(connect=LIMIT)}
        with relayed(url, **settings) as front:
            response, took = timed(front)
        upstream.errors.clear()  # the ClientHello is no request
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


# -- read ------------------------------------------------------------------------------------------


def test_an_upstream_that_never_answers_is_a_504_after_timeout_read() -> None:
    with (
        Upstream(scripts.hang) as upstream,
        relayed(upstream.url, timeout=Timeout(read=LIMIT)) as front,
    ):
        response, took = timed(front)
        upstream.wait_connections().wait_closed()
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


def test_a_504_on_every_server(server: Serve) -> None:
    with Upstream(scripts.hang) as upstream:
        assert_gateway_timeout(fetch(server(Relay(upstream.url, timeout=LIMIT)).port))


@pytest.mark.parametrize("framing", [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")])
def test_reading_begins_with_the_end_of_an_upload_in_pieces(framing: tuple[bytes, bytes]) -> None:
    with Upstream(scripts.hang) as upstream:
        call = Call("POST", headers=[framing], pieces=[b"a", b"b"])
        begin = time.monotonic()
        called(call, upstream.url, timeout=Timeout(read=LIMIT))
        took = time.monotonic() - begin
    assert (call.status, call.body) == (504, b"Gateway Timeout")
    assert LIMIT <= took < LIMIT + MARGIN


def test_half_a_head_and_then_nothing_is_a_504() -> None:
    def half(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-")
        exchange.hang()

    with Upstream(half) as upstream, relayed(upstream.url, timeout=Timeout(read=LIMIT)) as front:
        assert_gateway_timeout(front.fetch())


def test_a_head_that_comes_slowly_is_no_timeout() -> None:
    def slow(exchange: Exchange) -> None:
        for part in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"X: y\r\n", b"\r\nok"):
            time.sleep(PAUSE)
            exchange.send(part)

    with Upstream(slow) as upstream, relayed(upstream.url, timeout=Timeout(read=IDLE)) as front:
        response, took = timed(front)
    assert response.body == b"ok"
    assert took > IDLE


def test_interim_responses_keep_a_long_answer_alive() -> None:
    def slow(exchange: Exchange) -> None:
        for _ in range(4):
            time.sleep(PAUSE)
            exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        exchange.respond(body=b"done")

    with Upstream(slow) as upstream, relayed(upstream.url, timeout=Timeout(read=IDLE)) as front:
        response, took = timed(front)
    assert response.body == b"done"
    assert took > IDLE


def test_a_body_that_comes_slowly_is_no_timeout() -> None:
    def slow(exchange: Exchange) -> None:
        exchange.start()
        for _ in range(4):
            time.sleep(PAUSE)
            exchange.chunk(b"tick ")
        exchange.end()

    with Upstream(slow) as upstream, relayed(upstream.url, timeout=Timeout(read=IDLE)) as front:
        response, took = timed(front)
    assert response.body == b"tick " * 4
    assert took > IDLE


@pytest.mark.parametrize("length", [None, 1000], ids=["chunked", "content-length"])
def test_a_body_that_stops_is_cut_short_after_timeout_read(length: int | None) -> None:
    with (
        Upstream(scripts.stall(b"some", length=length)) as upstream,
        # Time for the head, which has to come in it.
        relayed(upstream.url, timeout=Timeout(read=2)) as front,
    ):
        begin = time.monotonic()
        with pytest.raises(TruncatedError) as cut:
            front.fetch()
        took = time.monotonic() - begin
        assert cut.value.after == 4
        assert [type(error) for error in front.raised] == [ReadTimeout]
        upstream.connections[0].wait_closed()
    # Ten is the default.
    assert 2 <= took < 8


def test_a_client_that_reads_slowly_is_not_the_upstream_s_timeout() -> None:
    size = 24 * 1024 * 1024
    with (
        Upstream(scripts.flood(size)) as upstream,
        relayed(upstream.url, timeout=Timeout(read=IDLE, write=IDLE)) as front,
        front.client(receive_buffer=65536) as client,
    ):
        client.start()
        head = client.read_head()
        time.sleep(IDLE * 1.2)
        assert sum(len(piece.data) for piece in client.pieces(head)) == size
        assert front.raised == []


def test_a_client_that_uploads_slowly_is_not_the_upstream_s_timeout() -> None:
    with (
        Upstream(scripts.echo) as upstream,
        relayed(upstream.url, timeout=Timeout(read=IDLE, write=IDLE)) as front,
        front.client() as client,
    ):
        client.start("POST", chunked=True)
        client.send_chunks([b"x"], last=False)
        time.sleep(IDLE * 1.2)
        client.send_chunks([b"y"])
        assert client.read().body == b"xy"


# -- write -----------------------------------------------------------------------------------------


def test_an_upstream_that_takes_nothing_of_an_upload_is_a_504_after_timeout_write() -> None:
    size = 32 * 1024 * 1024
    with (
        Upstream(scripts.unread, receive_buffer=65536) as upstream,
        relayed(upstream.url, timeout=Timeout(write=LIMIT, read=30)) as front,
        front.client() as client,
    ):
        begin = time.monotonic()
        sending = threading.Thread(target=_send, args=(client.sock, b"x" * size))
        client.start("POST", length=size)
        sending.start()
        response = client.read()
        took = time.monotonic() - begin
        request = upstream.wait_requests()
        request.connection.wait_closed()
        assert not request.complete.is_set()
        client.abort()
        sending.join()
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


def test_an_upstream_that_takes_an_upload_slowly_is_no_timeout() -> None:
    # Steps above what the kernel's buffers hold, as only then does a write wait for the upstream.
    size, step = 48 * 1024 * 1024, 8 * 1024 * 1024

    def slow(exchange: Exchange) -> None:
        paused_at = 0
        for _ in exchange.body():
            if exchange.request.body_size - paused_at >= step:
                paused_at = exchange.request.body_size
                time.sleep(PAUSE)
        exchange.respond(body=str(exchange.request.body_size).encode())

    with (
        Upstream(slow) as upstream,
        relayed(upstream.url, timeout=Timeout(write=IDLE, read=IDLE)) as front,
    ):
        assert front.fetch(method="PUT", body=b"x" * size).body == str(size).encode()


# -- pool ------------------------------------------------------------------------------------------


def test_a_request_over_the_limit_is_a_504_after_timeout_pool() -> None:
    limits = Limits(max_connections=1)
    with (
        Upstream(scripts.hang) as upstream,
        relayed(upstream.url, limits=limits, timeout=Timeout(pool=LIMIT, read=30)) as front,
        front.client() as first,
    ):
        first.start()
        upstream.wait_requests()
        response, took = timed(front)
        assert len(upstream.requests) == 1
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


def test_waiting_in_the_pool_does_not_count_as_reading() -> None:
    gate = Gate()
    limits = Limits(max_connections=1)
    settings = {"limits": limits, "timeout": Timeout(pool=30, read=IDLE)}
    first_slow = scripts.in_turn(scripts.drip(gate, [b"a"] * 4), scripts.ok)
    with (
        Upstream(first_slow) as upstream,
        relayed(upstream.url, **settings) as front,
        front.client() as first,
        front.client() as second,
    ):
        first.start()
        upstream.wait_requests()
        second.start()
        for _ in range(4):
            time.sleep(PAUSE)
            gate.open()
        assert first.read().body == b"aaaa"
        assert second.read().body == b"ok"


# -- what the parameter takes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "timeout",
    [
        LIMIT,
        Timeout(LIMIT),
        Timeout(read=LIMIT),
        httpx.Timeout(5, read=LIMIT),
        httpx2.Timeout(5, read=LIMIT),
    ],
    ids=["number", "ours", "ours-partial", "httpx", "httpx2"],
)
def test_lilya_defect_a_timeout_of_any_kind_works_when_a_request_comes(timeout: object) -> None:
    """Lilya's constructor takes httpx's objects and fails with them at request time."""
    with Upstream(scripts.hang) as upstream, relayed(upstream.url, timeout=timeout) as front:
        response, took = timed(front)
    assert_gateway_timeout(response)
    assert LIMIT <= took < LIMIT + MARGIN


def test_document_defect_a_timeout_with_two_of_the_four_is_allowed() -> None:
    """The documents write `httpx.Timeout(connect=5.0, read=30.0)`, which httpx itself refuses."""
    assert Timeout(connect=5.0, read=30.0).as_tuple() == (5.0, 30.0, 10.0, 10.0)


def test_none_is_no_timeout() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        relayed(upstream.url, timeout=None) as front,
        front.client() as client,
    ):
        client.start()
        upstream.wait_requests()
        time.sleep(LIMIT)
        gate.open()
        assert client.read().body == b"ok"


def _send(sock: socket.socket, octets: bytes) -> None:
    with contextlib.suppress(OSError):  # the server answers and closes, as it should
        sock.sendall(octets)
