"""Whoever does not read stops whoever sends, with little held between them and nothing lost.

What is held between two sockets is exact here: what went into the one, less what came out of the
other, less what waits in the kernel's buffers.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Relay, Timeout

from .support import scripts
from .support.bulk import Bulk
from .support.client import Client, fetch
from .support.conversation import silence
from .support.direct import Call
from .support.each import EACH
from .support.exchange import Gate
from .support.gateway import serving
from .support.kernel import buffered, wait_still
from .support.metered import Metered
from .support.servers import serve
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from .conftest import Serve
    from .support.asgi import Message
    from .support.authority import Authority
    from .support.exchange import Exchange, Request, Script

ON_EACH = pytest.mark.parametrize("server", EACH, indirect=True)
MIB = 1024 * 1024
MUCH = 64 * MIB
"""More than fits into all the buffers on the way."""
SMALL = 64 * 1024
"""A buffer of the kernel's that is full soon."""


def download(bulk: Bulk) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.start(length=bulk.size)
        bulk.send(exchange.connection)

    return script


def upload(bulk: Bulk, gate: Gate) -> Script:
    """Read nothing until the gate opens, then all."""

    def script(exchange: Exchange) -> None:
        exchange.wait(gate)
        bulk.receive(exchange.connection)
        exchange.respond(body=b"thanks")

    return script


@contextmanager
def stuck(
    threads: Executor, upstream: Upstream, client: Client, bulk: Bulk, gate: Gate
) -> Iterator[Request]:
    """An upload to `upload` as far as it gets; then the gate opens, and it arrives whole."""
    client.start("POST", length=bulk.size)
    sending = threads.submit(bulk.send, client)
    request = upstream.wait_requests()
    wait_still(lambda: bulk.sent)
    assert bulk.sent < bulk.size
    yield request
    gate.open()
    assert client.read().body == b"thanks"
    sending.result()
    assert bulk.received == bulk.size


def left_upstream(bulk: Bulk, upstream: Upstream) -> int:
    """How much of a download the relay has taken from its socket."""
    relay_port = upstream.connections[0].sock.getpeername()[1]
    return bulk.sent - buffered(upstream.port, relay_port)


def reached_client(bulk: Bulk, client: Client) -> int:
    """How much of a download the server has put into its socket."""
    (_, port), (_, server_port) = client.sock.getsockname(), client.sock.getpeername()
    return bulk.received + client.reader.pending + buffered(server_port, port)


def left_client(bulk: Bulk, client: Client) -> int:
    """How much of an upload the server has taken from its socket."""
    (_, port), (_, server_port) = client.sock.getsockname(), client.sock.getpeername()
    return bulk.sent - buffered(port, server_port)


def reached_upstream(request: Request, upstream: Upstream) -> int:
    """How much of an upload, of which nothing is read, the relay has put into its socket."""
    read_with_head = request.connection.received - len(request.raw)
    relay_port = request.connection.sock.getpeername()[1]
    return read_with_head + buffered(relay_port, upstream.port)


# -- downloads -----------------------------------------------------------------------------------


@ON_EACH
def test_a_client_that_stops_reading_stops_the_upstream(server: Serve) -> None:
    bulk = Bulk(MUCH)
    with Upstream(download(bulk)) as upstream:
        app = Metered(Relay(upstream.url))
        with Client(server(app).port, receive_buffer=SMALL) as client:
            client.start()
            client.read_head()
            bulk.receive(client, MIB)
            wait_still(lambda: bulk.sent)
            assert left_upstream(bulk, upstream) - app.taken <= MIB
            bulk.receive(client)


def test_a_relay_and_its_server_hold_little_of_a_download() -> None:
    bulk = Bulk(MUCH)
    with (
        Upstream(download(bulk)) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port, receive_buffer=SMALL) as client,
    ):
        client.start()
        client.read_head()
        wait_still(lambda: bulk.sent)
        assert left_upstream(bulk, upstream) - reached_client(bulk, client) <= MIB
        bulk.receive(client)


