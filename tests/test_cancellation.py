"""Whoever asked may leave in any phase: the upstream learns it at once, and its slot comes free.

The relay has a single connection here, and waits no longer for one than a leaving may take: a
request that is answered afterwards shows that nothing was kept.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import Limits, Relay, Timeout

from .support import scripts, wire
from .support.apps import mount
from .support.bulk import Bulk
from .support.client import Client, fetch
from .support.direct import Call
from .support.each import EACH
from .support.kernel import buffered, wait_still
from .support.servers import serve
from .support.upstream import Upstream, silent
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .support.exchange import Exchange, Request

MUCH = 64 * 1024 * 1024
SMALL = 64 * 1024


def flood(exchange: Exchange) -> None:
    exchange.start(length=MUCH)
    Bulk(MUCH).send(exchange.connection)


def flood_of_crumbs(exchange: Exchange) -> None:
    """No chunk is large enough to look like a download."""
    exchange.start()
    while True:
        exchange.chunk(bytes(1000))


SCRIPTS = {
    b"/ok": scripts.ok,
    b"/hang": scripts.hang,
    b"/flood": flood,
    b"/crumbs": flood_of_crumbs,
    b"/idle": scripts.stall(b"data: 1\n\n"),
    b"/begun": scripts.stall(b"", length=1000),
}


class Stage:
    """One relay before one upstream, under one server."""

    def __init__(self, upstream: Upstream, port: int) -> None:
        self.upstream = upstream
        self.port = port
        self._seen = 0

    def arrived(self) -> Request:
        """The next request, as soon as its head is there."""
        self._seen += 1
        return self.upstream.wait_requests(self._seen)

    def assert_free(self) -> None:
        assert fetch(self.port, "/ok").body == b"ok"
        self.arrived()

    def close_all(self) -> None:
        """After a test that failed: what it left must not fail the next one."""
        self._seen = len(self.upstream.requests)
        for connection in self.upstream.connections:
            connection.close()


def relay(upstream: Upstream) -> Relay:
    timeout = Timeout(read=60, write=60, pool=AT_ONCE)
    return Relay(upstream.url, limits=Limits(max_connections=1), timeout=timeout)


@pytest.fixture(scope="module", params=EACH)
def shared_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with (
        Upstream(scripts.by_path(SCRIPTS)) as upstream,
        serve(relay(upstream), request.param) as server,
    ):
        yield Stage(upstream, server.port)


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    yield shared_stage
    shared_stage.close_all()


# -- each phase, under each server ---------------------------------------------------------------


def uploading_a_known_length(stage: Stage, client: Client) -> Request:
    client.start("POST", "/hang", length=1000)
    client.send(b"half")
    request = stage.arrived()
    stage.upstream.wait_until(lambda: request.body_size == 4, "half of the upload")
    return request


def uploading_chunks(stage: Stage, client: Client) -> Request:
    client.start("POST", "/hang", chunked=True)
    client.send(wire.chunk(b"half"))
    request = stage.arrived()
    stage.upstream.wait_until(lambda: request.body_size == 4, "half of the upload")
    return request


def waiting_for_the_head(stage: Stage, client: Client) -> Request:
    client.start("GET", "/hang")
    return stage.arrived()


def waiting_for_the_head_after_an_upload(stage: Stage, client: Client) -> Request:
    client.start("POST", "/hang", length=5)
    client.send(b"whole")
    return stage.arrived().wait_complete()


def waiting_for_the_body(stage: Stage, client: Client) -> Request:
    client.start("GET", "/begun")
    client.read_head()
    return stage.arrived()


def downloading(stage: Stage, client: Client) -> Request:
    client.start("GET", "/flood")
    client.pieces(client.read_head())
    Bulk(MUCH).receive(client, 10_000_000)
    return stage.arrived()


def stuck_in_a_download(stage: Stage, client: Client) -> Request:
    return stuck(stage, client, "/flood")


def stuck_in_many_small_chunks(stage: Stage, client: Client) -> Request:
    return stuck(stage, client, "/crumbs")


def stuck(stage: Stage, client: Client, target: str) -> Request:
    """The client does not read, and the upstream can send no more."""
    client.start("GET", target)
    client.read_head()
    request = stage.arrived()
    relay_port = request.connection.sock.getpeername()[1]
    wait_still(lambda: buffered(stage.upstream.port, relay_port))
    return request


def idle_stream(stage: Stage, client: Client) -> Request:
    client.start("GET", "/idle")
    assert next(client.pieces(client.read_head())).data == b"data: 1\n\n"
    return stage.arrived()


UPLOADS = [uploading_a_known_length, uploading_chunks]
PHASES = [
    *UPLOADS,
    waiting_for_the_head,
    waiting_for_the_head_after_an_upload,
    waiting_for_the_body,
    downloading,
    idle_stream,
]
LEAVES = {"FIN": Client.close, "RST": Client.abort}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("phase", PHASES)
def test_the_upstream_sees_the_client_leave(
    stage: Stage, phase: Callable[[Stage, Client], Request], leave: Callable[[Client], None]
) -> None:
    with Client(stage.port) as client:
        connection = phase(stage, client).connection
        assert not connection.closed_by_peer.is_set()
        left = time.monotonic()
        leave(client)
        assert connection.wait_closed() - left < AT_ONCE
        stage.assert_free()


@pytest.mark.parametrize("phase", [stuck_in_a_download, stuck_in_many_small_chunks])
def test_the_upstream_sees_a_client_leave_that_does_not_read(
    stage: Stage, phase: Callable[[Stage, Client], Request]
) -> None:
    with Client(stage.port) as client:
        connection = phase(stage, client).connection
        left = time.monotonic()
        client.abort()
        assert connection.wait_closed() - left < AT_ONCE
        stage.assert_free()


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("phase", UPLOADS)
def test_half_an_upload_is_never_complete(
    stage: Stage, phase: Callable[[Stage, Client], Request], leave: Callable[[Client], None]
) -> None:
    with Client(stage.port) as client:
        request = phase(stage, client)
        leave(client)
        request.connection.wait_done()
        assert not request.complete.is_set()
        assert request.raw.endswith((b"\r\n\r\nhalf", b"\r\n\r\n4\r\nhalf\r\n"))


# -- under one server ----------------------------------------------------------------------------


def test_a_client_that_leaves_an_upload_that_nobody_reads_is_noticed_by_the_write_timeout() -> None:
    # No server tells of it earlier: behind what it has not read yet, it does not see the end.
    bulk = Bulk(MUCH)
    with (
        Upstream(scripts.unread, receive_buffer=SMALL) as upstream,
        serve(Relay(upstream.url, timeout=Timeout(read=60, write=0.5))) as server,
        Client(server.port) as client,
    ):
        client.start("POST", length=MUCH)
        bulk.send(client, 1)
        upstream.wait_requests()
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            bulk.send(client)
        left = time.monotonic()
        client.close()
        connection = upstream.wait_connections()
        assert connection.wait_closed() - left < 0.5 + AT_ONCE
        connection.wait_done()
        assert not upstream.requests[0].complete.is_set()


def test_a_client_that_leaves_a_mount_is_noticed(framework: str) -> None:
    with Upstream(scripts.by_path(SCRIPTS)) as upstream:
        app = relay(upstream)
        with serve(mount(framework, "/auth", app, app.startup, app.shutdown)) as server:
            with Client(server.port) as client:
                client.start("GET", "/auth/idle")
                client.read_head()
                connection = upstream.wait_requests().connection
                left = time.monotonic()
            assert connection.wait_closed() - left < AT_ONCE
            assert fetch(server.port, "/auth/ok").body == b"ok"


# -- where there is no upstream exchange to be closed ---------------------------------------------


async def left_at(call: Call, relay: Relay, reached: Callable[[], object]) -> float:
    """Call, leave when it is `reached`, and return when the call ends; when it was left."""
    left = 0.0

    async def leave() -> None:
        nonlocal left
        await anyio.to_thread.run_sync(reached)
        left = time.monotonic()
        call.leave.set()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await call(relay)
    return left


@pytest.mark.anyio
async def test_a_client_that_leaves_between_two_tries_stops_them(anyio_backend: object) -> None:
    with Upstream(scripts.answer(503)) as upstream:
        async with Relay(upstream.url, max_retries=3, retry_backoff_factor=30) as relay:
            left = await left_at(Call(), relay, upstream.wait_requests)
            assert time.monotonic() - left < AT_ONCE
        assert len(upstream.requests) == 1


@pytest.mark.anyio
async def test_a_client_that_leaves_while_it_is_connected_is_noticed(anyio_backend: object) -> None:
    with silent() as url:
        async with Relay(url, timeout=Timeout(connect=60)) as relay:
            call = Call()
            left = await left_at(call, relay, lambda: None)
            assert time.monotonic() - left < AT_ONCE
            assert call.sent == []


def test_a_coroutine_that_is_closed_waits_for_nothing() -> None:
    """As Python closes one whose loop has ended: there is no `await` any more."""

    async def play(upstream: Upstream) -> None:
        chunked = [(b"transfer-encoding", b"chunked")]
        call = Call(method="POST", headers=chunked, pieces=[b"half ", b"done"])
        async with Relay(upstream.url, timeout=Timeout(read=60)) as relay:
            coroutine = call(relay)
            coroutine.send(None)
            await asyncio.to_thread(upstream.wait_requests)
            coroutine.close()
            await asyncio.to_thread(upstream.connections[0].wait_closed, AT_ONCE)

    with Upstream(scripts.hang) as upstream:
        asyncio.run(play(upstream))
