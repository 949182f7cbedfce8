"""A gigabyte each way through a relay in a process of its own, whose memory stays flat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support.bulk import Bulk
from .support.client import Client
from .support.kernel import forget_peak, memory
from .support.processes import run_process
from .support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from .support.exchange import Exchange

MIB = 1024 * 1024
GIGABYTE = 1024 * MIB
FLAT = 16 * MIB
"""What an allocator may keep for itself; a hundredth of what passes would be more."""


class Transfers:
    """The upstream's script and the client's part of one transfer after another."""

    def __init__(self) -> None:
        self._bulk = Bulk(0)

    def __call__(self, exchange: Exchange) -> None:
        if exchange.request.method == b"GET":
            exchange.start(length=self._bulk.size)
            self._bulk.send(exchange.connection)
        else:
            self._bulk.receive(exchange.connection)
            # The rest of the upstream does not know that the body was read, and closes.
            exchange.respond(headers=[("Connection", "close")])

    def download(self, port: int, size: int) -> None:
        self._bulk = Bulk(size)
        with Client(port) as client:
            client.start("GET", "/")
            assert client.read_head().status == 200
            self._bulk.receive(client)

    def upload(self, port: int, size: int) -> None:
        self._bulk = Bulk(size)
        with Client(port) as client:
            client.start("PUT", "/", length=size)
            self._bulk.send(client)
            assert client.read().status == 200
        assert self._bulk.received == size


def test_a_gigabyte_each_way_leaves_memory_flat(tmp_path: Path) -> None:
    transfers = Transfers()
    arguments = ["-m", "uvicorn", "tests.support.relay_app:app", "--port", "{port}"]
    with (
        Upstream(transfers) as upstream,
        run_process(arguments, tmp_path / "log", {"RELAY_TARGET": upstream.url}) as process,
    ):
        pid = process.popen.pid
        for transfer in (transfers.download, transfers.upload):
            transfer(process.port, 64 * MIB)
            before = memory(pid)
            forget_peak(pid)
            transfer(process.port, GIGABYTE)
            assert memory(pid, "VmHWM") - before < FLAT
