"""The load: wrk for requests, echoes.py for messages, handshakes.py for TLS connections.

And here what is opened and left idle.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.payloads import (
    ECHO_MESSAGE,
    ECHO_PATH,
    EVENTS_PATH,
    FIRST_EVENT,
    HELD_PATH,
    IDLE_PATH,
    SMALL_BODY,
    SUBPROTOCOL,
    UPLOAD_SIZE,
)
from benchmarks.processes import HOST, ROOT, Server
from benchmarks.scenarios import Scenario
from benchmarks.tools import Tools

SCRIPT = Path(__file__).with_name("wrk") / "report.lua"
OPENED_AT_ONCE = 50
HANDSHAKE = (
    f"GET {HELD_PATH} HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: YmVuY2htYXJrIGlkbGluZw==\r\n"
    f"sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
)
# A text frame each; a client must mask, and a mask of zeros is one.
SENT_FRAME = bytes([0x81, 0x80 | len(ECHO_MESSAGE), 0, 0, 0, 0]) + ECHO_MESSAGE
ECHOED_FRAME = bytes([0x81, len(ECHO_MESSAGE)]) + ECHO_MESSAGE


class LoadError(Exception):
    """The load gave no figures, or a stream or WebSocket did not open."""


@dataclass(frozen=True)
class Load:
    count: int
    """Requests that were answered, or messages that came back."""
    seconds: float
    bytes: int
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    """How many, by kind. Of requests: connect, read, write, timeout, and status (400 and above).
    Of WebSockets: connect, closed, and wrong (an echo that was not what was sent). Of TLS
    connections: connect, read (with the handshake), and wrong (an answer).
    """


def play(tools: Tools, scenario: Scenario, server: Server, seconds: float) -> Load:
    port = server.port_for(tls=scenario.tls)
    if scenario.is_websocket:
        return play_echoes(scenario, port, seconds)
    if scenario.new_connections:
        return _run("benchmarks.handshakes", scenario, port, seconds)
    url = f"{'https' if scenario.tls else 'http'}://{HOST}:{port}{scenario.path}"
    return _run_wrk(tools["wrk"], url, scenario.connections, seconds, post=scenario.is_upload)


def _run_wrk(wrk: str, url: str, connections: int, seconds: float, *, post: bool) -> Load:
    # One thread is enough: wrk alone takes some 100,000 small requests per second on a core.
    argv = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s", "-s", str(SCRIPT)]
    argv += [url, "--", *(["POST", str(UPLOAD_SIZE)] if post else ["GET"])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    _, marker, report = done.stdout.partition("\nBENCH ")
    if not marker:
        raise LoadError(f"wrk gave no figures: {(done.stderr or done.stdout).strip()}")
    figures = json.loads(report)
    return Load(
        count=figures["requests"],
        seconds=figures["microseconds"] / 1e6,
        bytes=figures["bytes"],
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        errors={kind: count for kind, count in figures["errors"].items() if count},
    )


def play_echoes(scenario: Scenario, port: int, seconds: float) -> Load:
    return _run("benchmarks.echoes", scenario, port, seconds)


def _run(module: str, scenario: Scenario, port: int, seconds: float) -> Load:
    argv = [sys.executable, "-m", module, str(port), scenario.path]
    argv += [str(scenario.connections), str(seconds)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"{module} gave no figures: {done.stderr.strip()}")
    figures = json.loads(done.stdout)
    errors = {kind: count for kind, count in figures.pop("errors").items() if count}
    return Load(errors=errors, **figures)


@asynccontextmanager
async def hold(scenario: Scenario, port: int, count: int) -> AsyncIterator[None]:
    """Holds so many streams, WebSockets or connections open; each has got its first answer."""
    writers: list[asyncio.StreamWriter] = []
    start = STARTS[scenario.path]
    slots = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open_one() -> None:
        async with slots:
            reader, writer = await asyncio.open_connection(HOST, port)
            writers.append(writer)
            await start(reader, writer)

    opening = asyncio.gather(*(open_one() for _ in range(count)))
    try:
        try:
            await asyncio.wait_for(opening, 60)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            raise LoadError(f"{len(writers)} of {count} opened: {error!r}") from error
        yield
    finally:
        for writer in writers:
            writer.close()


async def _start_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"GET %s HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n"
        % EVENTS_PATH.encode()
    )
    got = await reader.readuntil(FIRST_EVENT)
    if not got.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"instead of an event stream: {got.splitlines()[0]!r}")


async def _start_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HANDSHAKE.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise LoadError(f"instead of a WebSocket: {head.splitlines()[0]!r}")
    if f"sec-websocket-protocol: {SUBPROTOCOL}\r\n".encode() not in head.lower():
        raise LoadError("the subprotocol was not passed on")
    writer.write(SENT_FRAME)
    if (got := await reader.readexactly(len(ECHOED_FRAME))) != ECHOED_FRAME:
        raise LoadError(f"instead of the echo: {got!r}")


async def _start_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET %s HTTP/1.1\r\nhost: bench\r\n\r\n" % IDLE_PATH.encode())
    got = await reader.readuntil(SMALL_BODY)
    if not got.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"instead of an answer: {got.splitlines()[0]!r}")


STARTS = {
    EVENTS_PATH: _start_stream,
    HELD_PATH: _start_websocket,
    ECHO_PATH: _start_websocket,
    IDLE_PATH: _start_connection,
}
