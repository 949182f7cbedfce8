"""A gateway whose process was not run for a while: what has come meanwhile came in time."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .support import scripts
from .support.client import Client
from .support.exchange import Gate
from .support.frames import PING
from .support.gateway import Gateway, configured
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 2.0
"""Seconds that an upstream has."""


@contextmanager
def standing_still(gateway: Gateway) -> Iterator[None]:
    """What is done within is over when it goes on, and so is the time."""
    gateway.signal(signal.SIGSTOP)
    # Its threads go on for some milliseconds.
    os.waitid(os.P_PID, gateway.popen.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
        time.sleep(LIMIT + 0.5)
    finally:
        gateway.signal(signal.SIGCONT)


def test_a_pong(tmp_path: Path) -> None:
    accept = Accept()
    with Upstream(accept) as upstream:
        route = {"targets": upstream.url, "ws_ping_interval": 0.5, "ws_ping_timeout": LIMIT}
        with configured(tmp_path, [route]) as gateway, WebSocketClient(gateway.port) as client:
            client.open("/")
            peer = accept.peer()
            ping = peer.receive()
            assert ping.opcode == PING
            with standing_still(gateway):
                peer.pong(ping.payload)
                peer.send_text("still there?")
            assert client.receive_message() == "still there?"
            # Where it had given the upstream up, this would be a close.
            client.send_text("yes")
            assert peer.receive_message() == "yes"


def test_an_answer_and_what_follows(tmp_path: Path) -> None:
    gate = Gate()
    with Upstream(scripts.gated(gate, scripts.drip(gate, [b"begun ", b"ended"]))) as upstream:
        route = {"targets": upstream.url, "timeout": {"read": LIMIT}}
        with configured(tmp_path, [route]) as gateway, Client(gateway.port) as client:
            client.start()
            upstream.wait_requests()
            with standing_still(gateway):
                # For the head and the first piece.
                gate.open(2)
            pieces = client.pieces(client.read_head())
            assert next(pieces).data == b"begun "
            with standing_still(gateway):
                gate.open()
            assert next(pieces).data == b"ended"
