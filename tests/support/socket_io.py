"""How a Socket.IO client leaves."""

from __future__ import annotations

import asyncio
from typing import Any

from .waiting import PATIENCE


async def leave(sio: Any) -> None:
    """Disconnect, as a browser does: without waiting for a poll that the server leaves open."""
    websocket = sio.eio.ws
    leaving = asyncio.ensure_future(sio.disconnect())
    if sio.connected and sio.transport() == "polling":
        # It ends when the last packet, which says goodbye, has been posted.
        await sio.eio.write_loop_task
        sio.eio.read_loop_task.cancel()
    await asyncio.wait([leaving], timeout=PATIENCE)
    if websocket is not None:
        # Its connection was once left to the garbage collector on a crowded machine, which warns of
        # that in whichever test it runs.
        websocket._response.close()
