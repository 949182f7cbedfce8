"""Socket.IO through a mounted Relay: python-socketio at both ends, over each of its transports.

Over polling a message is a POST or the answer to a GET that waits; the upgrade opens a WebSocket
beside a poll and moves the session there. Neither end knows of the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]

from asgi_relay import Relay

from .support.apps import mount
from .support.servers import serve
from .support.socket_io import leave
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [
    # What aiohttp's client leaves to the garbage collector when it closes late.
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]

POLLING, WEBSOCKET, UPGRADED = ["polling"], ["websocket"], ["polling", "websocket"]
BINARY = bytes(range(256)) * 400
NEWS = 10
"""More in one answer to a poll than some 16 packets, and the library refuses it."""


class Service:
    """The upstream: a Socket.IO server, and what it has noticed of each session."""

    def __init__(self) -> None:
        # No origin is named, so it wants the page's own: the one that X-Forwarded-Host tells.
        self.sio = socketio.AsyncServer(async_mode="asgi")
        self.app = socketio.ASGIApp(self.sio, on_shutdown=self.sio.shutdown)
        self._noticed: defaultdict[str, queue.Queue[Any]] = defaultdict(queue.Queue)
        for handler in (self.connect, self.add, self.news, self.ask, self.transport, self.leave):
            self.sio.on(handler.__name__, handler)
        self.sio.on("disconnect", self.disconnected)

    async def connect(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        self._noticed[sid].put(("connect", environ["PATH_INFO"], auth))

    async def add(self, _: str, left: int, right: int) -> int:
        return left + right

    async def news(self, sid: str, count: int) -> None:
        for number in range(count):
            await self.sio.emit("news", {"number": number}, to=sid)
        await self.sio.emit("picture", BINARY, to=sid)

    async def ask(self, sid: str, question: str) -> None:
        # A task of its own: the answer cannot be handled before this handler has returned.
        self.sio.start_background_task(self._ask, sid, question)

    async def _ask(self, sid: str, question: str) -> None:
        self._noticed[sid].put(("answer", await self.sio.call("ask", question, to=sid)))

    async def transport(self, sid: str) -> str:
        return str(self.sio.transport(sid))

    async def leave(self, sid: str) -> None:
        await self.sio.disconnect(sid)

    async def disconnected(self, sid: str, reason: str) -> None:
        self._noticed[sid].put(("disconnect", reason))

    async def next(self, browser: Browser) -> Any:
        """What it notices next of this one."""
        noticed = self._noticed[browser.sid]
        return await asyncio.to_thread(noticed.get, timeout=PATIENCE)


class Browser:
    """The client, and what came to it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.sio = socketio.AsyncClient(reconnection=False, http_session=session)
        self.sid = ""
        self.came: asyncio.Queue[Any] = asyncio.Queue()
        self.sio.on("news", lambda data: self.came.put_nowait(data["number"]))
        self.sio.on("picture", self.came.put_nowait)
        self.sio.on("disconnect", self.came.put_nowait)
        self.sio.on("ask", lambda question: f"{question} Yes.")

    async def next(self) -> Any:
        """What comes next."""
        return await asyncio.wait_for(self.came.get(), PATIENCE)

    async def call(self, event: str, *data: object) -> Any:
        """Emit, and wait for what the server's handler returns."""
        return await self.sio.call(event, data, timeout=PATIENCE)


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def front(service: Service) -> Iterator[str]:
    """The URL of a server with a Ravyn app, in which the service is mounted under /live."""
    with serve(service.app) as upstream:
        relay = Relay(upstream.url)
        app = mount("ravyn", "/live", relay, relay.startup, relay.shutdown)
        with serve(app) as server:
            yield server.url


@contextlib.asynccontextmanager
async def connected(url: str, transports: list[str]) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        browser = Browser(session)
        await browser.sio.connect(
            url,
            headers={"Origin": url},
            auth={"token": "ada's"},
            transports=transports,
            socketio_path="live/socket.io",
            wait_timeout=PATIENCE,
        )
        browser.sid = browser.sio.get_sid()
        try:
            yield browser
        finally:
            await leave(browser.sio)


each_transport = pytest.mark.parametrize(
    "transports", [POLLING, WEBSOCKET, UPGRADED], ids=["polling", "websocket", "upgraded"]
)


@each_transport
def test_events_and_their_acknowledgements_cross_both_ways(
    service: Service, front: str, transports: list[str]
) -> None:
    async def session() -> None:
        async with connected(front, transports) as browser:
            assert await service.next(browser) == ("connect", "/socket.io/", {"token": "ada's"})
            assert await browser.call("add", 2, 3) == 5
            await browser.sio.emit("news", NEWS)
            assert [await browser.next() for _ in range(NEWS)] == list(range(NEWS))
            assert await browser.next() == BINARY
            await browser.sio.emit("ask", "Is it you?")
            assert await service.next(browser) == ("answer", "Is it you? Yes.")

    asyncio.run(session())


@each_transport
def test_both_ends_are_on_the_transport_that_was_wanted(front: str, transports: list[str]) -> None:
    async def session() -> None:
        async with connected(front, transports) as browser:
            assert browser.sio.transport() == transports[-1]
            assert await browser.call("transport") == transports[-1]

    asyncio.run(session())


@each_transport
def test_the_server_sees_that_the_client_leaves(
    service: Service, front: str, transports: list[str]
) -> None:
    async def session() -> None:
        async with connected(front, transports) as browser:
            await service.next(browser)
        kind, reason = await service.next(browser)
        # Over a WebSocket the library closes before its goodbye is written.
        assert (kind, reason in {"client disconnect", "transport close"}) == ("disconnect", True)

    asyncio.run(session())


@each_transport
def test_the_client_sees_that_the_server_ends_it(front: str, transports: list[str]) -> None:
    async def session() -> None:
        async with connected(front, transports) as browser:
            await browser.sio.emit("leave")
            assert await browser.next() == "server disconnect"

    asyncio.run(session())


def test_many_sessions_at_once_do_not_mix(front: str) -> None:
    async def session(number: int, transports: list[str]) -> None:
        async with connected(front, transports) as browser:
            for turn in range(10):
                assert await browser.call("add", number, turn) == number + turn

    async def sessions() -> None:
        kinds = [POLLING, WEBSOCKET, UPGRADED]
        await asyncio.gather(*(session(n * 1000, kinds[n % 3]) for n in range(12)))

    asyncio.run(sessions())
