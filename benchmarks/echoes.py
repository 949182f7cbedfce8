"""The load on WebSockets, in a process of its own: each sends, waits for the echo, sends again.

picows on both ends, so that neither is what is measured. Each echo is compared with what was sent.
Called as ``python -m benchmarks.echoes PORT PATH CONNECTIONS SECONDS``; prints a line of JSON.
"""

import asyncio
import json
import sys
import time

import uvloop
from picows import (  # type: ignore[import-not-found, unused-ignore]
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from benchmarks.payloads import BULK_PATH, ECHO_MESSAGE, SUBPROTOCOL, bulk_message
from benchmarks.processes import HOST

FAREWELL_SECONDS = 1.0


class Run:
    """What all connections have in common: what they send, and what came of it."""

    def __init__(self, path: str) -> None:
        self.kind = WSMsgType.BINARY if path == BULK_PATH else WSMsgType.TEXT
        self.message = bulk_message() if path == BULK_PATH else ECHO_MESSAGE
        self.took: list[int] = []
        """Nanoseconds, one for each echo."""
        self.errors = {"connect": 0, "closed": 0, "wrong": 0}
        self.stopped = False


class Client(WSListener):  # type: ignore[misc, unused-ignore]
    def __init__(self, run: Run) -> None:
        self.run = run
        self.parts: list[bytes] = []
        self.sent = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, _: WSTransport) -> None:
        self.run.errors["closed"] += not self.run.stopped

    def send(self) -> None:
        self.sent = time.perf_counter_ns()
        self.transport.send(self.run.kind, self.run.message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        run = self.run
        if run.stopped or frame.msg_type in (WSMsgType.PING, WSMsgType.PONG):
            return
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if not frame.fin or self.parts:
            self.parts.append(frame.get_payload_as_bytes())
            if not frame.fin:
                return
            right = b"".join(self.parts) == run.message
            self.parts.clear()
        else:
            right = frame.get_payload_as_bytes() == run.message
        run.took.append(time.perf_counter_ns() - self.sent)
        if not right:
            run.errors["wrong"] += 1
        self.send()


async def connect(run: Run, url: str) -> Client:
    client = Client(run)
    offer = {"Sec-WebSocket-Protocol": SUBPROTOCOL}
    await ws_connect(lambda: client, url, extra_headers=offer)
    return client


async def play(port: int, path: str, connections: int, seconds: float) -> dict[str, object]:
    run = Run(path)
    clients: list[Client] = []
    for _ in range(connections):
        try:
            clients.append(await connect(run, f"ws://{HOST}:{port}{path}"))
        except (WSError, OSError, asyncio.TimeoutError):
            run.errors["connect"] += 1
    began = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.sleep(seconds)
    run.stopped, passed = True, time.perf_counter() - began
    took = sorted(run.took)
    for client in clients:
        if not client.transport.is_disconnected:
            client.transport.send_close()
    leaving = [asyncio.ensure_future(client.transport.wait_disconnected()) for client in clients]
    if leaving:
        await asyncio.wait(leaving, timeout=FAREWELL_SECONDS)
    return {
        "count": len(took),
        "seconds": passed,
        "bytes": len(took) * len(run.message),
        "p50_ms": took[len(took) // 2] / 1e6 if took else 0,
        "p99_ms": took[len(took) * 99 // 100] / 1e6 if took else 0,
        "errors": run.errors,
    }


if __name__ == "__main__":
    _, port, path, connections, seconds = sys.argv
    print(json.dumps(uvloop.run(play(int(port), path, int(connections), float(seconds)))))