def test_a_client_that_reads_little_by_little_loses_nothing() -> None:
    bulk = Bulk(4 * MIB)
    with (
        Upstream(download(bulk)) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port, receive_buffer=4096) as client,
    ):
        client.start()
        client.read_head()
        while bulk.received < bulk.size:
            bulk.receive(client, min(4099, bulk.size - bulk.received))


def test_a_client_may_pause_for_longer_than_the_read_timeout() -> None:
    bulk = Bulk(MUCH)
    with (
        Upstream(download(bulk)) as upstream,
        serve(Relay(upstream.url, timeout=Timeout(read=2))) as server,
        Client(server.port, receive_buffer=SMALL) as client,
    ):
        client.start()
        client.read_head()
        wait_still(lambda: bulk.sent)
        time.sleep(2.5)
        bulk.receive(client)


@pytest.mark.anyio
async def test_nor_does_its_pause_count_where_the_upstream_had_paused_before(
    anyio_backend: Any,
) -> None:
    """What is not read for the client's sake is no silence of the upstream's."""
    pieces = [b"a", bytes(100_000), b"the end"]
    gate = Gate()
    taken: list[bytes] = []

    async def send(message: Message) -> None:
        taken.append(message.get("body", b""))
        if len(b"".join(taken)) == 1:
            # What fills the mailbox, and some time later the rest.
            gate.open()
            await anyio.sleep(0.6)
            gate.open()
            await anyio.sleep(2.2)

    with Upstream(scripts.drip(gate, pieces)) as upstream:
        gate.open()
        async with Relay(upstream.url, timeout=Timeout(30, read=2)) as relay:
            await relay(Call().scope(), silence, send)
    assert b"".join(taken) == b"".join(pieces)


def test_a_client_that_stops_reading_holds_up_nobody_else() -> None:
    bulk = Bulk(MUCH)
    script = scripts.by_path({b"/bulk": download(bulk), b"/": scripts.ok})
    with (
        Upstream(script) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port, receive_buffer=SMALL) as client,
    ):
        client.start("GET", "/bulk")
        client.read_head()
        wait_still(lambda: bulk.sent)
        assert [fetch(server.port).body for _ in range(20)] == [b"ok"] * 20
        bulk.receive(client)


@pytest.mark.anyio
async def test_a_send_that_waits_stops_the_upstream(anyio_backend: Any) -> None:
    bulk = Bulk(MUCH)
    taken = 0
    go_on = anyio.Event()

    async def send(message: Message) -> None:
        nonlocal taken
        await go_on.wait()
        taken += len(message.get("body", b""))

    with Upstream(download(bulk)) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            group.start_soon(relay, Call().scope(), silence, send)
            await anyio.to_thread.run_sync(wait_still, lambda: bulk.sent)
            assert left_upstream(bulk, upstream) <= MIB
            go_on.set()
    assert taken == MUCH


# -- uploads -------------------------------------------------------------------------------------


@ON_EACH
def test_an_upstream_that_does_not_read_stops_the_client(server: Serve) -> None:
    bulk, gate = Bulk(MUCH), Gate()
    with (
        ThreadPoolExecutor() as threads,
        Upstream(upload(bulk, gate), receive_buffer=SMALL) as upstream,
    ):
        app = Metered(Relay(upstream.url))
        with (
            Client(server(app).port) as client,
            stuck(threads, upstream, client, bulk, gate) as request,
        ):
            assert app.given - reached_upstream(request, upstream) <= MIB


def test_a_relay_and_its_server_hold_little_of_an_upload() -> None:
    bulk, gate = Bulk(MUCH), Gate()
    with (
        ThreadPoolExecutor() as threads,
        Upstream(upload(bulk, gate), receive_buffer=SMALL) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port) as client,
        stuck(threads, upstream, client, bulk, gate) as request,
    ):
        assert left_client(bulk, client) - reached_upstream(request, upstream) <= MIB


