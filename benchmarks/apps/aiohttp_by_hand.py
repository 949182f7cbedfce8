"""A streaming proxy written by hand around aiohttp's client."""

import aiohttp  # type: ignore[import-not-found, unused-ignore]
from yarl import URL  # type: ignore[import-not-found, unused-ignore]

from benchmarks.apps import settings
from benchmarks.apps.by_hand import HOP_BY_HOP, lifespan, request_body, request_headers, target
from benchmarks.apps.typing import Receive, Scope, Send

INVENTED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class App:
    session: aiohttp.ClientSession

    async def startup(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.MAX_CONNECTIONS, keepalive_timeout=settings.KEPT_ALIVE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.CONNECT_TIMEOUT, sock_read=settings.IDLE_TIMEOUT
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=INVENTED,
        )

    async def shutdown(self) -> None:
        await self.session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.startup, self.shutdown)
            return
        async with self.session.request(
            scope["method"],
            URL(settings.UPSTREAM + target(scope), encoded=True),
            headers=request_headers(scope),
            data=await request_body(scope, receive),
            allow_redirects=False,
        ) as response:
            headers = [
                (name, value)
                for raw_name, value in response.raw_headers
                if (name := raw_name.lower()) not in HOP_BY_HOP
            ]
            status = response.status
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


app = App()
