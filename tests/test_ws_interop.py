"""WebSockets through Relay between implementations that are not ours, at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import aiohttp.web
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .support.asgi import answer_lifespan
from .support.front import relayed
from .support.waiting import PATIENCE
from .support.websocket_servers import DEPRECATED, serve_websockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .support.asgi import Receive, Scope, Send

pytestmark = pytest.mark.filterwarnings(DEPRECATED)

SIZES = [0, 1, 125, 126, 65_535, 65_536, 1_000_000]
MESSAGES: list[str | bytes] = [
    *("x" * size for size in SIZES),
    *(bytes(range(256)) * (size // 256) + b"\xff" * (size % 256) for size in SIZES),
    "é€😀" * 10_000,
]
COMMAND = "close "
"""What an echo takes as an order: to close with the code and the reason that follow."""

SUBPROTOCOL = Subprotocol("echo.v2")


def ordered(message: str | bytes) -> tuple[int, str] | None:
    if not isinstance(message, str) or not message.startswith(COMMAND):
        return None
    code, _, reason = message.removeprefix(COMMAND).partition(" ")
    return int(code), reason


# -- upstreams: each echoes, closes when it is told to, and notes how it was closed --------------


class Seen:
    """What an upstream saw of its client's close."""

    def __init__(self) -> None:
        self._closed: tuple[int | None, str] = (None, "")
        self._came = threading.Event()

    def closed(self, code: int | None, reason: str | None) -> None:
        self._closed = code, reason or ""
        self._came.set()

    def wait(self) -> tuple[int | None, str]:
        assert self._came.wait(PATIENCE), "the upstream saw no close"
        return self._closed


