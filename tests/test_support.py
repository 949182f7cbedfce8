"""The tests' own peers: what they claim about the wire has to be true before anything else is."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.client import Client, TruncatedError, fetch
from .support.exchange import Exchange, Gate, Script
from .support.leaks import Leaks
from .support.upstream import Upstream, refusing, silent
from .support.wire import MalformedError

if TYPE_CHECKING:
    from pathlib import Path

    from .support.authority import Authority


def test_a_request_is_recorded_as_its_octets() -> None:
    sent = (
        b"POST /a%2Fb?x HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nx-two:  2 \r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    with Upstream(scripts.ok) as upstream, Client(upstream.port) as client:
        client.send(sent)
        assert client.read().body == b"ok"
        request = upstream.requests[0].wait_complete()
    assert request.raw == sent
    assert (request.method, request.target) == (b"POST", b"/a%2Fb?x")
    assert request.headers[1:3] == [(b"X-Two", b"1"), (b"x-two", b"2")]
    assert request.body == b"abc"


def test_connections_are_kept_alive_and_counted() -> None:
    with Upstream(scripts.reflect) as upstream, Client(upstream.port) as client:
        assert client.request("GET", "/1").body.startswith(b"GET /1 ")
        assert client.request("HEAD", "/2").body == b""
        assert client.request("PUT", "/3", body=b"x").body.endswith(b"\r\n\r\nx")
        assert len(upstream.connections) == 1
        assert len(upstream.requests) == 3


def test_a_chunked_upload_is_complete_only_with_its_last_chunk() -> None:
    with Upstream(scripts.echo) as upstream, Client(upstream.port) as client:
        client.start("POST", chunked=True)
        client.send_chunks([b"half"], last=False)
        request = upstream.wait_requests()
        upstream.wait_until(lambda: request.body_size == 4, "the first chunk")
        assert not request.complete.is_set()
        client.send_chunks([b" whole"])
        assert client.read().body == b"half whole"
        assert request.complete.is_set()


@pytest.mark.parametrize("leave", [Client.close, Client.abort])
def test_a_client_that_leaves_is_noticed_while_the_script_waits(leave: object) -> None:
    assert callable(leave)
    with Upstream(scripts.hang) as upstream, Client(upstream.port) as client:
        client.start()
        connection = upstream.wait_requests().connection
        assert not connection.closed_by_peer.is_set()
        leave(client)
        connection.wait_closed()


def test_a_client_that_leaves_is_noticed_behind_octets_that_nobody_reads() -> None:
    with Upstream(scripts.unread) as upstream, Client(upstream.port) as client:
        client.start("POST", length=1_000_000)
        connection = upstream.wait_requests().connection
        client.send(b"x" * 100_000)
        client.close()
        connection.wait_closed()
        assert not connection.requests[0].complete.is_set()


def test_a_client_that_leaves_an_idle_connection_is_noticed() -> None:
    with Upstream(scripts.ok) as upstream:
        fetch(upstream.port)
        upstream.connections[0].wait_closed()


def test_an_idle_connection_is_closed_on_command() -> None:
    with Upstream(scripts.ok) as upstream, Client(upstream.port) as client:
        client.request()
        upstream.connections[0].close()
        assert client.read_until_closed() == b""
        assert not upstream.connections[0].closed_by_peer.is_set()


@pytest.mark.parametrize(
    ("script", "after", "reset"),
    [
        (scripts.close, 0, False),
        (scripts.reset, 0, True),
        (scripts.cut_length(b"abc", 10), 3, False),
        (scripts.cut_length(b"abc", 10, rst=True), 3, True),
        (scripts.cut_chunked(b"abc", b"de"), 5, False),
        (scripts.cut_chunked(b"abc", tail=b"5\r\nde"), 5, False),
        (scripts.cut_chunked(b"abc", tail=b"0\r\n"), 3, False),
        (scripts.cut_chunked(b"abc", rst=True), 3, True),
    ],
)
def test_a_cut_answer_is_told_from_a_whole_one(script: Script, after: int, reset: bool) -> None:
    with Upstream(script) as upstream, pytest.raises(TruncatedError) as cut:
        fetch(upstream.port)
    assert (cut.value.after, cut.value.reset) == (after, reset)


def test_a_drip_comes_when_the_gate_says() -> None:
    gate = Gate()
    with Upstream(scripts.drip(gate, [b"a", b"b"])) as upstream, Client(upstream.port) as client:
        client.start()
        response = client.read_head()
        pieces = client.pieces(response)
        for expected in (b"a", b"b"):
            client.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.sock.recv(1, socket.MSG_PEEK)
            client.sock.settimeout(10)
            gate.open()
            assert next(pieces).data == expected
        assert list(pieces) == []


def test_scripts_take_turns() -> None:
    script = scripts.in_turn(scripts.answer(503), scripts.close, scripts.ok)
    with Upstream(script) as upstream:
        assert fetch(upstream.port).status == 503
        with pytest.raises(TruncatedError):
            fetch(upstream.port)
        assert [fetch(upstream.port).status for _ in range(2)] == [200, 200]


def test_scripts_by_connection_and_by_path() -> None:
    inner = scripts.by_path({b"/a": scripts.answer(201)})
    with Upstream(scripts.by_connection(scripts.ok, inner)) as upstream:
        assert [fetch(upstream.port, path).status for path in ("/a", "/a?x", "/b")] == [
            200,
            201,
            404,
        ]


def test_an_early_answer_arrives_though_the_body_is_not_read() -> None:
    with Upstream(scripts.early(413)) as upstream, Client(upstream.port) as client:
        client.start("POST", length=1000)
        client.send(b"x" * 10)
        response = client.read()
        assert (response.status, response.body) == (413, b"too much")
        assert client.read_until_closed() == b""
    assert not upstream.requests[0].complete.is_set()


def test_interim_answers_and_surplus_octets_are_told_apart() -> None:
    hints = b"HTTP/1.1 103 X\r\nLink: x\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    raw = hints + answer + b"HTTP/1.1 999"
    with Upstream(scripts.say(raw, close=True)) as upstream, Client(upstream.port) as client:
        response = client.request()
        assert (response.interim, response.status, response.body) == ([103], 200, b"ok")
        assert client.read_until_closed() == b"HTTP/1.1 999"


def test_a_header_bomb_is_as_big_as_it_says() -> None:
    with Upstream(scripts.header_bomb(100, 1000)) as upstream, Client(upstream.port) as client:
        client.start()
        assert len(client.read_until_closed()) > 100_000


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_the_upstream_complains_of_what_nobody_should_send(octets: bytes) -> None:
    def exchange() -> None:
        with Upstream(scripts.ok) as upstream, Client(upstream.port) as client:
            client.send(octets)
            client.read_until_closed()

    with pytest.raises(MalformedError):
        exchange()


def test_an_error_in_a_script_fails_the_test() -> None:
    def script(exchange: Exchange) -> None:
        raise LookupError(exchange.request.target)

    with pytest.raises(LookupError), Upstream(script) as upstream, pytest.raises(TruncatedError):
        fetch(upstream.port)


def test_a_greeting_comes_before_the_request() -> None:
    def greet(connection: object) -> bool:
        return False

    with (
        Upstream(scripts.ok, on_connect=greet) as upstream,
        Client(upstream.port) as client,
    ):
        assert client.read_until_closed() == b""
        assert upstream.requests == []


def test_a_client_that_does_not_read_stops_the_flood() -> None:
    size = 64 * 1024 * 1024
    with Upstream(scripts.flood(size)) as upstream:
        with Client(upstream.port, receive_buffer=65536) as client:
            client.start()
            client.read_head()
            upstream.wait_requests()
        upstream.connections[0].wait_done()
        assert isinstance(upstream.connections[0].error, ConnectionError)
        assert len(fetch(upstream.port).body) == size


def test_a_refusing_and_a_silent_port() -> None:
    with refusing() as url, pytest.raises(ConnectionRefusedError):
        Client(int(url.rpartition(":")[2]))
    with silent() as url, pytest.raises(TimeoutError):
        Client(int(url.rpartition(":")[2]), timeout=0.2)


def test_an_upstream_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "up.sock"
    with Upstream(scripts.ok, unix=path) as upstream, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b"GET /u HTTP/1.1\r\nHost: h\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        assert upstream.requests[0].target == b"/u"
        assert upstream.url == "http+unix://" + str(path).replace("/", "%2F")


def test_an_upstream_over_tls(authority: Authority) -> None:
    with Upstream(scripts.echo, tls=authority.server()) as upstream:
        response = fetch(upstream.port, method="POST", body=b"secret", tls=authority.client())
        assert response.body == b"secret"
        assert upstream.url.startswith("https://127.0.0.1:")
        upstream.connections[0].wait_closed()


def test_an_upstream_on_ipv6() -> None:
    with Upstream(scripts.ok, host="::1") as upstream, Client(upstream.port, "::1") as client:
        assert client.request().status == 200
        assert upstream.url == f"http://[::1]:{upstream.port}"


def test_the_upstream_leaves_nothing_behind(leaks: Leaks) -> None:
    with Upstream(scripts.hang) as upstream, Client(upstream.port) as client:
        client.start()
        upstream.wait_requests()


def test_a_leak_is_found() -> None:
    leaks, gate = Leaks(), threading.Event()
    thread = threading.Thread(target=gate.wait, name="left")
    thread.start()
    with socket.socket(), pytest.raises(AssertionError, match="AF_INET SOCK_STREAM") as found:
        leaks.check(within=0)
    assert "left" in str(found.value)
    gate.set()
    thread.join()
    leaks.check()
