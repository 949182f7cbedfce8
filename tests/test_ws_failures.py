"""Handshakes without an answer, and clients that leave before there is one.

A failure is told as over HTTP: 502, 504 and 400 with the same texts, or a close before the
acceptance where the server can do no more.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from asgi_relay import Relay, Timeout

from .support import scripts
from .support.each import EACH
from .support.front import relayed
from .support.records import Records
from .support.servers import serve
from .support.session import Session, given
from .support.upstream import Connection, Upstream, refusing, silent
from .support.waiting import AT_ONCE, PATIENCE, wait_until
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Serve
    from .support.client import Response
    from .support.exchange import Exchange, Script

LIMIT = 0.4
MARGIN = 8.0
"""How much longer than its limit a timeout may take on a busy machine: by default it is 10 s."""
NO_LIMIT = Timeout(60)
"""Nothing ends before its client leaves."""


def shaken(port: int, target: str = "/x") -> Response:
    with WebSocketClient(port) as client:
        return client.shake(target)


def assert_bad_gateway(response: Response, kind: bytes) -> None:
    assert response.status == 502
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert response.body.startswith(b"Upstream error: ")
    assert response.body.endswith(b"(" + kind + b")")
    for inside in (b"127.0.0.1", b"localhost", b"Traceback", b".py", b".rs", b"os error"):
        assert inside not in response.body


# -- no connection ---------------------------------------------------------------------------------


def test_a_refused_connection_is_a_502_on_every_server(server: Serve) -> None:
    with refusing() as url:
        assert_bad_gateway(shaken(server(Relay(url)).port), b"ConnectError")


def test_a_name_that_does_not_exist_is_a_502_that_does_not_tell_it() -> None:
    with relayed("ws://upstream.invalid:8000") as front:
        response = shaken(front.port)
    assert_bad_gateway(response, b"NameResolutionError")
    assert b"upstream.invalid" not in response.body


def test_a_connection_that_is_closed_when_it_is_accepted_is_a_502() -> None:
    def leave(connection: Connection) -> bool:
        return False

    with Upstream(Accept(), on_connect=leave) as upstream, relayed(upstream.url) as front:
        assert shaken(front.port).status == 502


def test_a_connect_that_never_ends_is_a_504_after_timeout_connect() -> None:
    with silent() as url, relayed(url, timeout=Timeout(connect=LIMIT)) as front:
        begin = time.monotonic()
        response = shaken(front.port)
        took = time.monotonic() - begin
    assert (response.status, response.body) == (504, b"Gateway Timeout")
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert LIMIT <= took < LIMIT + MARGIN


def test_a_refused_connection_is_tried_again(tmp_path: Path) -> None:
    path, records = tmp_path / "up.sock", Records()
    settings = {"max_retries": 8, "retry_backoff_factor": 0.1, "logger": records.logger}
    with (
        relayed(f"http+unix://{str(path).replace('/', '%2F')}", **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        client.start()
        wait_until(lambda: bool(records.all), "the first refusal")
        with Upstream(Accept(echo), unix=path) as upstream:
            assert client.http.read_head().status == 101
            assert len(upstream.requests) == 1
            client.finish_close()


def test_a_refused_connection_is_not_tried_again_without_retries() -> None:
    with refusing() as url, relayed(url, retry_backoff_factor=60) as front:
        begin = time.monotonic()
        assert shaken(front.port).status == 502
        assert time.monotonic() - begin < AT_ONCE


# -- no answer -------------------------------------------------------------------------------------


def half_a_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso")
    exchange.hang()


@pytest.mark.parametrize("script", [scripts.hang, half_a_head])
def test_silence_is_a_504_after_timeout_read(script: Script) -> None:
    with Upstream(script) as upstream, relayed(upstream.url, timeout=Timeout(read=LIMIT)) as front:
        begin = time.monotonic()
        response = shaken(front.port)
        took = time.monotonic() - begin
        upstream.wait_connections().wait_closed()
    assert (response.status, response.body) == (504, b"Gateway Timeout")
    assert LIMIT <= took < LIMIT + MARGIN


def test_silence_is_a_504_on_every_server(server: Serve) -> None:
    with Upstream(scripts.hang) as upstream:
        response = shaken(server(Relay(upstream.url, timeout=LIMIT)).port)
    assert (response.status, response.body) == (504, b"Gateway Timeout")


def test_silence_after_the_handshake_is_no_timeout() -> None:
    accept = Accept()
    with (
        Upstream(accept) as upstream,
        relayed(upstream.url, timeout=2) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open()
        time.sleep(2.5)
        accept.peer().send_text("still here")
        assert client.receive_message() == "still here"
        client.close()
        accept.peer().answer_close()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (scripts.close, b"RemoteProtocolError"),
        (scripts.reset, b"ReadError"),
        (scripts.say(b"HTTP/1.1 101 Swi", close=True), b"RemoteProtocolError"),
        (scripts.say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), b"RemoteProtocolError"),
        (scripts.say(b"HTTP/1.1 2000 OK\r\n\r\n"), b"RemoteProtocolError"),
        (scripts.say(b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n"), b"RemoteProtocolError"),
        (scripts.say(b"HTTP/1.1 101 X\r\nno colon\r\n\r\n"), b"RemoteProtocolError"),
        (scripts.say(b"\x81\x05hello" * 10), b"RemoteProtocolError"),
    ],
    ids=["fin", "rst", "cut", "ssh", "2000", "600", "no-colon", "frames"],
)
def test_what_is_no_http_is_a_502(script: Script, kind: bytes) -> None:
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(shaken(front.port), kind)
        upstream.connections[0].wait_done()
        assert front.raised == []


# -- requests that may not go up -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/../x", "/%2e%2e/x", "/a/../../x", "/a/%2E%2e/..%2f../x"])
def test_a_path_that_climbs_above_the_prefix_is_a_400(path: str) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session(path), upstream.url, upstream_prefix="/api")
        assert upstream.connections == []
    assert session.status == 400


def test_a_path_that_climbs_is_a_close_where_there_is_no_more() -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session("/../x", extensions=None), upstream.url)
        assert upstream.connections == []
    assert session.types == ["websocket.close"]


# -- servers that can only close -------------------------------------------------------------------


def test_without_the_extension_a_failure_is_a_close_before_the_acceptance() -> None:
    with refusing() as url:
        assert given(Session(extensions={}), url).types == ["websocket.close"]
    with Upstream(scripts.hang) as upstream:
        session = given(Session(extensions=None), upstream.url, timeout=0.2)
    assert session.types == ["websocket.close"]


# -- a client that leaves --------------------------------------------------------------------------

NOTICED = [kind for kind in EACH if kind != "granian"]
"""Servers that tell an app of a client that leaves before it is accepted."""


@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
@pytest.mark.parametrize("kind", NOTICED)
def test_a_client_that_leaves_while_the_upstream_thinks_is_seen_there(
    kind: str, leave: Callable[[WebSocketClient], None]
) -> None:
    with (
        Upstream(scripts.hang) as upstream,
        serve(Relay(upstream.url, timeout=NO_LIMIT), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        client.start()
        connection = upstream.wait_requests().connection
        left = time.monotonic()
        leave(client)
        assert connection.wait_closed() - left < AT_ONCE


def body_without_end(exchange: Exchange) -> None:
    exchange.start(403)
    exchange.chunk(b"some")
    exchange.hang()


@pytest.mark.anyio
@pytest.mark.parametrize("script", [scripts.hang, half_a_head, body_without_end])
@pytest.mark.parametrize("code", [1006, 1001, None])
async def test_a_disconnect_during_the_handshake_closes_the_upstream_s_connection(
    script: Script, code: int | None
) -> None:
    with Upstream(script) as upstream:
        async with Relay(upstream.url, timeout=NO_LIMIT) as relay:
            async with Session().run(relay) as session:
                await anyio.to_thread.run_sync(upstream.wait_requests)
                left = time.monotonic()
                session.leave(code)
            connection = upstream.connections[0]
            assert await anyio.to_thread.run_sync(connection.wait_closed) - left < AT_ONCE
    assert "websocket.accept" not in session.types


@pytest.mark.anyio
async def test_a_disconnect_while_connecting_or_waiting_for_a_retry_ends_the_call() -> None:
    settings: dict[str, Any] = {"max_retries": 3, "retry_backoff_factor": 60}
    with silent() as url, refusing() as closed:
        async with Relay(url, timeout=None) as one, Relay(closed, **settings) as two:
            for relay in (one, two):
                async with Session().run(relay) as session:
                    await anyio.wait_all_tasks_blocked()
                    session.leave(1006)
                assert "websocket.accept" not in session.types


@pytest.mark.anyio
async def test_a_disconnect_that_crosses_the_101_closes_the_upstream_s_connection() -> None:
    crossing = threading.Barrier(2)
    inner = Accept(echo)

    def script(exchange: Exchange) -> None:
        crossing.wait(PATIENCE)
        inner(exchange)

    with Upstream(script) as upstream:
        async with Relay(upstream.url) as relay:
            for _ in range(20):
                async with Session().run(relay) as session:
                    await anyio.to_thread.run_sync(crossing.wait, PATIENCE)
                    session.leave(1006)
            for connection in upstream.connections:
                # With a close frame, if it came that far.
                await anyio.to_thread.run_sync(connection.wait_done)
