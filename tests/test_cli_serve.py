"""`asgi-relay serve`: what it prints, what it serves, and how it refuses to start."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.client import Client, fetch
from .support.gateway import START, serving, starting
from .support.ports import port_of, reserve
from .support.processes import ROOT
from .support.servers import accepts
from .support.upstream import Upstream
from .support.waiting import PATIENCE, wait_until
from .support.websocket import Accept, WebSocketClient, WebSocketPeer

if TYPE_CHECKING:
    from .support.authority import Authority

RULES = Path(__file__).parent / "gateway" / "pyserve" / "rules.yaml"


def shout(peer: WebSocketPeer) -> None:
    """Answers each message in capitals."""
    with suppress(Exception):
        while True:
            peer.send_text(str(peer.receive_message()).upper())


def test_everything_goes_to_one_upstream() -> None:
    with (
        Upstream(scripts.reflect) as upstream,
        serving("--to", f"{upstream.url}/base", "--port", "0") as gateway,
    ):
        with Client(gateway.port) as client:
            response = client.request("POST", "/a%2Fb?q", body=b"hello")
        assert response.status == 200
        assert response.body.startswith(b"POST /base/a%2Fb?q HTTP/1.1\r\n")
        assert response.body.endswith(b"\r\n\r\nhello")


def test_websockets_go_through() -> None:
    with (
        Upstream(Accept(shout)) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        WebSocketClient(gateway.port) as client,
    ):
        client.open("/ws")
        client.send_text("hello")
        assert client.receive_message() == "HELLO"


def test_what_it_prints(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(
        """
        server:
          reverse_proxy:
            - {path: /api, host: localhost, port: 3000, websocket: true}
        routes:
          - path: /chat
            targets: [http://127.0.0.1:4000, http://127.0.0.1:4001/two]
            strip_prefix: false
        admin: {port: 0}
        """
    )
    with serving("-c", tmp_path / "gateway.yaml", "--port", "0") as gateway:
        text = "\n".join(gateway.lines)
        ports = re.findall(r"127\.0\.0\.1:(\d{2,5})   ?/|127\.0\.0\.1:(\d+)$", text, re.M)
        assert len(ports) >= 2
        with Client(gateway.port) as client:
            assert client.request(target="/elsewhere").status == 404
    assert re.fullmatch(r"asgi-relay \d+\.\d+\.\d+\S*", gateway.lines[0])
    assert re.fullmatch(r"  listening   http://127\.0\.0\.1:[1-9]\d*", gateway.lines[1])
    admin = r"  admin       http://127\.0\.0\.1:[1-9]\d*   /healthz, /metrics"
    assert re.fullmatch(admin, gateway.lines[2])
    assert [re.split(" {3,}", line.strip()) for line in gateway.lines[4:8]] == [
        ["path", "to", "balance"],
        ["/api", "http://localhost:3000/"],
        ["/chat", "http://127.0.0.1:4000/chat", "p2c"],
        ["http://127.0.0.1:4001/two/chat"],
    ]
    assert gateway.lines[9].startswith("notice: ")
    assert "websocket" in gateway.lines[9]
    assert gateway.lines[10].startswith("ready; Ctrl-C or SIGTERM ends it, SIGHUP or a change of ")


def test_it_serves_with_tls(authority: Authority) -> None:
    certificate = authority.certificate("localhost")
    tls = ("--cert", certificate.chain, "--key", certificate.key)
    with (
        Upstream(scripts.reflect) as upstream,
        serving("--to", upstream.url, "--port", "0", *tls) as gateway,
        Client(gateway.port, "localhost", tls=authority.client()) as client,
    ):
        assert f"  listening   https://127.0.0.1:{gateway.port}" in gateway.lines
        assert b"x-forwarded-proto: https\r\n" in client.request().body.lower()


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("server: {port: 1}\nroutes: [{path: /x, targets: 'http://127.0.0.1:1'}]\n")
    with (
        Upstream(scripts.ok) as upstream,
        serving("-c", file, "--to", upstream.url, "--port", "0") as gateway,
    ):
        assert fetch(gateway.port, "/y").status == 200


def test_pyserve_s_rules_route_as_documented(tmp_path: Path) -> None:
    text = RULES.read_text()
    with Upstream(scripts.reflect) as api, Upstream(Accept(shout)) as chat:
        # As it stands but for the ports, which are somebody else's on a machine with tests.
        text = text.replace("port: 3000", f"port: {api.port}")
        text = text.replace("port: 8080", f"port: {chat.port}")
        (tmp_path / "config.yaml").write_text(text)
        with serving("-c", tmp_path / "config.yaml", "--port", "0") as gateway:
            assert fetch(gateway.port, "/api/users?a=b").body.startswith(b"GET /users?a=b HTTP")
            assert fetch(gateway.port, "/apifoo").status == 404
            with WebSocketClient(gateway.port) as client:
                client.open("/ws/room")
                client.send_text("hello")
                assert client.receive_message() == "HELLO"
            assert chat.requests[0].target == b"/room"


def test_pyserve_s_file_starts_as_it_stands() -> None:
    with serving("-c", RULES, "--port", "0") as gateway:
        rows = [re.split(" {3,}", line.strip()) for line in gateway.lines[3:7]]
        assert rows == [
            ["path", "to"],
            ["/api", "http://localhost:3000/"],
            ["/ws", "http://localhost:8080/"],
            ["/socket.io", "https://example.com/"],
        ]


def test_the_access_log_has_standard_output_for_itself(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with Upstream(scripts.ok) as upstream:
        file.write_text(f"access_log: {{format: json}}\nroutes: [{{targets: '{upstream.url}'}}]\n")
        log = tmp_path / "access.log"
        with log.open("w") as out, serving("-c", file, "--port", "0", stdout=out) as gateway:
            assert fetch(gateway.port, "/logged").status == 200
            gateway.end()
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["status"] == 200


@pytest.mark.parametrize("workers", ["1", "3"])
def test_an_address_in_use(workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = ("--to", "http://127.0.0.1:1", "--port", port, "--workers", workers)
        with starting("serve", *arguments) as gateway:
            assert gateway.wait(START) == 1
    (line,) = gateway.lines
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in line


def test_a_bad_file_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes: [{path: /x, targts: 'http://127.0.0.1:1'}]\n")
    with starting("serve", "-c", file) as gateway:
        assert gateway.wait(START) == 1
    (line,) = gateway.lines
    assert line.startswith(f"error: {file}:1:")
    assert "targets" in line


def test_it_takes_as_many_descriptors_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        with serving("--to", "http://127.0.0.1:1", "--port", "0") as gateway:
            limits = Path(f"/proc/{gateway.popen.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert re.search(rf"Max open files +{hard} +{hard} ", limits)


def test_closed_standard_streams_are_nobody_else_s(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with Upstream(scripts.reflect) as upstream, reserve() as reserved:
        port = port_of(reserved)
        file.write_text(f"access_log: {{}}\nroutes: [{{targets: '{upstream.url}'}}]\n")
        shell = f"exec {sys.executable} -m asgi_relay serve -c {file} --port {port} 0<&- 1>&- 2>&-"
        with subprocess.Popen(["sh", "-c", shell], cwd=ROOT) as popen:
            try:
                wait_until(lambda: accepts(port), "the gateway to accept", START)
                for _ in range(3):
                    assert fetch(port, "/").body.startswith(b"GET / HTTP/1.1\r\n")
                links = [os.readlink(f"/proc/{popen.pid}/fd/{number}") for number in range(3)]
                assert links == ["/dev/null"] * 3
                popen.terminate()
                assert popen.wait(PATIENCE) == 0
            finally:
                popen.kill()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals(no_color: str) -> None:
    command = [sys.executable, "-m", "asgi_relay", "check", "--offline", "-c", str(RULES)]
    terminal, end = pty.openpty()
    try:
        subprocess.run(
            command,
            cwd=ROOT,
            stdout=end,
            check=True,
            timeout=START,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": no_color},
        )
        text = os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.close(end)
    assert b"is valid" in text
    assert (b"\x1b[" in text) is not bool(no_color)
