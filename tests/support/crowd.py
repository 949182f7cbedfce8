"""A crowd of clients that leave at random, and an upstream that serves what they ask for.

Both are on one loop, with a seed: what happens is the same each time, up to the kernel's timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass, field

from . import wire

PIECE = b"x" * 16384
PIECES = 20
UPLOAD = 10 * len(PIECE)


@dataclass
class Tally:
    """What happened."""

    requests: int = 0
    answered: int = 0
    left: int = 0
    uploads_sent: set[bytes] = field(default_factory=set)
    """Names of the uploads that a client sent whole."""
    uploads_taken: set[bytes] = field(default_factory=set)
    """Names of those that looked whole to the upstream."""
    failures: list[str] = field(default_factory=list)


class Crowd:
    """`await crowd.run(port, 5000)` sends so many requests to a relay to `crowd.port`."""

    def __init__(self, seed: int, clients: int = 64) -> None:
        self.tally = Tally()
        self.connections = 0
        """Those that the upstream has open."""
        self._random = random.Random(seed)
        self._clients = clients

    async def __aenter__(self) -> Crowd:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def run(self, port: int, requests: int) -> None:
        plans = iter([self._random.random() for _ in range(requests)])

        async def client() -> None:
            for plan in plans:
                self.tally.requests += 1
                await self._request(port, random.Random(plan))

        await asyncio.gather(*(client() for _ in range(self._clients)))

    # -- the upstream ------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, headers = wire.parse_head(head)
                await self._answer(first.split(b" ")[1], headers, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self,
        target: bytes,
        headers: wire.Headers,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        kind, _, name = target[1:].partition(b"/")
        if kind == b"upload":
            await _read_upload(headers, reader)
            self.tally.uploads_taken.add(name)
        if kind == b"silence":
            await reader.read(1)  # until the client leaves
            raise ConnectionError
        if kind == b"large":
            writer.write(wire.status_head(200, [("Content-Length", str(PIECES * len(PIECE)))]))
            for _ in range(PIECES):
                writer.write(PIECE)
                await writer.drain()
        elif kind == b"stream":
            writer.write(wire.status_head(200, [("Transfer-Encoding", "chunked")]))
            for _ in range(200):
                writer.write(wire.chunk(b"event"))
                await writer.drain()
                await asyncio.sleep(0.005)
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(wire.status_head(200, [("Content-Length", "2")]) + b"ok")
        await writer.drain()

    # -- the clients -------------------------------------------------------------------------

    async def _request(self, port: int, chance: random.Random) -> None:
        kind = chance.choice(["small", "small", "large", "stream", "silence", "upload", "chunked"])
        # Half of the clients stay to the end, where there is one.
        patience = chance.choice([None, chance.uniform(0, 0.03)])
        if kind in {"silence", "stream"}:
            patience = patience or chance.uniform(0, 0.03)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        name = f"{self.tally.requests}".encode()
        try:
            await asyncio.wait_for(self._exchange(kind, name, reader, writer), patience)
            self.tally.answered += 1
        except asyncio.TimeoutError:
            self.tally.left += 1
        except (ConnectionError, asyncio.IncompleteReadError, wire.MalformedError) as error:
            self.tally.failures.append(f"{kind}: {error!r}")
        finally:
            _leave(writer, reset=chance.random() < 0.5)

    async def _exchange(
        self,
        kind: str,
        name: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if kind in {"upload", "chunked"}:
            await self._upload(kind, name, writer)
        else:
            writer.write(wire.head(f"GET /{kind} HTTP/1.1", [("Host", "crowd.test")]))
        first, headers = wire.parse_head(await reader.readuntil(b"\r\n\r\n"))
        if b" 200 " not in first:
            raise wire.MalformedError(first.decode())
        length = wire.content_length(headers)
        if length is not None:
            await reader.readexactly(length)
        else:
            await reader.readuntil(b"0\r\n\r\n")

    async def _upload(self, kind: str, name: bytes, writer: asyncio.StreamWriter) -> None:
        chunked = kind == "chunked"
        framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(UPLOAD))
        first = b"PUT /upload/%s HTTP/1.1" % name
        writer.write(wire.head(first, [("Host", "crowd.test"), framing]))
        for number in range(UPLOAD // len(PIECE)):
            await asyncio.sleep(0)
            if number == UPLOAD // len(PIECE) - 1:
                # From here on it may be whole, whether or not the client stays.
                self.tally.uploads_sent.add(name)
            writer.write(wire.chunk(PIECE) if chunked else PIECE)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")


def _leave(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        sock = writer.get_extra_info("socket")
        # Whom a busy machine lets leave late the other side may have left.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
    else:
        writer.close()


async def _read_upload(headers: wire.Headers, reader: asyncio.StreamReader) -> None:
    length = wire.content_length(headers)
    if length is not None:
        await reader.readexactly(length)
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)
