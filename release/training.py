"""What the engine is put to work with while its compiler counts: `python -m release.training`.

A bit of everything that proxies have to do, mounted and as the gateway: small requests most of
all, then bodies of all sizes both ways, event streams, WebSockets, TLS, HTTP/2 and what goes
wrong. It is nobody's benchmark; how often each comes is all that the compiler learns from it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import trustme
import uvicorn

from asgi_relay import Relay
from release.services import service

SMALL = 10_000
"""Small requests of each front; all else is less."""

AT_ONCE = 12
"""Requests of one kind at a time."""

PATIENCE = 60.0
"""Seconds for a process to start or to end, however slow counting makes it."""

CHANCE = random.Random(1815)

Work = Callable[[aiohttp.ClientSession, random.Random], Awaitable[None]]


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[int]:
    """The app under uvicorn, in this process; its port.

    Where the block fails, nothing waits for what is still being answered.
    """
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, **options)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if running.done():
                await running
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await running
    finally:
        running.cancel()


@asynccontextmanager
async def gateway(upstream: int, folder: Path, authority: trustme.CA) -> AsyncIterator[list[int]]:
    """`asgi-relay serve`; its ports without TLS and with it.

    One of its routes goes through the gateway once more, over HTTP/2 in the clear. It does not
    outlive the block, whatever happens there.
    """
    issued = authority.issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    inner = folder / "inner.sock"
    target = f"http://127.0.0.1:{upstream}"
    settings = {
        "server": {
            "workers": 2,
            "listeners": [
                {"host": "localhost", "port": 0},
                {
                    "host": "localhost",
                    "port": 0,
                    "ssl": {"certificates": [{"cert_file": str(chain), "key_file": str(key)}]},
                },
                {"unix": str(inner)},
            ],
        },
        "routes": [
            {"path": "/", "targets": [target, f"http://localhost:{upstream}"]},
            {"path": "/again", "strip_prefix": True, "unix": str(inner), "http2": "always"},
        ],
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(settings))
    command = ["-m", "asgi_relay", "serve", "-c", str(file)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    if process.stderr is None:
        raise RuntimeError("no pipe")
    reading: asyncio.Task[bytes] | None = None
    try:
        ports = await ports_told(process.stderr)
        reading = asyncio.create_task(process.stderr.read())
        yield ports
        process.send_signal(signal.SIGTERM)
        if await asyncio.wait_for(process.wait(), PATIENCE):
            raise RuntimeError((await reading).decode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if reading is not None:
            reading.cancel()


async def ports_told(stderr: asyncio.StreamReader) -> list[int]:
    """What a gateway that starts tells of its TCP ports, once it is ready.

    Raises:
        RuntimeError: where it ends instead, with what it said.

    """
    lines, ports = [""], []
    while "ready" not in lines[-1]:
        lines.append((await asyncio.wait_for(stderr.readline(), PATIENCE)).decode())
        if not lines[-1]:
            raise RuntimeError("".join(lines))
        if found := re.match(r"  listening +https?://.*:(\d+)", lines[-1]):
            ports.append(int(found[1]))
    return ports


async def small(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """A page's or an API's request, as a browser or a program sends it."""
    headers = {"accept": "application/json"}
    if chance.random() < 0.5:
        headers |= {
            "accept-language": "en-GB,en;q=0.8,de;q=0.5",
            "cookie": f"session={chance.getrandbits(96):x}; theme=dark",
            "referer": "http://shop.test/",
            "user-agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
        }
    path = chance.choice(["items", f"items/{chance.randrange(9999)}?page=2&sort=name", ""])
    method = chance.choice(["GET", "GET", "GET", "GET", "HEAD", "DELETE"])
    async with session.request(method, path, headers=headers) as response:
        response.raise_for_status()
        await response.read()


async def awkward(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """What is answered with a cookie, a redirect, nothing, an error."""
    path = chance.choice(["login", "moved", "nothing", "unchanged", "missing", "broken"])
    async with session.get(path, allow_redirects=False) as response:
        await response.read()


async def upload(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """A body, of a length that is told or not."""
    size = chance.choice([20, 300, 2_000, 30_000, 200_000])
    octets = chance.randbytes(size)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, size, 8_000):
            yield octets[at : at + 8_000]

    async with session.post("count", data=chance.choice([octets, chunks()])) as response:
        if await response.json() != size:
            raise RuntimeError("an upload that is not complete")


async def download(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """A body back, in pieces of all sizes."""
    size, chunk = chance.randrange(5_000_000), chance.choice([500, 16_000, 64_000, 500_000])
    path = f"bytes/{size}/{chunk}" if chunk > 500 else f"bytes/{size // 50}/{chunk}"
    async with session.get(path) as response:
        async for _ in response.content.iter_any():
            pass


async def events(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """A stream of events, which some leave before its end."""
    patience = chance.randrange(200)
    async with session.get("events") as response:
        async for _ in response.content:
            patience -= 1
            if not patience:
                return


async def chat(session: aiohttp.ClientSession, chance: random.Random) -> None:
    """Messages there and back."""
    async with session.ws_connect("chat", protocols=["v2"]) as socket:
        for _ in range(50):
            text = "x" * chance.choice([5, 60, 60, 400, 5_000])
            await socket.send_str(text)
            await socket.receive_str()
        for size in (100, 70_000, 600_000):
            await socket.send_bytes(chance.randbytes(size))
            await socket.receive_bytes()


async def repeat(work: Callable[[], Awaitable[None]], count: int) -> None:
    """Do it so often, some at a time."""
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await work()

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def through(base: str, tls: ssl.SSLContext | None, share: float) -> None:
    """All of it through one front, `share` of what is usual of each."""
    plan: dict[Work, int] = {small: SMALL, awkward: 1000, upload: 2000, download: 60}
    plan |= {events: 40, chat: 40}
    connector = aiohttp.TCPConnector(limit=0, ssl=tls or True)
    async with aiohttp.ClientSession(base, connector=connector) as session:
        for work, count in plan.items():
            await repeat(partial(work, session, CHANCE), int(count * share))
        print(f"    {base}", flush=True)
    # New connections, of which each is used once.
    for _ in range(int(100 * share)):
        single = aiohttp.TCPConnector(force_close=True, ssl=tls or True)
        async with aiohttp.ClientSession(base, connector=single) as session:
            await small(session, CHANCE)


async def train() -> None:
    """Everything; it takes some ten seconds, and longer while it is counted."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(tls)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = await stack.enter_async_context(serving(service))
        relay = Relay(f"http://127.0.0.1:{upstream}")
        front = await stack.enter_async_context(serving(relay))
        plain, secure = await stack.enter_async_context(gateway(upstream, folder, authority))
        await through(f"http://127.0.0.1:{front}/", None, 1)
        await through(f"http://localhost:{plain}/", None, 1)
        await through(f"https://localhost:{secure}/", tls, 0.3)
        await through(f"http://localhost:{plain}/again/", None, 0.2)


if __name__ == "__main__":
    asyncio.run(train())
