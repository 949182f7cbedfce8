"""`asgi-relay serve` given another configuration: all of it or nothing, and no request is lost."""

from __future__ import annotations

import os
import signal
import ssl
from typing import TYPE_CHECKING

from .support import scripts
from .support.askers import CLIENTS, Askers
from .support.client import Client, fetch
from .support.exchange import Gate
from .support.gateway import serving, untimed
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from pathlib import Path

    from .support.authority import Authority
    from .support.gateway import Gateway


def write(file: Path, url: str, more: str = "") -> Path:
    """Everything to one upstream; in one step, as a program should that is being watched."""
    new = file.with_suffix(".new")
    new.write_text(f"routes: [{{targets: '{url}'}}]\n{more}")
    os.replace(new, file)
    return file


def say(text: bytes) -> Upstream:
    return Upstream(scripts.answer(body=text))


def reloaded(gateway: Gateway, why: str = "SIGHUP") -> str:
    gateway.signal(signal.SIGHUP)
    return gateway.wait_line(f"reloaded ({why})")


def test_a_reload_under_load_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with say(b"old") as old, say(b"new") as new:
        write(file, old.url)
        with serving("-c", file, "--port", "0") as gateway, Askers(gateway.port) as askers:
            askers.wait_answers(10 * CLIENTS, b"old")
            write(file, new.url)
            assert untimed(reloaded(gateway)) == (
                f"asgi-relay: reloaded (SIGHUP): 1 route, listening on 127.0.0.1:{gateway.port}"
            )
            gateway.wait_line(f"/      {new.url}/")
            # On the connections that they have had all the time.
            askers.wait_answers(10 * CLIENTS, b"new")
        assert (askers.lost, askers.statuses) == ([], {200})


def test_what_has_begun_goes_on_as_it_began(tmp_path: Path) -> None:
    file, gate = tmp_path / "gateway.yaml", Gate()
    slow, websocket = scripts.gated(gate, scripts.answer(body=b"old")), Accept()
    with (
        Upstream(scripts.by_path({b"/": slow, b"/ws": websocket})) as old,
        say(b"new") as new,
        serving("-c", write(file, old.url), "--port", "0") as gateway,
        Client(gateway.port) as client,
        WebSocketClient(gateway.port) as open_one,
    ):
        open_one.open("/ws")
        client.start()
        old.wait_requests(2)
        write(file, new.url)
        reloaded(gateway)
        assert fetch(gateway.port).body == b"new"
        gate.open()
        assert client.read().body == b"old"
        assert client.request().body == b"new"
        open_one.send_text("still here?")
        assert websocket.peer().receive_message() == "still here?"
        websocket.peer().send_text("still here")
        assert open_one.receive_message() == "still here"


def test_a_bad_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with (
        say(b"old") as old,
        say(b"new") as new,
        serving("-c", write(file, old.url), "--port", "0") as gateway,
    ):
        write(file, new.url, "server: {prt: 80}\n")
        gateway.signal(signal.SIGHUP)
        gateway.wait_line("asgi-relay: not reloaded (SIGHUP), nothing has changed:")
        assert f"  {file}:2:10: server.prt: " in gateway.wait_line("server.prt")
        assert fetch(gateway.port).body == b"old"
        write(file, new.url)
        reloaded(gateway)
        assert fetch(gateway.port).body == b"new"


def test_an_address_in_use_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with (
        say(b"old") as old,
        say(b"new") as new,
        serving("-c", write(file, old.url, "server: {port: 0}\n")) as gateway,
    ):
        write(file, new.url, f"server: {{port: {old.port}}}\n")
        gateway.signal(signal.SIGHUP)
        gateway.wait_line("not reloaded (SIGHUP)")
        gateway.wait_line(f"cannot listen on 127.0.0.1:{old.port}: ")
        assert fetch(gateway.port).body == b"old"


def test_a_change_of_the_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    with (
        say(b"old") as old,
        say(b"new") as new,
        serving("-c", write(file, old.url), "--port", "0") as gateway,
    ):
        assert fetch(gateway.port).body == b"old"
        write(file, new.url)
        gateway.wait_line("asgi-relay: reloaded (a file has changed): 1 route")
        assert fetch(gateway.port).body == b"new"
        file.unlink()
        gateway.wait_line("not reloaded (a file has changed), nothing has changed:")
        gateway.wait_line("cannot be read")
        assert fetch(gateway.port).body == b"new"


