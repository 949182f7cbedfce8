"""`asgi-relay serve` told to end: what is in flight is finished, and then it ends with 0."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .support import scripts
from .support.askers import CLIENTS, Askers
from .support.client import Client, fetch
from .support.exchange import Gate
from .support.gateway import START, serving, starting, untimed
from .support.ports import port_of, reserve
from .support.processes import ROOT
from .support.upstream import Upstream
from .support.waiting import PATIENCE, wait_until
from .support.websocket import Accept, PeerClosedError, WebSocketClient, WebSocketPeer

if TYPE_CHECKING:
    from pathlib import Path

ENDING = [signal.SIGTERM, signal.SIGINT]


def listen(peer: WebSocketPeer) -> None:
    """Waits for a close, and leaves then."""
    with contextlib.suppress(PeerClosedError):
        peer.receive_message()


@pytest.mark.parametrize("how", ENDING)
def test_it_ends_with_0_when_nothing_is_in_flight(how: signal.Signals) -> None:
    # Held, or somebody else may listen there by the time that nobody should.
    with reserve() as held:
        port = port_of(held)
        with serving("--to", "http://127.0.0.1:1", "--port", str(port)) as gateway:
            assert gateway.port == port
            gateway.signal(how)
            assert gateway.wait() == 0
        told, ended = map(untimed, gateway.lines[-2:])
        assert told.startswith(f"asgi-relay: {how.name}: requests in flight have 30 s to finish; ")
        assert ended == "asgi-relay: ended"
        with pytest.raises(ConnectionRefusedError):
            Client(port)


def test_a_request_in_flight_is_finished() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        Client(gateway.port) as client,
    ):
        client.start()
        upstream.wait_requests()
        gateway.signal(signal.SIGTERM)
        gateway.wait_line("SIGTERM")
        gate.open()
        response = client.read()
        assert (response.status, response.body) == (200, b"ok")
        assert gateway.wait() == 0


def test_a_websocket_is_told_that_it_ends() -> None:
    with (
        Upstream(Accept(listen)) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        WebSocketClient(gateway.port) as client,
    ):
        client.open("/")
        gateway.signal(signal.SIGTERM)
        with pytest.raises(PeerClosedError) as closed:
            client.receive_message()
        assert closed.value.code == 1001
        client.close()
        client.vanish()
        assert gateway.wait() == 0


def test_no_request_is_lost_under_load() -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        Askers(gateway.port) as askers,
    ):
        askers.wait_answers(20 * CLIENTS)
        gateway.signal(signal.SIGTERM)
        askers.join()
        assert gateway.wait() == 0
    assert (askers.lost, askers.statuses) == ([], {200})


def test_the_grace_is_the_file_s(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with Upstream(scripts.hang) as upstream:
        file.write_text(f"server: {{shutdown_grace: 0.2}}\nroutes: [{{targets: '{upstream.url}'}}]")
        with serving("-c", file, "--port", "0") as gateway, Client(gateway.port) as client:
            client.start()
            upstream.wait_requests()
            gateway.signal(signal.SIGTERM)
            gateway.wait_line("have 0.2 s to finish")
            assert gateway.wait() == 0
            assert client.read_until_closed() == b""


@pytest.mark.parametrize("second", ENDING)
def test_a_second_signal_ends_it_at_once(second: signal.Signals) -> None:
    with (
        Upstream(scripts.hang) as upstream,
        serving("--to", upstream.url, "--port", "0") as gateway,
        Client(gateway.port) as client,
    ):
        client.start()
        upstream.wait_requests()
        gateway.signal(signal.SIGTERM)
        gateway.wait_line("SIGTERM")
        gateway.signal(second)
        assert gateway.wait() == 128 + second
    assert untimed(gateway.lines[-1]) == "asgi-relay: ended at once"


def test_a_log_that_nobody_reads_holds_no_end_up(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = tmp_path / "gateway.yaml"
    try:
        with Upstream(scripts.ok) as upstream, os.fdopen(writer, "w") as out:
            file.write_text(f"access_log: {{}}\nroutes: [{{targets: '{upstream.url}'}}]")
            with (
                serving("-c", file, "--port", "0", stdout=out) as gateway,
                Client(gateway.port) as client,
            ):
                # More than a pipe holds.
                for _ in range(20):
                    assert client.request(target="/" + "a" * 10_000).status == 200
                gateway.signal(signal.SIGHUP)
                gateway.wait_line("reloaded")
                gateway.signal(signal.SIGTERM)
                assert gateway.wait() == 0
    finally:
        os.close(reader)


def test_the_access_log_is_opened_again_when_it_was_moved(tmp_path: Path) -> None:
    log, file = tmp_path / "access.log", tmp_path / "gateway.yaml"
    with Upstream(scripts.ok) as upstream:
        file.write_text(f"access_log: {{path: {log}}}\nroutes: [{{targets: '{upstream.url}'}}]")
        with (
            serving("-c", file, "--port", "0") as gateway,
            Client(gateway.port) as client,
        ):
            client.request(target="/before")
            log.rename(tmp_path / "access.log.1")
            client.request(target="/between")
            gateway.signal(signal.SIGUSR1)
            line = gateway.wait_line("opened")
            assert untimed(line) == "asgi-relay: access log opened again (SIGUSR1)"
            client.request(target="/after")
            # Where it cannot be opened it stays.
            log.rename(tmp_path / "access.log.2")
            log.mkdir()
            gateway.signal(signal.SIGUSR1)
            gateway.wait_line("access log not opened again (SIGUSR1): ")
            client.request(target="/late")
            gateway.signal(signal.SIGTERM)
            assert gateway.wait() == 0
    old, new = (
        [line.split()[6] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("access.log.1", "access.log.2")
    )
    assert old + new == ["/before", "/between", "/after", "/late"]
    # A line is written when its request is over, which the client may know sooner.
    assert len(old) in {1, 2}


def test_the_access_log_is_opened_again_while_it_ends(tmp_path: Path) -> None:
    log, file, gate = tmp_path / "access.log", tmp_path / "gateway.yaml", Gate()
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:
        file.write_text(f"access_log: {{path: {log}}}\nroutes: [{{targets: '{upstream.url}'}}]")
        with serving("-c", file, "--port", "0") as gateway, Client(gateway.port) as client:
            client.start(target="/late")
            upstream.wait_requests()
            gateway.signal(signal.SIGTERM)
            gateway.wait_line("SIGTERM")
            log.rename(tmp_path / "access.log.1")
            gateway.signal(signal.SIGUSR1)
            gateway.wait_line("access log opened again (SIGUSR1)")
            gate.open()
            assert client.read().status == 200
            assert gateway.wait() == 0
    assert log.read_text().split()[6] == "/late"


@pytest.mark.parametrize("again", [signal.SIGUSR1, signal.SIGHUP])
def test_a_log_that_is_a_pipe_cuts_no_line_when_it_is_opened_again(
    again: signal.Signals, tmp_path: Path
) -> None:
    log, file = tmp_path / "access.log", tmp_path / "gateway.yaml"
    os.mkfifo(log)
    # As long as it is held open here, nothing in it is lost.
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    with Upstream(scripts.ok) as upstream, os.fdopen(reader, "rb", buffering=0) as pipe:
        where = f"access_log: {{path: {log}}}\nadmin: {{port: 0}}"
        file.write_text(f"{where}\nroutes: [{{targets: '{upstream.url}'}}]")
        with serving("-c", file, "--port", "0") as gateway, Client(gateway.port) as client:

            def given_up() -> bool:
                page = fetch(gateway.admin_port, "/metrics").body
                return b"\nasgi_relay_log_lines_dropped_total 0\n" not in page

            # More than a pipe holds, so that one of them is torn.
            for _ in range(20):
                assert client.request(target="/" + "a" * 10_000).status == 200
            wait_until(given_up, "lines that are dropped")
            gateway.signal(again)
            gateway.wait_line("opened again" if again == signal.SIGUSR1 else "reloaded")
            printed = b""
            number = 0
            while b"/last" not in printed or not printed.endswith(b"\n"):
                assert client.request(target=f"/last{number}").status == 200
                number += 1
                printed += pipe.read(2**20) or b""
            gateway.signal(signal.SIGTERM)
            assert gateway.wait() == 0
    paths = [line.split()[6] for line in printed.decode().splitlines()]
    long = [path for path in paths if not path.startswith("/last")]
    assert len(long) >= 2
    assert set(long) == {"/" + "a" * 10_000}


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (signal.SIGHUP, "reloaded (SIGHUP)"),
        (signal.SIGUSR1, "there is no access log to open again"),
    ],
)
def test_an_order_waits_until_it_has_started(
    order: signal.Signals, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    os.mkfifo(file)
    text = "server: {port: 0}\nroutes: [{targets: 'http://127.0.0.1:1'}]"
    with starting("serve", "-c", file) as gateway:
        # It is opened when the configuration is read, and read until it is closed.
        with file.open("w") as pipe:
            gateway.signal(order)
            pipe.write(text)
        gateway.wait_line("ready", START)
        if order == signal.SIGHUP:
            file.write_text(text)
        gateway.wait_line(told)
        assert gateway.end() == 0


@pytest.mark.parametrize("command", ["serve", "check"])
def test_ctrl_c_ends_it_while_it_reads_its_file(command: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    os.mkfifo(file)
    # The pipe opens when it is being read, and is not written to.
    with starting(command, "-c", file) as gateway, file.open("w"):
        gateway.signal(signal.SIGINT)
        assert gateway.wait() == 128 + signal.SIGINT
    assert gateway.lines == []


def test_ctrl_c_ends_a_check_that_waits_for_a_target(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with Upstream(scripts.hang) as upstream:
        # It waits for a handshake, for longer than its end is waited for here.
        url = upstream.url.replace("http", "https")
        file.write_text(f"routes: [{{targets: '{url}', timeout: {{connect: 60}}}}]")
        with starting("check", "-c", file) as gateway:
            upstream.wait_connections(1, START)
            gateway.signal(signal.SIGINT)
            assert gateway.wait() == 128 + signal.SIGINT
    assert gateway.lines == []


def test_without_an_access_log_there_is_none_to_open() -> None:
    with serving("--to", "http://127.0.0.1:1", "--port", "0") as gateway:
        gateway.signal(signal.SIGUSR1)
        gateway.wait_line("there is no access log to open again (SIGUSR1)")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0


def test_it_ends_with_its_terminal() -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "asgi_relay", "serve", "--to", "http://127.0.0.1:1"]
    with subprocess.Popen([*command, "--port", "0"], cwd=ROOT, stderr=end) as popen:
        os.close(end)
        try:
            printed = b""
            while b"ready" not in printed:
                printed += os.read(terminal, 4096)
            # As long as it is there, the signal means a reload.
            popen.send_signal(signal.SIGHUP)
            while b"reloaded (SIGHUP)" not in printed:
                printed += os.read(terminal, 4096)
            os.close(terminal)
            popen.send_signal(signal.SIGHUP)
            assert popen.wait(PATIENCE) == 0
        finally:
            popen.kill()
