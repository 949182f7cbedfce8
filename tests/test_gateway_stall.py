"""A gateway whose process was not run for a while, as on a machine that swaps or is moved."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from .support.frames import PING
from .support.gateway import configured
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 2.0
"""Seconds that an upstream has for its pong."""


def test_a_pong_that_came_meanwhile_is_in_time(tmp_path: Path) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        route = {"targets": upstream.url, "ws_ping_interval": 0.5, "ws_ping_timeout": PATIENCE}
        with configured(tmp_path, [route]) as gateway, WebSocketClient(gateway.port) as client:
            client.open("/")
            peer = accept.peer()
            ping = peer.receive()
            assert ping.opcode == PING
            gateway.signal(signal.SIGSTOP)
            peer.pong(ping.payload)
            peer.send_text("still there?")
            time.sleep(PATIENCE + 0.5)
            gateway.signal(signal.SIGCONT)
            assert client.receive_message() == "still there?"
            # Where it had given the upstream up, this would be a close.
            client.send_text("yes")
            assert peer.receive_message() == "yes"
