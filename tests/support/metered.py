"""Counts the octets of bodies that cross an app's ASGI boundary, each way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asgi import ASGIApp, Message, Receive, Scope, Send


class Metered:
    """An app as it is, with `given` octets received by it and `taken` ones sent by it."""

    def __init__(self, app: ASGIApp) -> None:
        self.given = 0
        self.taken = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count_given() -> Message:
            message = await receive()
            self.given += len(message.get("body", b""))
            return message

        async def count_taken(message: Message) -> None:
            self.taken += len(message.get("body", b""))
            await send(message)

        await self._app(scope, count_given, count_taken)
