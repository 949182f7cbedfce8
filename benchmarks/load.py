"""The load: wrk for requests, and our own client for streams that are opened and left idle."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.payloads import EVENTS_PATH, FIRST_EVENT, UPLOAD_SIZE
from benchmarks.processes import HOST

SCRIPT = Path(__file__).with_name("wrk") / "report.lua"
OPENED_AT_ONCE = 50


class LoadError(Exception):
    """wrk gave no figures, or a stream did not open."""


@dataclass(frozen=True)
class Load:
    requests: int
    seconds: float
    bytes: int
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    """How many, by kind: connect, read, write, timeout, and status (400 and above)."""


def run_wrk(wrk: str, url: str, connections: int, seconds: int, *, post: bool) -> Load:
    # One thread is enough: wrk alone takes some 100,000 small requests per second on a core.
    argv = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "-s", str(SCRIPT)]
    argv += [url, "--", *(["POST", str(UPLOAD_SIZE)] if post else ["GET"])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    _, marker, report = done.stdout.partition("\nBENCH ")
    if not marker:
        raise LoadError(f"wrk gave no figures: {(done.stderr or done.stdout).strip()}")
    figures = json.loads(report)
    return Load(
        requests=figures["requests"],
        seconds=figures["microseconds"] / 1e6,
        bytes=figures["bytes"],
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        errors={kind: count for kind, count in figures["errors"].items() if count},
    )


@asynccontextmanager
async def open_streams(port: int, count: int) -> AsyncIterator[None]:
    """Holds so many event streams open, each of which has got its first event."""
    writers: list[asyncio.StreamWriter] = []
    slots = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open_one() -> None:
        async with slots:
            reader, writer = await asyncio.open_connection(HOST, port)
            writers.append(writer)
            writer.write(
                b"GET %s HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n"
                % EVENTS_PATH.encode()
            )
            got = await reader.readuntil(FIRST_EVENT)
            if not got.startswith(b"HTTP/1.1 200 "):
                raise LoadError(f"instead of an event stream: {got.splitlines()[0]!r}")

    opening = asyncio.gather(*(open_one() for _ in range(count)))
    try:
        try:
            await asyncio.wait_for(opening, 60)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            raise LoadError(f"{len(writers)} of {count} streams opened: {error!r}") from error
        yield
    finally:
        for writer in writers:
            writer.close()