@contextlib.contextmanager
def on_a_loop(make: Callable[[], Any]) -> Iterator[Any]:
    """Enter an asynchronous context manager on a loop of its own, in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    try:
        manager = make()
        entered = run(manager.__aenter__())
        try:
            yield entered
        finally:
            run(manager.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def websockets_upstream(seen: Seen) -> Iterator[str]:
    async def handler(connection: websockets.asyncio.server.ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if order := ordered(message):
                    await connection.close(*order)
                    return
                await connection.send(message)
        seen.closed(connection.close_code, connection.close_reason)

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        async with websockets.asyncio.server.serve(
            handler,
            "127.0.0.1",
            0,
            subprotocols=[SUBPROTOCOL],
            max_size=None,
        ) as server:
            yield next(iter(server.sockets)).getsockname()[1]

    with on_a_loop(serving) as port:
        yield f"ws://127.0.0.1:{port}"


@contextlib.contextmanager
def aiohttp_upstream(seen: Seen) -> Iterator[str]:
    async def handler(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse(protocols=[SUBPROTOCOL], max_msg_size=0)
        await socket.prepare(request)
        reason = ""
        while (message := await socket.receive()).type in (
            aiohttp.WSMsgType.TEXT,
            aiohttp.WSMsgType.BINARY,
        ):
            if order := ordered(message.data):
                await socket.close(code=order[0], message=order[1].encode())
                return socket
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        if message.type is aiohttp.WSMsgType.CLOSE:
            reason = message.extra or ""
        seen.closed(socket.close_code, reason)
        return socket

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        app = aiohttp.web.Application()
        app.router.add_get("/{tail:.*}", handler)
        runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    with on_a_loop(serving) as port:
        yield f"ws://127.0.0.1:{port}"


@contextlib.contextmanager
def asgi_upstream(seen: Seen, kind: str) -> Iterator[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send)
            return
        await receive()
        choice = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": choice})
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is not None and (order := ordered(text)):
                await send({"type": "websocket.close", "code": order[0], "reason": order[1]})
                return
            await send({**message, "type": "websocket.send"})
        seen.closed(message.get("code"), message.get("reason"))

    with serve_websockets(app, kind) as server:
        yield server.url


UPSTREAMS: dict[str, Callable[[Seen], Any]] = {
    "websockets": websockets_upstream,
    "aiohttp": aiohttp_upstream,
    "wsproto": lambda seen: asgi_upstream(seen, "uvicorn-wsproto"),
    "granian": lambda seen: asgi_upstream(seen, "granian"),
}


# -- clients: one face for those of two packages -------------------------------------------------


class WebsocketsClient:
    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._connection = connection
        self.subprotocol = connection.subprotocol

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, compress: bool) -> AsyncIterator[WebsocketsClient]:
        async with websockets.asyncio.client.connect(
            url,
            subprotocols=[Subprotocol("echo.v1"), SUBPROTOCOL],
            compression="deflate" if compress else None,
            max_size=None,
            proxy=None,
        ) as connection:
            yield cls(connection)

    async def send(self, message: str | bytes) -> None:
        await self._connection.send(message)

    async def receive(self) -> str | bytes:
        return await self._connection.recv()

    async def ping(self) -> None:
        await (await self._connection.ping(b"there?"))

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    async def closed(self) -> tuple[int | None, str]:
        await self._connection.wait_closed()
        return self._connection.close_code, self._connection.close_reason or ""


class AiohttpClient:
    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self.subprotocol = socket.protocol

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str, compress: bool) -> AsyncIterator[AiohttpClient]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                url,
                protocols=["echo.v1", SUBPROTOCOL],
                compress=15 if compress else 0,
                max_msg_size=0,
            ) as socket,
        ):
            yield cls(socket)

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def receive(self) -> str | bytes:
        message = await self._socket.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    async def ping(self) -> None:
        # Its receive answers pings itself, and hides pongs.
        await self._socket.ping(b"there?")

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, message=reason.encode())

    async def closed(self) -> tuple[int | None, str]:
        message = await self._socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra or ""


CLIENTS: dict[str, Any] = {"websockets": WebsocketsClient, "aiohttp": AiohttpClient}


# -- between them --------------------------------------------------------------------------------


class Between:
    """A relay to one of the upstreams, and clients of either kind to it."""

    def __init__(self, upstream: str, client: str) -> None:
        self._upstream = upstream
        self._client = CLIENTS[client]
        self.seen = Seen()

    def run(self, talk: Callable[[Any], Any], compress: bool = False) -> None:
        """Talk as a client, over a WebSocket of its own."""

        async def run() -> None:
            async with self._client.open(f"ws://127.0.0.1:{front.port}/x", compress) as client:
                await talk(client)

        with UPSTREAMS[self._upstream](self.seen) as url, relayed(url) as front:
            asyncio.run(asyncio.wait_for(run(), 3 * PATIENCE))


@pytest.fixture(params=UPSTREAMS)
def upstream(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=CLIENTS)
def between(request: pytest.FixtureRequest, upstream: str) -> Between:
    return Between(upstream, request.param)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
def test_messages_of_each_kind_and_size(between: Between, compress: bool) -> None:
    async def talk(client: Any) -> None:
        assert client.subprotocol == SUBPROTOCOL
        for message in MESSAGES:
            await client.send(message)
            await client.ping()
            assert (await client.receive() == message) is True
        await client.close(1000, "")

    between.run(talk, compress)


def test_many_messages_both_ways_at_once(between: Between) -> None:
    messages = [f"{number}:" + "x" * (number % 200) for number in range(1000)]

    async def talk(client: Any) -> None:
        async def send() -> None:
            for message in messages:
                await client.send(message)

        sending = asyncio.ensure_future(send())
        assert [await client.receive() for _ in messages] == messages
        await sending

    between.run(talk)


def test_the_client_closes(between: Between) -> None:
    async def talk(client: Any) -> None:
        await client.send("last")
        assert await client.receive() == "last"
        await client.close(4001, "bye for now")
        # Before the relay is shut down, which would be a close of another kind.
        code, reason = await asyncio.to_thread(between.seen.wait)
        assert code == 4001
        assert reason in ("bye for now", "")  # granian says no reason to an app

    between.run(talk)


def test_the_upstream_closes(between: Between) -> None:
    async def talk(client: Any) -> None:
        await client.send(f"{COMMAND}4002 enough is enough")
        assert await client.closed() == (4002, "enough is enough")

    between.run(talk)
