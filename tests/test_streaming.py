"""Each octet goes on when it arrives, in both directions, and an answer need not wait its turn."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from asgi_relay import Relay

from .support import scripts, wire
from .support.apps import mount
from .support.client import Client, fetch
from .support.each import EACH
from .support.exchange import Gate
from .support.servers import serve
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Serve
    from .support.authority import Authority
    from .support.exchange import Exchange, Script

EVENTS = [b"data: %d\n\n" % number for number in range(11)]
SSE = [("Content-Type", "text/event-stream")]
ON_EACH = pytest.mark.parametrize("server", EACH, indirect=True)
PROMPT = 1.0
"""Seconds between an upstream's sending something and the client's having it, on a busy machine;
what waited for the next event would not come at all.
"""


class Dripping:
    """A script that sends each event when the gate lets it, and knows when it did."""

    def __init__(self, start: Callable[[Exchange], None], frame: Callable[[bytes], bytes]) -> None:
        self.gate = Gate()
        self.at: list[float] = []
        self._start = start
        self._frame = frame

    def __call__(self, exchange: Exchange) -> None:
        exchange.read_body()
        self._start(exchange)
        for event in EVENTS:
            exchange.wait(self.gate)
            self.at.append(time.monotonic())
            exchange.send(self._frame(event))
        exchange.wait(self.gate)
        if self._frame is wire.chunk:
            exchange.end()
        exchange.close()


def chunked() -> Dripping:
    return Dripping(lambda exchange: exchange.start(headers=SSE), wire.chunk)


def of_known_length() -> Dripping:
    size = sum(map(len, EVENTS))
    return Dripping(lambda exchange: exchange.start(headers=SSE, length=size), bytes)


def until_closed() -> Dripping:
    return Dripping(lambda exchange: exchange.send(wire.status_head(200, SSE)), bytes)


def assert_prompt(drip: Dripping, client: Client) -> None:
    """Open the gate for one event after another, having seen each arrive before the next."""
    response = client.read_head()
    assert response.value("content-type") == b"text/event-stream"
    assert drip.at == []
    pieces = client.pieces(response)
    arrivals = []
    for event in EVENTS:
        drip.gate.open()
        piece = next(pieces)
        assert piece.data == event
        arrivals.append(piece.at)
    drip.gate.open()
    assert list(pieces) == []
    delays = [arrival - sent for arrival, sent in zip(arrivals, drip.at, strict=True)]
    assert statistics.median(delays) < PROMPT, delays


# -- responses -----------------------------------------------------------------------------------


@ON_EACH
def test_events_arrive_as_they_are_sent(server: Serve) -> None:
    drip = chunked()
    with Upstream(drip) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.start("GET", "/events")
        assert_prompt(drip, client)


@pytest.mark.parametrize("framing", [of_known_length, until_closed])
def test_events_of_any_framing_arrive_as_they_are_sent(framing: Callable[[], Dripping]) -> None:
    drip = framing()
    with (
        Upstream(drip) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port) as client,
    ):
        client.start("GET", "/events")
        assert_prompt(drip, client)


def test_events_over_tls_arrive_as_they_are_sent(authority: Authority) -> None:
    drip = chunked()
    with (
        Upstream(drip, tls=authority.server()) as upstream,
        serve(Relay(upstream.url, verify=authority.pem)) as server,
        Client(server.port) as client,
    ):
        client.start("GET", "/events")
        assert_prompt(drip, client)


def test_events_through_a_mount_arrive_as_they_are_sent(framework: str) -> None:
    drip = chunked()
    with Upstream(drip) as upstream:
        relay = Relay(upstream.url)
        app = mount(framework, "/auth", relay, relay.startup, relay.shutdown)
        with serve(app) as server, Client(server.port) as client:
            client.start("GET", "/auth/events")
            assert_prompt(drip, client)


@ON_EACH
@pytest.mark.parametrize("length", [None, 4], ids=["chunked", "known length"])
def test_the_head_arrives_before_the_body_begins(server: Serve, length: int | None) -> None:
    gate = Gate()
    script = scripts.drip(gate, [b"body"], headers=[("X-Early", "yes")], length=length)
    with Upstream(script) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.start()
        response = client.read_head()
        assert (response.status, response.value("x-early")) == (200, b"yes")
        gate.open()
        assert b"".join(piece.data for piece in client.pieces(response)) == b"body"


def test_a_burst_of_tiny_chunks_arrives_whole_and_in_order() -> None:
    tokens = [b"%d " % number for number in range(5000)]

    def script(exchange: Exchange) -> None:
        exchange.start(headers=SSE)
        for token in tokens:
            exchange.chunk(token)
        exchange.end()

    with Upstream(script) as upstream, serve(Relay(upstream.url)) as server:
        assert fetch(server.port).body == b"".join(tokens)


def test_streams_beside_one_another_each_get_their_own() -> None:
    gates = [Gate() for _ in range(50)]

    def script(exchange: Exchange) -> None:
        number = int(exchange.request.target[1:])
        exchange.start(headers=SSE)
        exchange.wait(gates[number])
        exchange.chunk(b"data: %d\n\n" % number)
        exchange.end()

    with Upstream(script) as upstream, serve(Relay(upstream.url)) as server:
        clients = [Client(server.port) for _ in gates]
        for number, client in enumerate(clients):
            client.start("GET", f"/{number}")
        heads = [client.read_head() for client in clients]
        for number in reversed(range(len(clients))):
            gates[number].open()
            client = clients[number]
            body = b"".join(piece.data for piece in client.pieces(heads[number]))
            assert body == b"data: %d\n\n" % number
            client.close()


# -- requests ------------------------------------------------------------------------------------


@ON_EACH
@pytest.mark.parametrize("length", [None, 15], ids=["chunked", "known length"])
def test_an_upload_arrives_as_it_is_sent(server: Serve, length: int | None) -> None:
    with (
        Upstream(scripts.echo) as upstream,
        Client(server(Relay(upstream.url)).port) as client,
    ):
        client.start("POST", length=length, chunked=length is None)
        for piece, sent in ((b"one", 3), (b", two", 8), (b", three", 15)):
            client.send(piece if length else wire.chunk(piece))
            wait_uploaded(upstream, sent)
        if not length:
            client.send_chunks([])
        assert client.read().body == b"one, two, three"


def wait_uploaded(upstream: Upstream, size: int) -> None:
    request = upstream.wait_requests()
    upstream.wait_until(lambda: request.body_size == size, f"{size} octets")


def mirror(exchange: Exchange) -> None:
    """Answer each piece of the upload as soon as it comes."""
    exchange.start()
    for piece in exchange.body():
        exchange.chunk(piece)
    exchange.end()


def converse(port: int, length: int | None) -> None:
    """Send a line, have it back, send the next."""
    with Client(port) as client:
        client.start("POST", "/chat", length=length, chunked=length is None)
        client.send(b"ping" if length else wire.chunk(b"ping"))
        pieces = client.pieces(client.read_head())
        assert next(pieces).data == b"ping"
        for line in (b"pong", b"bye!"):
            client.send(line if length else wire.chunk(line))
            assert next(pieces).data == line
        if not length:
            client.send_chunks([])
        assert list(pieces) == []


@ON_EACH
@pytest.mark.parametrize("length", [None, 12], ids=["chunked", "known length"])
def test_a_conversation_goes_both_ways_at_once(server: Serve, length: int | None) -> None:
    with Upstream(mirror) as upstream:
        converse(server(Relay(upstream.url)).port, length)
        assert upstream.requests[0].body == b"pingpongbye!"


def test_a_conversation_goes_both_ways_at_once_over_tls(authority: Authority) -> None:
    with (
        Upstream(mirror, tls=authority.server()) as upstream,
        serve(Relay(upstream.url, verify=authority.pem)) as server,
    ):
        converse(server.port, None)


# -- answers before their time -------------------------------------------------------------------


def refuse_and_reset(exchange: Exchange) -> None:
    """Answer on the head alone and close at once: octets unread make it an RST."""
    exchange.respond(413, [("Connection", "close")], b"too much")
    exchange.reset()


@ON_EACH
@pytest.mark.parametrize("script", [scripts.early(), refuse_and_reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("length", [None, 1_000_000], ids=["chunked", "known length"])
def test_an_answer_before_the_end_of_the_upload_arrives(
    server: Serve, script: Script, length: int | None
) -> None:
    with Upstream(script) as upstream, Client(server(Relay(upstream.url)).port) as client:
        client.start("POST", length=length, chunked=length is None)
        client.send(wire.chunk(b"x" * 1000) if length is None else b"x" * 1000)
        response = client.read()
        assert (response.status, response.body) == (413, b"too much")
        assert not upstream.requests[0].complete.is_set()


@pytest.mark.parametrize("script", [scripts.early(), refuse_and_reset], ids=["FIN", "RST"])
def test_an_answer_arrives_while_the_client_goes_on_sending(script: Script) -> None:
    with Upstream(script) as upstream, serve(Relay(upstream.url)) as server:
        for _ in range(20):
            with Client(server.port) as client:
                response = client.request("POST", body=bytes(2_000_000))
                assert (response.status, response.body) == (413, b"too much")


def test_an_upstream_that_answers_early_and_reads_on_gets_the_whole_upload() -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.chunk(b"%d" % len(exchange.read_body()))
        exchange.end()

    with (
        Upstream(script) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port) as client,
    ):
        client.start("PUT", length=10)
        client.send(b"01234")
        response = client.read_head()
        client.send(b"56789")
        assert b"".join(piece.data for piece in client.pieces(response)) == b"10"
