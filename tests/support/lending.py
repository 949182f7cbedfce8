"""Sockets of upstreams that the event loop's thread reads, after many small messages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from asgi_relay._loop import _ports

from .waiting import PATIENCE

if TYPE_CHECKING:
    from .websocket import WebSocketPeer


def lent() -> int:
    """How many sockets the event loops of this process read by themselves."""
    infos = [Path(f"/proc/self/fdinfo/{port.engine.lookout_fileno()}") for port in _ports.values()]
    return sum(info.read_text().count("tfd:") for info in infos)


class Lending:
    """Whether WebSockets that a test opens are lent before it has them."""

    wanted = False

    def lend(self, client: WebSocketPeer, peer: WebSocketPeer | None) -> None:
        """Exchange small messages until it is, if it is wanted; without `peer`, the upstream sends
        them back.
        """
        if not self.wanted:
            return
        others = lent()
        # It takes some messages within a second, so on a slow machine more of them.
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if peer is not None:
                peer.send_text("calm")
            else:
                client.send_text("calm")
            assert client.receive_message() == "calm"
            if lent() > others:
                return
        raise AssertionError("the event loop does not read by itself")


lending = Lending()
