"""An upstream for event streams: answers any request with one event, then keeps the stream open.

Raw asyncio on uvloop, because a web server would cost more than what is measured.
Called as ``python -m benchmarks.apps.event_source PORT``.
"""

import asyncio
import sys
from typing import cast

import uvloop

from benchmarks.payloads import FIRST_EVENT

ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(FIRST_EVENT), FIRST_EVENT)
)


class EventStream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transport is no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.head = b""

    def data_received(self, data: bytes) -> None:
        self.head += data
        if b"\r\n\r\n" in self.head:
            self.head = b""
            self.transport.write(ANSWER)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EventStream, "127.0.0.1", port, backlog=2_048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
