"""A relay to `UPSTREAM` that also tells, at `/-/state`, what its process holds at the moment."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
from typing import TYPE_CHECKING

import sniffio
import trio

from asgi_relay import Limits, Relay, Timeout
from tests.support import asgi
from tests.support.leaks import Snapshot, resident_bytes

if TYPE_CHECKING:
    from tests.support.asgi import Receive, Scope, Send

relay = Relay(
    os.environ["UPSTREAM"],
    limits=Limits(max_connections=1000, keepalive_expiry=0.5),
    timeout=Timeout(30),
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay all but the one path."""
    if scope.get("path") == "/-/state":
        await asgi.respond(send, json.dumps(state()).encode())
    else:
        await relay(scope, receive, send)


def state() -> dict[str, object]:
    now = Snapshot.take()
    # What was freed already and kept for later is not what a leak is.
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "descriptors": dict(now.descriptors),
        "threads": dict(now.threads),
        "tasks": tasks(),
        "resident": resident_bytes(),
    }


def tasks() -> int:
    if sniffio.current_async_library() == "asyncio":
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living
