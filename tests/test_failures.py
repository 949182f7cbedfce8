"""Upstreams that cannot be reached or do not answer in HTTP: the client gets a 502 that says so.

Timeouts are in test_timeouts, answers that break off in test_truncation, TLS in test_tls.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from asgi_relay import Relay, Timeout

from .support import scripts, wire
from .support.client import Client, Response, fetch
from .support.direct import Call
from .support.front import called, relayed
from .support.servers import serve
from .support.upstream import Connection, Upstream, refusing
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve
    from .support.exchange import Exchange, Script

HEAD = b"HTTP/1.1 200 OK\r\n"


def assert_bad_gateway(response: Response, kind: bytes) -> None:
    assert response.status == 502
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert response.body.startswith(b"Upstream error: ")
    assert response.body.endswith(b"(" + kind + b")")
    for inside in (b"127.0.0.1", b"localhost", b"Traceback", b".py", b".rs", b"os error"):
        assert inside not in response.body


def test_a_refused_connection_is_a_502_on_every_server(server: Serve) -> None:
    with refusing() as url:
        response = fetch(server(Relay(url)).port)
    assert_bad_gateway(response, b"ConnectError")
    assert url.rpartition(":")[2].encode() not in response.body


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "PURGE"])
def test_a_refused_connection_is_a_502_for_every_method(method: str) -> None:
    with refusing() as url, relayed(url) as front:
        assert_bad_gateway(front.fetch(method=method, body=b"body"), b"ConnectError")


def test_the_502_of_a_head_request_has_a_head_alone() -> None:
    with refusing() as url, relayed(url) as front, front.client() as client:
        response = client.request("HEAD")
        assert (response.status, response.body) == (502, b"")
        assert client.request("GET").body.startswith(b"Upstream error")


def test_a_name_that_does_not_exist_is_a_502_that_does_not_tell_it() -> None:
    with relayed("http://upstream.invalid:8000") as front:
        response = front.fetch()
    assert_bad_gateway(response, b"NameResolutionError")
    assert b"upstream.invalid" not in response.body


def test_a_unix_socket_that_is_not_there_is_a_502_that_does_not_tell_its_path(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "no.sock").replace("/", "%2F")
    with relayed(f"http+unix://{path}") as front:
        response = front.fetch()
    assert_bad_gateway(response, b"ConnectError")
    assert b"no.sock" not in response.body


def test_a_connection_that_is_closed_when_it_is_accepted_is_a_502() -> None:
    def leave(connection: Connection) -> bool:
        return False

    with Upstream(scripts.ok, on_connect=leave) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
    assert response.status == 502
    assert response.body.startswith(b"Upstream error: ")


def test_closing_before_the_head_is_a_502_on_every_server(server: Serve) -> None:
    with Upstream(scripts.close) as upstream:
        response = fetch(server(Relay(upstream.url)).port)
    assert_bad_gateway(response, b"RemoteProtocolError")


def test_a_reset_before_the_head_is_a_502() -> None:
    with Upstream(scripts.reset) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(front.fetch(), b"ReadError")


@pytest.mark.parametrize("said", [b"HTT", b"HTTP/1.1 20", HEAD, HEAD + b"Content-Len"])
def test_closing_within_the_head_is_a_502(said: bytes) -> None:
    script = scripts.say(said, close=True)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(front.fetch(), b"RemoteProtocolError")


def test_closing_after_an_interim_response_is_a_502() -> None:
    script = scripts.say(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", close=True)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(front.fetch(), b"RemoteProtocolError")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46" * 20,  # a TLS alert
        b"<html>no head at all</html>\r\n\r\n",
        b"220 mail.test ESMTP\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"no colon\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b": no name\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"two words: x\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"\xe2\x82\xac: x\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_garbage_is_a_502_on_every_kind_of_it(said: bytes) -> None:
    with Upstream(scripts.say(said)) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(front.fetch(), b"RemoteProtocolError")
        upstream.connections[0].wait_closed()
        assert front.raised == []


def test_a_status_that_would_break_a_server_is_a_502_on_every_server(server: Serve) -> None:
    odd = {
        b"/%d" % status: scripts.say(b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % status)
        for status in (101, 600, 999)
    }
    with Upstream(scripts.by_path(odd)) as upstream:
        port = server(Relay(upstream.url)).port
        assert [fetch(port, path).status for path in odd] == [502, 502, 502]


@pytest.mark.parametrize(
    "script",
    [
        scripts.header_bomb(count=100_000, size=100),
        scripts.header_bomb(count=10, size=4_000_000),
        scripts.say(HEAD + b"X: " + b"x" * 16_000_000),
        scripts.say(b"HTTP/1.1 200 " + b"x" * 16_000_000),
    ],
    ids=["many-lines", "long-lines", "a-line-without-end", "a-status-line-without-end"],
)
def test_a_header_bomb_is_a_502_and_is_not_read_to_its_end(script: Script) -> None:
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert_bad_gateway(front.fetch(), b"RemoteProtocolError")
        # It has many MB to say still, so its connection must be gone for its script to end.
        upstream.connections[0].wait_done()
        assert upstream.connections[0].error is not None


def babble(exchange: Exchange) -> None:
    """Interim responses without end, as fast as they are taken."""
    while True:
        exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


def test_interim_responses_without_end_do_not_hold_a_client_for_ever() -> None:
    with Upstream(babble) as upstream, relayed(upstream.url, timeout=0.3) as front:
        assert front.fetch().status in {502, 504}
        upstream.connections[0].wait_closed()


def test_an_upstream_that_babbles_does_not_hold_up_another() -> None:
    with (
        Upstream(babble) as babbling,
        Upstream(scripts.ok) as honest,
        serve(Relay(babbling.url, timeout=Timeout(read=60))) as first,
        serve(Relay(honest.url)) as second,
        Client(first.port) as client,
    ):
        client.start()
        babbling.wait_requests()
        begin = time.monotonic()
        assert fetch(second.port).body == b"ok"
        assert time.monotonic() - begin < AT_ONCE


def test_what_a_failed_upstream_said_is_not_told_to_the_client() -> None:
    said = b"HTTP/1.1 nonsense\r\nX-Internal: 10.0.0.8\r\n\r\nsecret"
    with Upstream(scripts.say(said)) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
    for secret in (b"nonsense", b"X-Internal", b"10.0.0.8", b"secret"):
        assert secret not in response.raw_head + response.body


def test_the_request_after_a_failure_goes_over_a_new_connection() -> None:
    script = scripts.in_turn(scripts.say(b"garbage\r\n\r\n"), scripts.ok)
    with Upstream(script) as upstream, relayed(upstream.url) as front, front.client() as client:
        assert client.request().status == 502
        assert client.request().body == b"ok"
        assert [request.connection.index for request in upstream.requests] == [0, 1]


def test_a_failure_before_the_response_is_answered_and_never_raised() -> None:
    with refusing() as url, relayed(url) as front:
        assert front.fetch().status == 502
        assert front.raised == []


def test_an_upstream_that_goes_down_and_comes_back_is_a_502_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "up.sock"
    with Upstream(scripts.ok, unix=path) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 200
        upstream.stop()
        path.unlink()
        assert_bad_gateway(front.fetch(), b"ConnectError")
        with Upstream(scripts.ok, unix=path):
            assert front.fetch().status == 200


def test_no_traceback_and_no_address_in_any_header_of_the_502() -> None:
    with refusing() as url:
        call = called(Call(), url)
    assert call.response_headers == [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(call.body)).encode()),
    ]
    assert wire.content_length(call.response_headers) == len(call.body)
