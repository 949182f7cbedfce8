"""WebSockets through Relay under each server and each of its implementations."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from websockets.sync.client import connect

from asgi_relay import Relay, Timeout

from .support import frames, scripts
from .support.exchange import Gate
from .support.http2 import Http2Client
from .support.upstream import Upstream, refusing
from .support.waiting import AT_ONCE
from .support.websocket import Accept, WebSocketClient, echo
from .support.websocket_servers import DEPRECATED, WEBSOCKET_SERVERS, serve_websockets
from .support.wire import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .support.authority import Authority
    from .support.websocket import UpstreamPeer, WebSocketPeer

pytestmark = pytest.mark.filterwarnings(DEPRECATED)

LONG = "é" * 61 + "x"
"""A reason of 123 octets."""

HEADERS = [
    ("Set-Cookie", "a=1; Path=/"),
    ("X-Room", "7"),
    ("Date", "Mon, 01 Jan 2001 00:00:00 GMT"),
    ("Server", "upstream/1"),
    ("Set-Cookie", "b=2"),
]
EACH = pytest.mark.parametrize("kind", WEBSOCKET_SERVERS)


class Ends:
    """A relay under a server, both of whose ends are the test's."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.gate = Gate()
        self._parked = Accept()
        self.upstream = Upstream(
            scripts.by_path(
                {
                    b"/echo": Accept(echo),
                    b"/chosen": Accept(subprotocol="chat.v2"),
                    b"/headers": Accept(headers=HEADERS),
                    b"/thinking": scripts.gated(self.gate, self._parked),
                    b"/": self._parked,
                }
            )
        )
        self.port = 0
        self._opened = 0

    def peer(self) -> UpstreamPeer:
        """The next one that nobody has taken."""
        self._opened += 1
        return self._parked.peer(self._opened - 1)

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[WebSocketClient, UpstreamPeer]]:
        with WebSocketClient(self.port) as client:
            client.open()
            peer = self.peer()
            try:
                yield client, peer
            finally:
                peer.vanish()

    @contextlib.contextmanager
    def echoed(self) -> Iterator[WebSocketClient]:
        with WebSocketClient(self.port) as client:
            client.open("/echo")
            yield client


