"""A streaming proxy written by hand around pyreqwest, a Python client on Rust's reqwest."""

from datetime import timedelta

from pyreqwest.client import (  # type: ignore[import-not-found, unused-ignore]
    Client,
    ClientBuilder,
)

from benchmarks.apps import settings
from benchmarks.apps.by_hand import HOP_BY_HOP, lifespan, request_body, request_headers, target
from benchmarks.apps.typing import Receive, Scope, Send


class App:
    client: Client

    async def startup(self) -> None:
        self.client = (
            ClientBuilder()
            .max_connections(settings.MAX_CONNECTIONS)
            .pool_max_idle_per_host(settings.KEPT_ALIVE)
            .pool_idle_timeout(timedelta(seconds=settings.KEPT_ALIVE_SECONDS))
            .connect_timeout(timedelta(seconds=settings.CONNECT_TIMEOUT))
            .read_timeout(timedelta(seconds=settings.IDLE_TIMEOUT))
            .follow_redirects(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .no_proxy()
            .build()
        )

    async def shutdown(self) -> None:
        await self.client.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.startup, self.shutdown)
            return
        request = self.client.request(scope["method"], settings.UPSTREAM + target(scope))
        # By default the client holds a response back until it has 64 KiB of it or its end: an
        # event stream would never start. Measured, small requests are as fast without.
        request = request.headers(request_headers(scope)).streamed_read_buffer_limit(0)
        body = await request_body(scope, receive)
        if isinstance(body, bytes):
            request = request.body_bytes(body)
        elif body is not None:
            request = request.body_stream(body)
        async with request.build_streamed() as response:
            headers = [
                (name, value.encode("latin-1"))
                for text, value in response.headers.items()
                if (name := text.lower().encode("latin-1")) not in HOP_BY_HOP
            ]
            status = response.status
            await send({"type": "http.response.start", "status": status, "headers": headers})
            reader = response.body_reader
            while (chunk := await reader.read_chunk()) is not None:
                await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


app = App()
