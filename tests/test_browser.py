"""A browser on a page with WebSockets and an EventSource, all through a mounted Relay.

The page writes what it sees into its document, a list for each part, and when a part is over it
sends that list to the app. The upstream is on a server of its own and knows nothing of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from asgi_relay import Relay

from .support.browser import visit
from .support.servers import serve
from .support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

PATIENCE = 60.0
"""Seconds: a browser that starts on a busy machine takes its time."""

PAGE = """<!doctype html>
<title>Relay</title>
<script type="module">
const live = `${location.host}/live`;
const LONG = "€".repeat(70000);

const closed = (socket, see) => new Promise(over => {
  socket.onclose = ({code, reason, wasClean}) => {
    over(see(`close ${code} ${wasClean ? "clean" : "torn"} ${reason}`));
  };
});

// Each part gets a function that writes a line into its list.
const parts = {
  chat(see) {
    const socket = new WebSocket(`ws://${live}/chat?room=1`, ["chat.v1", "chat.v2"]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      see(`open ${socket.protocol} ${socket.extensions.split(";")[0]}`);
      see(`cookies ${document.cookie}`);
      for (const message of ["hello", "", LONG, new Uint8Array([0, 255, 7]), "close"])
        socket.send(message);
    };
    socket.onmessage = ({data}) => {
      if (data === LONG) see("long, as it was sent");
      else if (typeof data === "string") see(`text ${data}`);
      else see(`binary ${new Uint8Array(data)}`);
    };
    return closed(socket, see);
  },
  leave(see) {
    const socket = new WebSocket(`ws://${live}/chat`);
    socket.onopen = () => { see(`open [${socket.protocol}]`); socket.close(3001, "going home"); };
    return closed(socket, see);
  },
  refused(see) {
    const socket = new WebSocket(`ws://${live}/members`);
    socket.onerror = () => see("error");
    return closed(socket, see);
  },
  events(see) {
    const source = new EventSource("/live/events");
    source.onmessage = ({data, lastEventId}) => see(`event ${lastEventId} ${data}`);
    source.onerror = () => see(`again, state ${source.readyState}`);
    return new Promise(over => source.addEventListener("last", ({data}) => {
      source.close();
      over(see(`last ${data}`));
    }));
  },
};

for (const [name, part] of Object.entries(parts)) {
  const list = document.body.appendChild(document.createElement("ol"));
  const see = line => { list.appendChild(document.createElement("li")).textContent = line; };
  part(see).then(() => fetch(`/seen/${name}`, {
    method: "POST",
    body: JSON.stringify([...list.children].map(line => line.textContent)),
  }));
}
</script>
"""


class Upstream:
    """Chats, refuses, and streams events; keeps how the clients of the chat have left."""

    def __init__(self) -> None:
        self.left: list[tuple[int, str]] = []
        self.app = Starlette(
            routes=[
                WebSocketRoute("/chat", self.chat),
                WebSocketRoute("/members", self.refuse),
                Route("/events", self.events),
            ]
        )

    async def chat(self, websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        room = websocket.query_params.get("room")
        await websocket.accept(
            subprotocol=offered[-1] if offered else None,
            headers=[(b"set-cookie", b"seat=7; Path=/")] if room else None,
        )
        if room:
            user = websocket.cookies.get("user")
            await websocket.send_text(f"{user} is in room {room}")
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if message.get("text") == "close":
                await websocket.close(4001, "enough for today ♥")
                return
            await websocket.send({**message, "type": "websocket.send"})
        self.left.append((message["code"], message["reason"]))

    async def refuse(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("members only", 403))

    async def events(self, request: Request) -> Response:
        """Two events a connection, and the fourth is the last: a browser comes back for it."""
        seen = int(request.headers.get("last-event-id", "0"))

        async def stream() -> AsyncIterator[str]:
            yield "retry: 1\n\n"
            for number in range(seen + 1, seen + 3):
                kind = "event: last\n" if number == 4 else ""
                yield f"{kind}id: {number}\ndata: the {number}. of {seen} seen\n\n"
                # A turn of the loop: each event is written by itself.
                await asyncio.sleep(0)

        return StreamingResponse(stream(), media_type="text/event-stream")


class Front:
    """The app around the relay: it serves the page and takes what the page has seen."""

    def __init__(self, upstream: str) -> None:
        self.seen: dict[str, list[str]] = {}
        self.relay = Relay(upstream)
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/seen/{part}", self.take, methods=["POST"]),
                Mount("/live", app=self.relay),
            ],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self.relay:
            yield

    async def page(self, _: Request) -> Response:
        # Not by a script: the handshake of a socket that it opens next may go without the cookie.
        return HTMLResponse(PAGE, headers={"set-cookie": "user=ada"})

    async def take(self, request: Request) -> Response:
        self.seen[request.path_params["part"]] = json.loads(await request.body())
        return Response(status_code=204)


class Visited:
    """An open browser, and both apps."""

    def __init__(self, upstream: Upstream, front: Front) -> None:
        self.upstream = upstream
        self.front = front

    def saw(self, part: str) -> list[str]:
        """What a part of the page has seen, once it is over."""
        wait_until(lambda: part in self.front.seen, f"the page's report on {part}", PATIENCE)
        return self.front.seen[part]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visited]:
    upstream = Upstream()
    with serve(upstream.app) as behind:
        front = Front(behind.url)
        with (
            serve(front.app) as server,
            visit(server.url, tmp_path_factory.mktemp("browser")) as browser,
        ):
            wait_until(
                lambda: bool(front.seen) or browser.has_ended(), "the page's first report", PATIENCE
            )
            assert not browser.has_ended(), browser.output
            yield Visited(upstream, front)


def test_a_websocket_gets_its_subprotocol_messages_and_close(page: Visited) -> None:
    assert page.saw("chat") == [
        "open chat.v2 permessage-deflate",
        "cookies user=ada; seat=7",
        "text ada is in room 1",
        "text hello",
        "text ",
        "long, as it was sent",
        "binary 0,255,7",
        "close 4001 clean enough for today ♥",
    ]


def test_a_websocket_that_the_page_closes_is_closed_upstream(page: Visited) -> None:
    assert page.saw("leave") == ["open []", "close 3001 clean going home"]
    wait_until(lambda: bool(page.upstream.left), "the upstream to see it")
    assert page.upstream.left == [(3001, "going home")]


def test_a_refused_handshake_is_an_error_for_the_page(page: Visited) -> None:
    assert page.saw("refused") == ["error", "close 1006 torn "]


def test_an_event_source_goes_on_where_its_last_stream_ended(page: Visited) -> None:
    assert page.saw("events") == [
        "event 1 the 1. of 0 seen",
        "event 2 the 2. of 0 seen",
        "again, state 0",
        "event 3 the 3. of 2 seen",
        "last the 4. of 2 seen",
    ]