@pytest.fixture(scope="module", params=WEBSOCKET_SERVERS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """One server of each kind for all the tests that leave it as it was."""
    found = Ends(request.param)
    with found.upstream:
        relay = Relay(found.upstream.url, shutdown_grace=0.1, timeout=Timeout(60))
        with serve_websockets(relay, found.kind) as server:
            found.port = server.port
            yield found


# -- handshake -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "choice"), [("/", None), ("/chosen", b"chat.v2")])
def test_the_subprotocol_that_the_upstream_chose(
    ends: Ends, target: str, choice: bytes | None
) -> None:
    with WebSocketClient(ends.port) as client:
        response = client.open(target, subprotocols=["chat.v1", "chat.v2"])
        assert response.value("sec-websocket-protocol") == choice
    if choice is None:
        ends.peer().vanish()
    (offered,) = ends.upstream.requests[-1].values("sec-websocket-protocol")
    assert offered.replace(b" ", b"") == b"chat.v1,chat.v2"


def test_the_headers_of_the_101(ends: Ends) -> None:
    with WebSocketClient(ends.port) as client:
        response = client.open("/headers")
    assert len(response.values("date")) == 1
    assert len(response.values("server")) <= 1
    # granian gives a client none of them, whatever an app says.
    if ends.kind != "granian":
        assert response.values("set-cookie") == [b"a=1; Path=/", b"b=2"]
        assert response.value("x-room") == b"7"


@EACH
def test_no_connection_and_no_answer(kind: str) -> None:
    with (
        refusing() as url,
        serve_websockets(Relay(url), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        response = client.shake()
    assert response.status == 502
    assert response.body.startswith(b"Upstream error")
    with (
        Upstream(scripts.hang) as upstream,
        serve_websockets(Relay(upstream.url, timeout=0.1), kind) as server,
        WebSocketClient(server.port) as client,
    ):
        response = client.shake()
    assert (response.status, response.body) == (504, b"Gateway Timeout")


@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
def test_a_client_that_leaves_while_the_upstream_thinks(
    ends: Ends, leave: Callable[[WebSocketClient], None]
) -> None:
    before = len(ends.upstream.requests)
    with WebSocketClient(ends.port) as client:
        client.start("/thinking")
        connection = ends.upstream.wait_requests(before + 1).connection
        left = time.monotonic()
        leave(client)
        if ends.kind == "granian":
            # It tells an app nothing of its client before the accept.
            ends.gate.open()
            assert close_or_end(ends.peer()) in {1000, 1001, None}
        else:
            assert connection.wait_closed() - left < AT_ONCE


# -- messages ------------------------------------------------------------------------------------


def test_messages_of_each_kind_and_size(ends: Ends) -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 10_000_000]
    messages: list[str | bytes] = [b"\xff" * size for size in sizes]
    messages += ["x" * size for size in sizes]
    with ends.echoed() as client:
        for message in messages:
            client.send_message(message, mask=b"\0\0\0\0")
            assert (client.receive_message() == message) is True


def test_many_messages_in_order(ends: Ends) -> None:
    with ends.echoed() as client:
        octets = [frames.encode(frames.TEXT, b"%d" % n, mask=b"mask") for n in range(500)]
        client.send(b"".join(octets))
        assert [client.receive_message() for _ in range(500)] == [str(n) for n in range(500)]


def test_pings_are_answered_on_each_hop(ends: Ends) -> None:
    with ends.opened() as (client, peer):
        for end in (client, peer):
            end.ping(b"on this hop")
            pong = end.receive()
            assert (pong.opcode, pong.payload) == (frames.PONG, b"on this hop")


def test_compression_is_between_the_client_and_the_server(ends: Ends) -> None:
    texts = ["compressible " * 10_000, "", "é€😀" * 1000]
    url = f"ws://127.0.0.1:{ends.port}/echo"
    with connect(url, compression="deflate", proxy=None) as client:
        # granian does not offer it.
        assert bool(client.protocol.extensions) is (ends.kind != "granian")
        for text in texts:
            for message in (text, text.encode()):
                client.send(message)
                assert client.recv() == message
        assert ends.upstream.requests[-1].values("sec-websocket-extensions") == []


@EACH
def test_secure_websockets_of_clients(kind: str, authority: Authority) -> None:
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.1)
        certificate = authority.certificate("127.0.0.1")
        with (
            serve_websockets(relay, kind, certificate=certificate) as server,
            WebSocketClient(server.port, tls=authority.client()) as client,
        ):
            client.open()
            client.send_text("secret")
            assert client.receive_message() == "secret"
        assert upstream.requests[0].value("x-forwarded-proto") == b"https"


# -- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, "bye"), (1001, ""), (1011, "oh"), (1012, "soon"), (3000, ""), (4999, LONG)],
    ids=lambda part: str(part)[:4],
)
def test_the_upstream_closes(ends: Ends, code: int, reason: str) -> None:
    with ends.opened() as (client, peer):
        peer.send_text("last")
        peer.close(code, reason)
        assert client.receive_message() == "last"
        assert client.answer_close() == (code, reason)
        assert peer.expect_close() == (code, reason)
        peer.wait_closed()


def test_the_upstream_closes_without_a_code(ends: Ends) -> None:
    with ends.opened() as (client, peer):
        peer.close(None)
        assert client.answer_close()[0] == 1000


