"""The upstream's chat room: what one says, all others hear, and who left is kept with the how."""

from lilya.responses import JSONResponse, Response
from lilya.websockets import WebSocket, WebSocketDisconnect

SPOKEN = ("chat.v2", "chat.v1")
FAREWELL = 4001

_present: list[WebSocket] = []
_left: dict[str, str] = {}


async def room(websocket: WebSocket) -> None:
    """Let one in, hand on what they say, and close when they say so."""
    user = websocket.query_params.get("user", "someone")
    offered = websocket.scope["subprotocols"]
    chosen = next((name for name in SPOKEN if name in offered), None)
    await websocket.accept(subprotocol=chosen)
    _present.append(websocket)
    await _tell_others(websocket, f"{user} has come")
    try:
        while (said := await websocket.receive_text()) != "/leave":
            await _tell_others(websocket, f"{user}: {said}")
        await websocket.close(FAREWELL, f"come again, {user} ♥")
        _left[user] = f"was closed with {FAREWELL}"
    except WebSocketDisconnect as gone:
        _left[user] = f"closed with {gone.code} {gone.reason}".strip()
    finally:
        _present.remove(websocket)
    await _tell_others(websocket, f"{user} has left")


async def _tell_others(speaker: WebSocket, text: str) -> None:
    for one in [one for one in _present if one is not speaker]:
        await one.send_text(text)


async def guests() -> Response:
    """Say who has left, and how."""
    return JSONResponse(_left)