def test_a_change_of_a_certificate_is_noticed(tmp_path: Path, authority: Authority) -> None:
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(name: str) -> None:
        issued = authority.certificate(name)
        chain.write_bytes(issued.chain.read_bytes())
        key.write_bytes(issued.key.read_bytes())

    def shown(gateway: Gateway) -> str:
        tls = authority.client()
        tls.check_hostname = False
        with Client(gateway.port, tls=tls) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            certificate = client.sock.getpeercert()
            assert certificate is not None
            return str(certificate["subjectAltName"])

    put("old.test")
    arguments = ("--to", "http://127.0.0.1:1", "--port", "0", "--cert", chain, "--key", key)
    with serving(*arguments) as gateway:
        assert "old.test" in shown(gateway)
        put("new.test")
        gateway.wait_line("asgi-relay: reloaded (a file has changed)")
        assert "new.test" in shown(gateway)


def test_what_becomes_of_a_file_later_changes_no_connection(
    tmp_path: Path, authority: Authority
) -> None:
    """Not those of WebSockets either, for which there was none before."""
    own = tmp_path / "authority.pem"
    own.write_bytes(authority.pem.read_bytes())
    with Upstream(Accept(echo), tls=authority.server()) as upstream:
        file = write(tmp_path / "gateway.yaml", upstream.url)
        file.write_text(file.read_text().replace("}]", ", tls: {ca_file: authority.pem}}]"))
        with serving("-c", file, "--port", "0") as gateway:
            own.write_text("half written")
            gateway.wait_line("not reloaded (a file has changed), nothing has changed:")
            gateway.wait_line("routes[0].tls.ca_file: ")
            with WebSocketClient(gateway.port) as client:
                client.open()
                client.send_text("as ever")
                assert client.receive_message() == "as ever"


def test_a_file_that_comes_after_the_one_that_names_it_is_noticed(
    tmp_path: Path, authority: Authority
) -> None:
    file, issued = tmp_path / "gateway.yaml", authority.certificate("localhost")
    with say(b"ok") as upstream, serving("-c", write(file, upstream.url), "--port", "0") as gateway:
        write(file, upstream.url, "ssl: {enabled: true, cert_file: c.pem, key_file: k.pem}\n")
        gateway.wait_line("not reloaded (a file has changed)")
        gateway.wait_line("ssl.key_file: ")
        (tmp_path / "c.pem").write_bytes(issued.chain.read_bytes())
        gateway.wait_line("not reloaded (a file has changed)")
        gateway.wait_line("ssl.key_file: ")
        (tmp_path / "k.pem").write_bytes(issued.key.read_bytes())
        gateway.wait_line("asgi-relay: reloaded (a file has changed)")


def test_a_change_within_a_folder_of_authorities_is_noticed(
    tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    one = folder / "one.pem"
    one.write_bytes(authority.pem.read_bytes())
    file = tmp_path / "gateway.yaml"
    file.write_text("routes: [{targets: 'https://127.0.0.1:1', tls: {ca_file: authorities}}]\n")
    with serving("-c", file, "--port", "0") as gateway:
        one.write_bytes(2 * one.read_bytes())
        gateway.wait_line("asgi-relay: reloaded (a file has changed)")
        (folder / "two.pem").write_bytes(one.read_bytes())
        gateway.wait_line("asgi-relay: reloaded (a file has changed)")


def test_a_refused_reload_leaves_no_access_log_behind(tmp_path: Path) -> None:
    file, url = tmp_path / "gateway.yaml", "http://127.0.0.1:1"
    with (
        say(b"") as busy,
        serving("-c", write(file, url, "server: {port: 0}\n")) as gateway,
    ):
        more = f"server: {{port: {busy.port}}}\naccess_log: {{path: new.log}}\n"
        write(file, url, more)
        gateway.signal(signal.SIGHUP)
        gateway.wait_line("not reloaded (SIGHUP)")
        assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]
        listeners = "server: {listeners: [{unix: a.sock}]}\n"
        write(file, url, f"{listeners}access_log: {{path: '/proc/self/no.log'}}\n")
        gateway.signal(signal.SIGHUP)
        gateway.wait_line("not reloaded (SIGHUP)")
        gateway.wait_line("access_log.path: cannot open /proc/self/no.log: ")
        assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]


def test_what_needs_a_new_start_is_said(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    url = "http://127.0.0.1:1"
    with serving("-c", write(file, url), "--port", "0") as gateway:
        write(file, url, "admin: {port: 0}\n")
        reloaded(gateway)
        gateway.wait_line("workers and admin are as they were until it is started again")
