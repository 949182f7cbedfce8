"""What clients under load see of reloads, ends and upstreams that die: nothing, or what is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .support import scripts
from .support.askers import CLIENTS, Askers
from .support.client import Client, Response, fetch
from .support.exchange import Gate
from .support.gateway import Gateway, configured, write
from .support.ports import port_of, reserve
from .support.upstream import Upstream
from .support.waiting import PATIENCE, wait_until
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.authority import Authority
    from .support.exchange import Script

ANY_FAILURE = {"max_retries": 1, "retry_exceptions": ["TransportError"], "retry_budget": None}


def say(body: bytes) -> Upstream:
    return Upstream(scripts.answer(body=body))


def reload(gateway: Gateway, file: Path, routes: list[dict[str, Any]], **sections: Any) -> str:
    """Have it go by another configuration; what it says of it."""
    write(file, routes, **sections)
    gateway.signal(signal.SIGHUP)
    return gateway.wait_line("asgi-relay: reloaded")


@contextlib.contextmanager
def newcomers(port: int) -> Iterator[list[Response | OSError | EOFError]]:
    """Clients that come with a connection for each request, until the block is left."""
    came: list[Response | OSError | EOFError] = []
    leaving = threading.Event()

    def ask() -> None:
        while not leaving.is_set():
            try:
                came.append(fetch(port))
            except (OSError, EOFError) as error:
                came.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield came
    finally:
        leaving.set()
        for thread in threads:
            thread.join(PATIENCE)


@pytest.mark.parametrize("workers", [1, 3])
def test_newcomers_lose_nothing_to_reloads(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "gateway.yaml"
    with (
        say(b"old") as old,
        say(b"new") as new,
        configured(tmp_path, [{"targets": old.url}], workers=workers) as gateway,
    ):
        with newcomers(gateway.port) as came:
            for upstream in (new, old, new):
                goal = len(came) + 20
                reload(gateway, file, [{"targets": upstream.url}])
                wait_until(lambda goal=goal: len(came) >= goal, "answers")  # type: ignore[misc]
        assert fetch(gateway.port).body == b"new"
    assert {answer.status if isinstance(answer, Response) else answer for answer in came} == {200}
    assert {answer.body for answer in came if isinstance(answer, Response)} == {b"old", b"new"}


def test_streams_of_http2_lose_nothing_to_a_change_of_the_file(
    tmp_path: Path, authority: Authority
) -> None:
    """Over TLS, on one connection, while the certificate changes with the routes."""
    file = tmp_path / "gateway.yaml"
    issued = authority.certificate("localhost")
    ssl = {"enabled": True, "cert_file": str(issued.chain), "key_file": str(issued.key)}
    server = {"host": "localhost"}

    async def run(gateway: Gateway) -> list[bytes]:
        bodies: list[bytes] = []
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            verify=authority.client(), http1=False, http2=True, trust_env=False, limits=limits
        ) as client:

            async def ask(last: bytes) -> None:
                while not bodies or bodies[-1] != last:
                    response = await client.get(f"https://localhost:{gateway.port}")
                    assert response.status_code == 200
                    bodies.append(response.content)

            for upstream, body in ((new, b"new"), (old, b"old")):
                write(file, [{"targets": upstream.url}], ssl=ssl, server=server)
                issued.chain.write_bytes(authority.certificate("localhost").chain.read_bytes())
                await asyncio.wait_for(asyncio.gather(*(ask(body) for _ in range(8))), PATIENCE)
        return bodies

    with (
        say(b"old") as old,
        say(b"new") as new,
        configured(tmp_path, [{"targets": old.url}], ssl=ssl, server=server) as gateway,
    ):
        bodies = asyncio.run(run(gateway))
    assert set(bodies) == {b"old", b"new"}


def test_websockets_and_downloads_outlive_a_reload(tmp_path: Path) -> None:
    file, gate = tmp_path / "gateway.yaml", Gate()
    table: dict[bytes, Script] = {
        b"/ws": Accept(echo),
        b"/slow": scripts.drip(gate, [b"first", b"second"]),
    }
    with Upstream(scripts.by_path(table)) as old, say(b"new") as new:
        routes = [{"targets": old.url}]
        with (
            configured(tmp_path, routes) as gateway,
            WebSocketClient(gateway.port) as chatting,
            Client(gateway.port) as loading,
        ):
            chatting.open("/ws")
            loading.start(target="/slow")
            gate.open()
            pieces = loading.pieces(loading.read_head())
            assert next(pieces).data == b"first"
            reload(gateway, file, [{"targets": new.url}])
            assert fetch(gateway.port, "/slow").body == b"new"
            chatting.send_text("still there?")
            assert chatting.receive_message() == "still there?"
            assert chatting.finish_close(3000, "done") == (3000, "done")
            gate.open()
            assert [piece.data for piece in pieces] == [b"second"]
            assert loading.request(target="/slow").body == b"new"


def test_listeners_come_and_go_with_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    # Held, so that nobody else listens there when the gateway does no longer.
    with say(b"ok") as upstream, reserve() as held:
        routes = [{"targets": upstream.url}]
        first, second = ({"host": "127.0.0.1", "port": port} for port in (0, port_of(held)))
        with configured(tmp_path, routes, server={"listeners": [first]}) as gateway:
            with Askers(gateway.port) as askers:
                told = reload(gateway, file, routes, server={"listeners": [first, second]})
                added = int(told.rpartition(":")[2])
                assert fetch(added).body == b"ok"
                with Client(added) as client:
                    assert client.request().body == b"ok"
                    reload(gateway, file, routes, server={"listeners": [first]})
                    # Who is there already is not sent away in the middle of a request.
                    with contextlib.suppress(OSError, EOFError):
                        assert client.request().body == b"ok"
                    wait_until(lambda: refused(added), "nobody to listen there")
                askers.wait_answers(CLIENTS)
            assert (askers.lost, askers.statuses) == ([], {200})


def refused(port: int) -> bool:
    try:
        Client(port).close()
    except ConnectionRefusedError:
        return True
    return False


def retries(gateway: Gateway) -> float:
    page = fetch(gateway.admin_port, "/metrics").body.decode()
    (line,) = (row for row in page.splitlines() if row.startswith("asgi_relay_retries_total{"))
    return float(line.rpartition(" ")[2])


def test_an_upstream_that_dies_costs_retries_alone(tmp_path: Path) -> None:
    with say(b"one") as one, say(b"two") as two:
        route = {"targets": [one.url, two.url], "balance": "round_robin", **ANY_FAILURE}
        with configured(tmp_path, [route], admin={"port": 0}) as gateway:
            with Askers(gateway.port) as askers:
                askers.wait_answers(10, b"one")
                askers.wait_answers(10, b"two")
                assert retries(gateway) == 0
                one.stop()
                askers.wait_answers(200)
            assert (askers.lost, askers.statuses) == ([], {200})
            assert retries(gateway) > 0


def test_an_upstream_that_dies_without_retries_is_a_502_until_it_is_left_alone(
    tmp_path: Path,
) -> None:
    with say(b"one") as one, say(b"two") as two:
        passive = {"consecutive_failures": 3}
        route = {"targets": [one.url, two.url], "balance": "round_robin", "passive_health": passive}
        with configured(tmp_path, [route], admin={"port": 0}) as gateway:
            with Askers(gateway.port) as askers:
                askers.wait_answers(10, b"one")
                one.stop()
                askers.wait_answers(200, b"two")
            assert askers.lost == []
            assert askers.statuses == {200, 502}
            assert retries(gateway) == 0
            failed = [body for body in askers.answers if body not in (b"one", b"two")]
            # Three in a row, and what was under way at the same time.
            assert 3 <= len(failed) <= 3 + 2 * CLIENTS
