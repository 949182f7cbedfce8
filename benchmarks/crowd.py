"""What a crowd of idle clients costs the gateway: `python -m benchmarks.crowd`.

Opens kept HTTP/1.1 connections, one request on each, and WebSockets, one echo on each, and prints
what `asgi-relay serve` holds for them in memory of its own, as JSON: for connections right after
the last request, when those that came first may have been parked already, and once all of them are.
Upstream and clients are in this process, which needs as many descriptors as the clients and two for
each WebSocket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.probe import own_kib, settled_kib

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ASK = b"GET / HTTP/1.1\r\nHost: crowd.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: crowd.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % KEY
)
SHAKEN = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HELLO = b"\x81\x85\0\0\0\0hello"
"""A text frame with a mask of zeros, so that the echo has the same payload."""
ECHO = b"\x81\x05hello"

AT_ONCE = 100
"""Connections that are being opened at a time."""

WARM_UP = 20
"""Connections that come and go before memory is looked at."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The upstream: answers requests, and echoes one message of each WebSocket."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"GET /ws"):
                writer.write(ANSWER)
                continue
            writer.write(SHAKEN)
            await reader.readexactly(len(HELLO))
            writer.write(ECHO)
            await reader.read(1)
            break
    writer.close()


async def keep(port: int) -> Stream:
    """A connection with a request behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"an answer that is none: {answer!r}")
    return reader, writer


async def chat(port: int) -> Stream:
    """A WebSocket with an echo behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(SHAKE)
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"no WebSocket: {answer!r}")
    writer.write(HELLO)
    if await reader.readexactly(len(ECHO)) != ECHO:
        raise RuntimeError("an echo that is none")
    return reader, writer


async def gather(count: int, make: Callable[[int], Awaitable[Stream]], port: int) -> list[Stream]:
    """So many connections, some at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> Stream:
        async with room:
            return await make(port)

    return await asyncio.gather(*(one() for _ in range(count)))


async def part(streams: list[Stream]) -> None:
    """Close them."""
    for _, writer in streams:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in streams))


@contextlib.asynccontextmanager
async def gateway(upstream: int, workers: int) -> AsyncIterator[tuple[int, int]]:
    """`asgi-relay serve` before the upstream: its process and its port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.yaml"
        route = {
            "targets": f"http://127.0.0.1:{upstream}",
            "limits": {"max_connections": None},
        }
        server = {"port": 0, "workers": workers, "limits": {"keepalive_timeout": None}}
        file.write_text(json.dumps({"server": server, "routes": [route]}))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asgi_relay", "serve", "-c", file, stderr=asyncio.subprocess.PIPE
        )
        try:
            port = 0
            while not (line := (await said(process)).strip()).startswith("ready"):
                if line.startswith("listening"):
                    port = int(line.rpartition(":")[2])
            yield process.pid, port
        finally:
            process.kill()
            await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    """The next line of what it says."""
    if process.stderr is None or not (line := await process.stderr.readline()):
        raise RuntimeError("the gateway did not start")
    return line.decode()


async def measure(connections: int, websockets: int, workers: int) -> dict[str, float]:
    """Open them all, and see what they take."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    async with gateway(server.sockets[0].getsockname()[1], workers) as (pid, port):
        for make in (keep, chat):
            await part(await gather(WARM_UP, make, port))
        start = await settled_kib([pid])
        began = time.monotonic()
        kept = await gather(connections, keep, port)
        at_first = own_kib([pid])
        held = await settled_kib([pid])
        chats = await gather(websockets, chat, port)
        chatting = own_kib([pid])
        took = time.monotonic() - began
        # All of them are still of use.
        for reader, writer in kept[:: max(1, connections // 100)]:
            writer.write(ASK)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
        await part(kept + chats)
    server.close()
    return {
        "connections": connections,
        "websockets": websockets,
        "seconds": round(took, 2),
        "start_mib": round(start / 1024, 1),
        "end_mib": round(chatting / 1024, 1),
        "kib_per_connection_at_first": round((at_first - start) / max(1, connections), 2),
        "kib_per_connection": round((held - start) / max(1, connections), 2),
        "kib_per_websocket": round((chatting - held) / max(1, websockets), 2),
    }


def main() -> None:
    """Raise the bound on descriptors, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--websockets", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < (needed := arguments.connections + 2 * arguments.websockets + 100):
        sys.exit(f"{needed} descriptors are needed, and {most} allowed (ulimit -n)")
    print(json.dumps(asyncio.run(measure(**vars(arguments)))))


if __name__ == "__main__":
    main()