def test_an_upstream_that_reads_little_by_little_gets_the_upload_whole() -> None:
    bulk = Bulk(4 * MIB)

    def script(exchange: Exchange) -> None:
        while bulk.received < bulk.size:
            bulk.receive(exchange.connection, min(4099, bulk.size - bulk.received))
        exchange.respond()

    with (
        ThreadPoolExecutor() as threads,
        Upstream(script, receive_buffer=4096) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port) as client,
    ):
        client.start("POST", length=bulk.size)
        sending = threads.submit(bulk.send, client)
        assert client.read().status == 200
        sending.result()


@pytest.mark.anyio
async def test_an_upstream_that_does_not_read_stops_the_calls_of_receive(
    anyio_backend: Any,
) -> None:
    gate = Gate()
    given = 0

    async def receive() -> Message:
        nonlocal given
        given += SMALL
        return {"type": "http.request", "body": bytes(SMALL), "more_body": given < MUCH}

    async def send(message: Message) -> None:
        pass

    def script(exchange: Exchange) -> None:
        exchange.wait(gate)
        scripts.ok(exchange)

    with Upstream(script, receive_buffer=SMALL) as upstream:
        async with Relay(upstream.url) as relay, anyio.create_task_group() as group:
            chunked = [(b"transfer-encoding", b"chunked")]
            group.start_soon(relay, Call("POST", headers=chunked).scope(), receive, send)
            request = await anyio.to_thread.run_sync(upstream.wait_requests)
            await anyio.to_thread.run_sync(wait_still, lambda: given)
            # In the pipe, with hyper, and a chunk more with each.
            held = (128 + 64 + 128 + 64) * 1024
            assert given - reached_upstream(request, upstream) <= held
            gate.open()
        assert request.body_size == MUCH


def test_an_upload_over_tls_goes_on_when_the_upstream_does(authority: Authority) -> None:
    bulk, gate = Bulk(MUCH), Gate()
    with (
        ThreadPoolExecutor() as threads,
        Upstream(upload(bulk, gate), tls=authority.server(), receive_buffer=SMALL) as upstream,
        serve(Relay(upstream.url, verify=authority.pem)) as server,
        Client(server.port) as client,
        stuck(threads, upstream, client, bulk, gate),
    ):
        pass


def test_an_upload_through_the_gateway_goes_on_when_the_upstream_does() -> None:
    bulk, gate = Bulk(MUCH), Gate()
    with (
        ThreadPoolExecutor() as threads,
        Upstream(upload(bulk, gate), receive_buffer=SMALL) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        Client(gateway.port) as client,
        stuck(threads, upstream, client, bulk, gate) as request,
    ):
        assert left_client(bulk, client) - reached_upstream(request, upstream) <= MIB


def test_an_answer_reaches_a_client_whose_upload_is_stuck() -> None:
    bulk, gate = Bulk(MUCH), Gate()

    def refuse(exchange: Exchange) -> None:
        exchange.wait(gate)
        exchange.respond(413, body=b"enough")

    with (
        ThreadPoolExecutor() as threads,
        Upstream(refuse, receive_buffer=SMALL) as upstream,
        serve(Relay(upstream.url)) as server,
        Client(server.port) as client,
    ):
        client.start("POST", length=bulk.size)
        sending = threads.submit(bulk.send, client)
        wait_still(lambda: bulk.sent)
        gate.open()
        response = client.read()
        assert (response.status, response.body) == (413, b"enough")
        # Nobody takes the rest.
        client.sock.shutdown(socket.SHUT_RDWR)
        assert sending.exception() is not None


# -- both at once --------------------------------------------------------------------------------


@ON_EACH
def test_an_echo_of_more_than_fits_anywhere(server: Serve) -> None:
    size = MUCH // 2
    there, back = Bulk(size), Bulk(size)

    def script(exchange: Exchange) -> None:
        exchange.start(length=size)
        while there.received < size:
            there.receive(exchange.connection, MIB)
            back.send(exchange.connection, MIB)

    with (
        ThreadPoolExecutor() as threads,
        Upstream(script) as upstream,
        Client(server(Relay(upstream.url)).port) as client,
    ):
        client.start("POST", length=size)
        sending = threads.submit(there.send, client)
        client.read_head()
        back.receive(client)
        sending.result()