@pytest.mark.parametrize("leave", ["vanish", "reset"])
def test_the_upstream_vanishes(ends: Ends, leave: str) -> None:
    with ends.opened() as (client, peer):
        getattr(peer, leave)()
        assert client.answer_close()[0] == 1011


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "bye"), (3001, ""), (4999, LONG)], ids=lambda part: str(part)[:4]
)
def test_the_client_closes(ends: Ends, code: int, reason: str) -> None:
    with ends.opened() as (client, peer):
        client.send_text("last")
        client.close(code, reason)
        assert client.expect_close() == (code, reason)
        # uvicorn's `websockets` tells an app of it when the client has ended the connection.
        client.vanish()
        assert peer.receive_message() == "last"
        closed = peer.answer_close()
    if ends.kind.startswith("hypercorn"):
        assert closed == (1001, "")  # which gives an app 1006 for every code
    else:
        # granian says no reason to an app.
        assert closed == (code, "" if ends.kind == "granian" else reason)


def test_the_client_closes_without_a_code(ends: Ends) -> None:
    with ends.opened() as (client, peer):
        client.finish_close(None)
        client.vanish()
        assert peer.answer_close()[0] == (1001 if ends.kind.startswith("hypercorn") else 1000)


@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
def test_the_client_vanishes(ends: Ends, leave: Callable[[WebSocketClient], None]) -> None:
    with ends.opened() as (client, peer):
        left = time.monotonic()
        leave(client)
        # granian does not tell an app such an end from a close without a code.
        allowed = {1000, 1001, None} if ends.kind == "granian" else {1001, None}
        assert close_or_end(peer) in allowed
        assert time.monotonic() - left < AT_ONCE


def close_or_end(peer: WebSocketPeer) -> int | None:
    try:
        return peer.expect_close()[0]
    except (ClosedError, ConnectionError):
        return None


# -- shutdown ------------------------------------------------------------------------------------


@EACH
def test_the_relay_s_shutdown_closes_both_sides(kind: str) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        relay = Relay(upstream.url, shutdown_grace=0.1)
        with serve_websockets(relay, kind) as server, WebSocketClient(server.port) as client:
            client.open()
            # From a loop that is not the server's.
            anyio.run(relay.shutdown)
            assert client.answer_close()[0] == 1001
            assert accept.peer().expect_close()[0] == 1001
            # And it can be used again.
            with WebSocketClient(server.port) as another:
                another.open()


@EACH
def test_the_server_s_shutdown_closes_both_sides(kind: str) -> None:
    accept = Accept()
    # For an answer of the app's, which does not come while its client stays.
    waiting = {"graceful_timeout": 0.1} if kind.startswith("hypercorn") else {}
    with Upstream(accept) as upstream, contextlib.ExitStack() as clients:
        with serve_websockets(Relay(upstream.url, shutdown_grace=0.1), kind, **waiting) as server:
            client = clients.enter_context(WebSocketClient(server.port))
            client.open()
            peer = accept.peer()
        # It is over for the upstream when the server is. uvicorn says that it restarts.
        assert peer.expect_close()[0] == (1012 if kind.startswith("uvicorn") else 1001)


# -- HTTP/2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hypercorn-asyncio", "hypercorn-trio"])
def test_a_websocket_over_http_2(kind: str) -> None:
    hello = frames.encode(frames.TEXT, b"hello")
    accept = Accept(followed_by=hello)
    with Upstream(accept) as upstream:
        with (
            serve_websockets(Relay(upstream.url, shutdown_grace=0.1), kind) as server,
            Http2Client(server.port) as client,
        ):
            # RFC 8441
            extended = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
            stream = client.start("CONNECT", "/x?y", extended, ended=False)
            assert client.read(stream, len(hello)) == hello
            client.send(stream, frames.encode(frames.TEXT, b"and you", mask=b"mask"))
            assert accept.peer().receive_message() == "and you"
            client.reset(stream)
            assert accept.peer().expect_close()[0] == 1001
        assert upstream.requests[0].line == b"GET /x?y HTTP/1.1"
        assert upstream.requests[0].value("x-forwarded-host") == b"relay.test"
