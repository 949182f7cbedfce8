"""`websockets` on both ends of the gateway: what the two agree on is none of its business."""

from __future__ import annotations

import random
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from .support.gateway import Gateway, configured
from .support.kernel import memory
from .support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.http11 import Request, Response

    from .support.authority import Authority

LONG = "Straße €100 " * 300_000
NOISE = random.Random(2).randbytes(3_000_000)


class Chat:
    """What the server does, and the connections that it has had."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.left: list[tuple[int, str]] = []
        self.port = 0
        self.scheme = "ws"
        self.options: dict[str, Any] = {}
        self.gateway: Gateway

    def refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(403, "members only") if request.path == "/members" else None

    def talk(self, connection: ServerConnection) -> None:
        """Echoes; closes as it is told to."""
        self.connections.append(connection)
        try:
            while True:
                message = connection.recv()
                if isinstance(message, str) and message.startswith("close "):
                    _, code, reason = message.split(" ", 2)
                    connection.close(int(code), reason)
                elif message == "vanish":
                    connection.socket.close()
                else:
                    connection.send(message)
        except ConnectionClosed as closed:
            frame = closed.rcvd
            self.left.append((frame.code, frame.reason) if frame else (1006, ""))

    @contextmanager
    def client(self, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
        url = f"{self.scheme}://localhost:{self.port}{path}"
        # Without "v2" this server refuses.
        settings: dict[str, Any] = {"max_size": None, "proxy": None, "subprotocols": ["v2"]}
        settings |= {**self.options, **options}
        seen = len(self.connections)
        with connect(url, open_timeout=PATIENCE, close_timeout=PATIENCE, **settings) as client:
            wait_until(lambda: len(self.connections) > seen, "the server to talk")
            yield client


@pytest.fixture(scope="module", params=["clear", "tls"])
def chat(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chat]:
    """A gateway before the chat, in the clear or with TLS on both its sides."""
    chat = Chat()
    secure = request.param == "tls"
    options: dict[str, Any] = {"process_request": chat.refuse, "subprotocols": ["v2", "v1"]}
    if secure:
        options["ssl"] = authority.server("localhost")
    server: Server
    with serve(chat.talk, "127.0.0.1", 0, max_size=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        behind = server.socket.getsockname()[1]
        route = {
            "targets": f"{'https' if secure else 'http'}://localhost:{behind}",
            "tls": {"ca_file": str(authority.pem)},
        }
        front: dict[str, Any] = {"host": "localhost"}
        sections: dict[str, Any] = {}
        if secure:
            issued = authority.certificate("localhost")
            sections["ssl"] = {
                "enabled": True,
                "cert_file": str(issued.chain),
                "key_file": str(issued.key),
            }
            trusting = authority.client()
            # This client reads in a thread of its own while it sends. Where a TLS 1.3 server's
            # tickets come at that moment, OpenSSL drops what is sent, or fails. 1.2 has none then;
            # the browser's tests go over 1.3.
            trusting.maximum_version = ssl.TLSVersion.TLSv1_2
            chat.scheme, chat.options = "wss", {"ssl": trusting}
        folder = tmp_path_factory.mktemp("gateway")
        with configured(folder, [route], server=front, **sections) as gateway:
            chat.port, chat.gateway = gateway.port, gateway
            yield chat
        server.shutdown()
        thread.join(PATIENCE)


def test_the_ends_agree_on_compression(chat: Chat) -> None:
    wanted = ClientPerMessageDeflateFactory(
        server_max_window_bits=10, client_max_window_bits=11, client_no_context_takeover=True
    )
    with chat.client(compression=None, extensions=[wanted]) as client:
        (ours,) = client.protocol.extensions
        (theirs,) = chat.connections[-1].protocol.extensions
        assert ours.name == "permessage-deflate"
        # Each end's account of the other is the other's of itself.
        assert (ours.local_max_window_bits, ours.remote_max_window_bits) == (11, 10)  # type: ignore[attr-defined]
        assert (theirs.local_max_window_bits, theirs.remote_max_window_bits) == (10, 11)  # type: ignore[attr-defined]
        for message in ("hello", "", LONG, b"", b"\0\xff", NOISE):
            client.send(message)
            assert client.recv(PATIENCE) == message


def test_what_is_not_compressed_stays_so(chat: Chat) -> None:
    with chat.client(compression=None) as client:
        assert client.protocol.extensions == chat.connections[-1].protocol.extensions == []
        client.send([b"in ", b"three ", b"pieces"])
        assert client.recv(PATIENCE) == b"in three pieces"


def test_a_big_message_is_not_held(chat: Chat) -> None:
    """It is passed on as it comes, so memory does not grow with it."""
    with chat.client(compression=None) as client:
        client.send(b"warm" * 250_000)
        client.recv(PATIENCE)
        before = memory(chat.gateway.popen.pid, "VmHWM")
        big = bytes(30_000_000)
        client.send(big)
        assert client.recv(PATIENCE) == big
        assert memory(chat.gateway.popen.pid, "VmHWM") - before < 4_000_000


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (3001, "Grüße"), (4999, "x" * 123)]
)
def test_closing(chat: Chat, code: int, reason: str) -> None:
    with chat.client() as client:
        client.close(code, reason)
        assert (client.close_code, client.close_reason) == (code, reason)
    wait_until(lambda: (code, reason) in chat.left, f"{code} at the server")
    with chat.client() as client:
        client.send(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
        assert closed.value.rcvd_then_sent


def test_an_end_without_a_close_frame(chat: Chat) -> None:
    left = chat.left.count((1006, ""))
    with chat.client() as client:
        client.send("vanish")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE)
        assert closed.value.rcvd is None
    with chat.client() as client:
        client.socket.close()
        wait_until(lambda: chat.left.count((1006, "")) > left, "the server to see it")


def test_pings_and_subprotocols(chat: Chat) -> None:
    with chat.client(subprotocols=["v1", "v2"]) as client:
        assert client.subprotocol == chat.connections[-1].subprotocol == "v2"
        assert client.ping(b"are you there?").wait(PATIENCE)
        assert chat.connections[-1].ping().wait(PATIENCE)


def test_a_refusal_arrives_as_it_was_made(chat: Chat) -> None:
    with pytest.raises(InvalidStatus) as refused, chat.client("/members"):
        pass
    response = refused.value.response
    assert (response.status_code, response.body) == (403, b"members only")
