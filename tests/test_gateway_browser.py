"""A browser on a page that the gateway serves over TLS, and so HTTP/2, with all that it loads.

What the page has seen it sends to the app, a list for each part; see `test_browser`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from .support.browser import visit
from .support.gateway import configured
from .support.servers import serve
from .support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from .support.authority import Authority

PATIENCE = 60.0
"""Seconds: a browser that starts on a busy machine takes its time."""

UPLOAD = 2_000_000

PAGE = """<!doctype html>
<title>Gateway</title>
<script type="module">
const LONG = "€".repeat(70000);
const parts = {
  async page(see) {
    see(`${location.protocol} ${isSecureContext}`);
    see(performance.getEntriesByType("navigation")[0].nextHopProtocol);
  },
  async requests(see) {
    const answers = await Promise.all([1, 2, 3].map(n => fetch(`/api/number?n=${n}`)));
    see(`${answers.map(answer => answer.status)}`);
    see((await Promise.all(answers.map(answer => answer.text()))).join(" "));
    see(document.cookie);
    const upload = await fetch("/api/upload", {method: "POST", body: new Uint8Array(2000000)});
    see(`uploaded ${await upload.text()}`);
    see(`missing ${(await fetch("/elsewhere/x")).status}`);
  },
  async stream(see) {
    const reader = (await fetch("/api/pieces")).body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const {value, done} = await reader.read();
      if (done) break;
      see(decoder.decode(value));
      await fetch("/api/next", {method: "POST"});
    }
  },
  events(see) {
    const source = new EventSource("/api/events");
    source.onmessage = ({data, lastEventId}) => see(`event ${lastEventId} ${data}`);
    return new Promise(over => source.addEventListener("last", () => over(source.close())));
  },
  chat(see) {
    const socket = new WebSocket(`wss://${location.host}/chat`, ["v1", "v2"]);
    socket.onopen = () => {
      see(`open ${socket.protocol} ${socket.extensions.split(";")[0]}`);
      for (const message of ["hello", LONG, "close"]) socket.send(message);
    };
    socket.onmessage = ({data}) => see(data === LONG ? "long, as it was sent" : data);
    return new Promise(over => socket.onclose = ({code, reason, wasClean}) => {
      over(see(`close ${code} ${wasClean} ${reason}`));
    });
  },
};
for (const [name, part] of Object.entries(parts)) {
  const lines = [];
  part(line => lines.push(line)).catch(error => lines.push(`${error}`)).then(
    () => fetch(`/seen/${name}`, {method: "POST", body: JSON.stringify(lines)}));
}
</script>
"""


class Site:
    """The upstream's app: it serves the page and what the page asks for."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        self.next = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/number", self.number),
                Route("/upload", self.upload, methods=["POST"]),
                Route("/pieces", self.pieces),
                Route("/next", self.advance, methods=["POST"]),
                Route("/events", self.events),
                Route("/seen/{part}", self.take, methods=["POST"]),
                WebSocketRoute("/chat", self.chat),
            ]
        )

    async def page(self, _: Request) -> Response:
        return HTMLResponse(PAGE)

    async def number(self, request: Request) -> Response:
        number = request.query_params["n"]
        response = JSONResponse([number, request.headers["x-forwarded-proto"]])
        for name in ("a", "b"):
            response.set_cookie(f"{name}{number}", number, secure=True)
        return response

    async def upload(self, request: Request) -> Response:
        return Response(str(len(await request.body())))

    async def pieces(self, _: Request) -> Response:
        """Each piece is sent only after the page has seen the one before."""

        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                yield f"piece {number}"
                await self.next.wait()
                self.next.clear()

        return StreamingResponse(stream(), media_type="text/plain")

    async def advance(self, _: Request) -> Response:
        self.next.set()
        return Response(status_code=204)

    async def events(self, _: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                yield f"id: {number}\ndata: the {number}.\n\n"
                await asyncio.sleep(0)
            yield "event: last\ndata: x\n\n"
            await asyncio.sleep(PATIENCE)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def chat(self, websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1])
        while (message := await websocket.receive_text()) != "close":
            await websocket.send_text(message)
        await websocket.close(4001, "enough for today ♥")

    async def take(self, request: Request) -> Response:
        self.seen[request.path_params["part"]] = json.loads(await request.body())
        return Response(status_code=204)


def pinned(chain: Path) -> str:
    """The option for which the browser believes this certificate, whoever has issued it."""
    certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={digest}"


@pytest.fixture(scope="module")
def seen(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[str]]]:
    site = Site()
    issued = authority.certificate("localhost")
    ssl = {"enabled": True, "cert_file": str(issued.chain), "key_file": str(issued.key)}
    folder = tmp_path_factory.mktemp("browser")
    with serve(site.app) as upstream:
        routes = [
            {"path": "/api", "targets": upstream.url},
            {"path": "/elsewhere", "targets": f"{upstream.url}/none"},
            {"targets": upstream.url},
        ]
        with (
            configured(folder, routes, ssl=ssl, server={"host": "localhost"}) as gateway,
            visit(f"https://localhost:{gateway.port}/", folder, pinned(issued.chain)) as browser,
        ):
            wait_until(
                lambda: len(site.seen) == 5 or browser.has_ended(), "the page's reports", PATIENCE
            )
            assert not browser.has_ended(), browser.output
            yield site.seen


def test_the_page_is_secure_and_came_by_http2(seen: dict[str, list[str]]) -> None:
    assert seen["page"] == ["https: true", "h2"]


def test_fetch(seen: dict[str, list[str]]) -> None:
    assert seen["requests"] == [
        "200,200,200",
        '["1","https"] ["2","https"] ["3","https"]',
        seen["requests"][2],
        f"uploaded {UPLOAD}",
        "missing 404",
    ]
    cookies = sorted(seen["requests"][2].split("; "))
    assert cookies == ["a1=1", "a2=2", "a3=3", "b1=1", "b2=2", "b3=3"]


def test_a_body_comes_piece_by_piece(seen: dict[str, list[str]]) -> None:
    assert seen["stream"] == ["piece 0", "piece 1", "piece 2"]


def test_an_event_source(seen: dict[str, list[str]]) -> None:
    assert seen["events"] == ["event 0 the 0.", "event 1 the 1.", "event 2 the 2."]


def test_a_websocket(seen: dict[str, list[str]]) -> None:
    assert seen["chat"] == [
        "open v2 permessage-deflate",
        "hello",
        "long, as it was sent",
        "close 4001 true enough for today ♥",
    ]
