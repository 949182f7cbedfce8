"""An upstream's response as Starlette knows responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from .._pump import Pump, Receive, Scope, Send
from ..relay import Relay
from ._body import forget_upload, let_go

# The line for nginx, which would gather a stream before it passes any of it on.
UNBUFFERED = (b"x-accel-buffering", b"no")


class RelayedResponse(StreamingResponse):
    """An upstream's response whose body is still to come, or on its way.

    `status_code`, `headers` and `background` can be changed until it is sent; `body_iterator` can
    be read, or replaced. One that is dropped unsent ends the exchange with the upstream.
    """

    def __init__(
        self,
        relay: Relay,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        of_head: bool = False,
    ) -> None:
        # Starlette's own would compute headers from a mapping, in which no name occurs twice.
        self.status_code = status
        headers.append(UNBUFFERED)
        self.raw_headers = headers
        self.background = None
        self._whole: bytes | None = body
        self._pump: Pump | None = None
        self._octets: Any = None
        # It answers a HEAD: its Content-Length is that of a body that does not come.
        self._of_head = of_head
        # A relay that nothing refers to any more closes its connections.
        self._relay = relay

    def stream_from(self, pump: Pump) -> None:
        """Have the body sent by a pump, which has kept its beginning."""
        self._pump = pump
        self._whole = None

    def __del__(self) -> None:
        if self._pump is not None:
            self._pump.drop()

    @property
    def body_iterator(self) -> Any:
        """The body's octets as they come."""
        if self._octets is None:
            self._octets = self._iterate(self._pump)
        return self._octets

    @body_iterator.setter
    def body_iterator(self, octets: Any) -> None:
        self._octets = octets

    async def _iterate(self, pump: Pump | None) -> AsyncIterator[bytes]:
        if pump is None:
            yield self._whole or b""
            return
        taken: tuple[bytes, bool] | None = pump.first()
        while taken is not None:
            octets, more = taken
            if octets:
                yield octets
            if not more:
                return
            taken = await pump.next()
        raise ClientDisconnect

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,  # noqa: ARG002 - the pump has the request's
        send: Send,
    ) -> None:
        """Send it, as any ASGI app, and then run the background tasks."""
        forget_upload(scope)
        pump, self._pump = self._pump, None
        if pump is None and self._whole is None:
            raise RuntimeError("the response was sent already")
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self._headers_for(scope["method"]),
                }
            )
            if self._octets is not None:
                await self.stream_octets(send)
            elif pump is not None:
                await pump.pass_on(send)
            else:
                await send({"type": "http.response.body", "body": self._whole, "more_body": False})
        finally:
            if pump is not None:
                await pump.close()
            let_go(scope)
        if self.background is not None:
            await self.background()

    def _headers_for(self, method: str) -> list[tuple[bytes, bytes]]:
        """The headers as they are sent to a client that has asked with this method."""
        if not self._of_head or method == "HEAD" or self._octets is not None:
            return self.raw_headers
        return [
            (name, b"0" if name == b"content-length" else value) for name, value in self.raw_headers
        ]

    async def stream_octets(self, send: Send) -> None:
        """Send what `body_iterator` has become."""
        async for octets in self._octets:
            piece = octets if isinstance(octets, bytes | memoryview) else octets.encode()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
