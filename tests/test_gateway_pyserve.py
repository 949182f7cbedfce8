"""PyServe's documented files at work: requests, uploads, chats and TLS through the gateway.

The files are those in `gateway/pyserve`; hosts and ports become those of the tests' upstreams.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from .support import scripts
from .support.client import Client, fetch
from .support.exchange import Gate
from .support.gateway import Gateway, serving
from .support.upstream import Upstream
from .support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.authority import Authority

FILES = Path(__file__).parent / "gateway" / "pyserve"

EXAMPLE = """
server:
  reverse_proxy:
    - host: auth.internal
      path: /auth
      port: 3000
    - host: api.internal
      path: /api
      port: 8000
    - host: api.internal
      path: /api/v2
      port: 8001
"""


@contextlib.contextmanager
def served(folder: Path, text: str, ports: dict[int, int]) -> Iterator[Gateway]:
    """The gateway of a file, whose targets are these ports of this machine."""
    text = re.sub(r"host: \S+\.(internal|com)\b", "host: localhost", text)
    text = re.sub(r"port: (\d+)", lambda port: f"port: {ports.get(int(port[1]), port[1])}", text)
    file = folder / "config.yaml"
    file.write_text(text)
    with serving("-c", file, "--port", "0") as gateway:
        yield gateway


def test_requests_and_answers_pass_whole(tmp_path: Path) -> None:
    cookies = ["session=1; Path=/; HttpOnly", "theme=dark, blue", "session=2; Path=/x"]
    upload = random.Random(3).randbytes(20_000)
    gate = Gate()
    table = {
        b"/users": scripts.reflect,
        b"/": scripts.reflect,
        b"/upload": scripts.echo,
        b"/login": scripts.answer(headers=[("Set-Cookie", line) for line in cookies]),
        b"/events": scripts.drip(
            gate, [b"data: 1\n\n", b"data: 2\n\n"], headers=[("Content-Type", "text/event-stream")]
        ),
    }
    with (
        Upstream(scripts.by_path(table)) as upstream,
        served(tmp_path, (FILES / "whole.yaml").read_text(), {3000: upstream.port}) as gateway,
        Client(gateway.port) as client,
    ):
        for ignored in ("backlog", "redirect_instructions", "http", "logging"):
            assert any(row.startswith("notice:") and ignored in row for row in gateway.lines)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            body = None if method == "GET" else b"body"
            seen = client.request(method, "/api/users?a=1%202", [("X-Mine", "yes")], body).body
            assert seen.startswith(f"{method} /users?a=1%202 HTTP/1.1\r\n".encode())
            for line in (b"x-mine: yes", b"x-forwarded-for: 127.0.0.1", b"x-forwarded-proto: http"):
                assert b"\r\n%s\r\n" % line in seen.lower()
            assert b"\r\nx-forwarded-host: relay.test\r\n" in seen.lower()
            assert seen.endswith(b"\r\n\r\n" + (body or b""))
        assert client.request("GET", "/api").body.startswith(b"GET / HTTP/1.1\r\n")
        assert client.request("GET", "/apifoo").status == 404
        answer = client.request("POST", "/api/upload", body=upload).body
        assert hashlib.sha256(answer).digest() == hashlib.sha256(upload).digest()
        answers = client.request("GET", "/api/login")
        assert answers.values("set-cookie") == [line.encode() for line in cookies]
        client.start("GET", "/api/events")
        pieces = client.pieces(client.read_head())
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            # Sent only after the one before it has been seen.
            gate.open()
            assert next(pieces).data == event


def test_the_longest_rule_wins(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        ports = {
            port: stack.enter_context(Upstream(scripts.reflect)).port for port in (3000, 8000, 8001)
        }
        gateway = stack.enter_context(served(tmp_path, EXAMPLE, ports))
        for path, arrives, port in (
            ("/auth/login", b"/login", 3000),
            ("/api", b"/", 8000),
            ("/api/v1/x", b"/v1/x", 8000),
            ("/api/v20", b"/v20", 8000),
            ("/api/v2", b"/", 8001),
            ("/api/v2/x", b"/x", 8001),
        ):
            seen = fetch(gateway.port, path).body
            assert seen.startswith(
                b"GET %s HTTP/1.1\r\nhost: localhost:%d\r\n" % (arrives, ports[port])
            )
        for path in ("/apifoo", "/", "/authx"):
            assert fetch(gateway.port, path).status == 404


class Room:
    """A chat: what one says all others hear."""

    def __init__(self) -> None:
        self.members: set[ServerConnection] = set()

    def join(self, connection: ServerConnection) -> None:
        self.members.add(connection)
        try:
            for message in connection:
                for member in self.members - {connection}:
                    member.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.members.remove(connection)


def test_a_chat(tmp_path: Path) -> None:
    room = Room()
    with (
        serve(room.join, "localhost", 0) as server,
        Upstream(scripts.reflect) as upstream,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ports = {8080: server.socket.getsockname()[1], 8081: upstream.port}
        text = (FILES / "websocket.yaml").read_text()
        with served(tmp_path, text, ports) as gateway:
            assert any(row.startswith("notice:") and "websocket" in row for row in gateway.lines)
            url = f"ws://127.0.0.1:{gateway.port}/ws/chat/room"
            with connect(url, proxy=None) as ada, connect(url, proxy=None) as grace:
                wait_until(lambda: len(room.members) == 2, "both to be there")
                ada.send("hello")
                assert grace.recv(PATIENCE) == "hello"
                grace.send(b"\0\1")
                assert ada.recv(PATIENCE) == b"\0\1"
                assert ada.ping().wait(PATIENCE)
                ada.close(1000, "bye")
                wait_until(lambda: len(room.members) == 1, "one to be left")
            # A rule with `websocket: true` carries requests, too.
            seen = fetch(gateway.port, "/ws/notifications/list").body
            assert seen.startswith(b"GET /list HTTP/1.1\r\n")
        server.shutdown()
        thread.join(PATIENCE)


def test_tls_on_both_sides(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "ssl").mkdir()
    issued = authority.certificate("localhost")
    (tmp_path / "ssl" / "cert.pem").write_bytes(issued.chain.read_bytes())
    (tmp_path / "ssl" / "key.pem").write_bytes(issued.key.read_bytes())
    with Upstream(scripts.reflect, tls=authority.server("localhost")) as upstream:
        text = (FILES / "ssl.yaml").read_text()
        with (
            served(tmp_path, text, {443: upstream.port}) as gateway,
            Client(gateway.port, "localhost", tls=authority.client()) as client,
        ):
            # The certificate is nobody's whom the platform knows.
            assert client.request(target="/secure/x").status == 502
        text += f"      tls: {{ca_file: {authority.pem}}}\n"
        with (
            served(tmp_path, text, {443: upstream.port}) as gateway,
            Client(gateway.port, "localhost", tls=authority.client()) as client,
        ):
            seen = client.request("POST", "/secure/x", body=b"x" * 20_000).body
    assert seen.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"\r\nx-forwarded-proto: https\r\n" in seen
    assert seen.endswith(b"\r\n\r\n" + b"x" * 20_000)
