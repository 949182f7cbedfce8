"""The upstream for WebSockets: picows sends every message back, so that it is not what is measured.

It chooses the bench's subprotocol if it is offered, and joins fragments before it answers.
Called as ``python -m benchmarks.apps.echo_server PORT``.
"""

import sys

import uvloop
from picows import (  # type: ignore[import-not-found, unused-ignore]
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from benchmarks.payloads import SUBPROTOCOL


class Echo(WSListener):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        self.kind = WSMsgType.BINARY
        self.parts: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif kind == WSMsgType.CONTINUATION:
            self.parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                transport.send(self.kind, b"".join(self.parts))
                self.parts.clear()
        elif frame.fin:
            transport.send(kind, frame.get_payload_as_memoryview())
        else:
            self.kind = kind
            self.parts.append(frame.get_payload_as_bytes())


def answer(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
    offered = request.headers.get("sec-websocket-protocol", "")
    chosen = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if SUBPROTOCOL in offered else None
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), Echo())


async def serve(port: int) -> None:
    server = await ws_create_server(answer, "127.0.0.1", port, backlog=2_048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
