"""A WebSocket client that an app is called with directly: any scope, no server, any event loop."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio

from asgi_relay import Relay

from .waiting import PATIENCE
from .wire import Headers, values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from .asgi import ASGIApp, Message

REFUSABLE: dict[str, Any] = {"websocket.http.response": {}}
"""The `extensions` of a server that can pass on an answer other than 101."""

_ALLOWED = {
    "connecting": {"websocket.accept", "websocket.close", "websocket.http.response.start"},
    "open": {"websocket.send", "websocket.close"},
    "refusing": {"websocket.http.response.body"},
    "over": set[str](),
}


class Session:
    """One websocket scope. `async with Session("/x").run(app) as session:`, and look at `sent`.

    What an app may not send at that moment fails the test. The block ends when the app returns.
    """

    def __init__(
        self,
        target: str = "/",
        *,
        headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"relay.test"),),
        subprotocols: Iterable[str] = (),
        root_path: str = "",
        extensions: dict[str, Any] | None = REFUSABLE,
        extra: dict[str, Any] | None = None,
        first: Message | None = None,
    ) -> None:
        """`extra` are keys of the scope to set, or with None to leave out.

        `first` is what `receive` has instead of `websocket.connect`.
        """
        path, _, query = target.partition("?")
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": root_path,
            "headers": list(headers),
            "subprotocols": list(subprotocols),
            "client": ("192.0.2.7", 50007),
            "server": ("127.0.0.1", 80),
            "extensions": extensions,
            **(extra or {}),
        }
        for name in [name for name, setting in self.scope.items() if setting is None]:
            del self.scope[name]
        self.sent: list[Message] = []
        self.send_error: Exception | None = None
        """What `send` raises from now on."""
        self.error: Exception | None = None
        """What the app raised; the block raises it, unless `take_error` did away with it."""
        self.state = "connecting"
        self.returned = anyio.Event()
        self._incoming: deque[Message | Exception] = deque([first or {"type": "websocket.connect"}])
        self._came = anyio.Event()
        self._news = anyio.Event()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._read = 0
        self._running: anyio.CancelScope | None = None

    @contextlib.asynccontextmanager
    async def run(self, app: ASGIApp) -> AsyncIterator[Session]:
        """Call the app in a task of its own; at the block's end it has PATIENCE to return."""
        self._running = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._call, app, self._running)
            try:
                yield self
                await self.ended()
            finally:
                tasks.cancel_scope.cancel()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """Cancel the app's task."""
        assert self._running is not None
        self._running.cancel()

    # -- what the client does ------------------------------------------------------------------

    def say(self, *messages: str | bytes) -> None:
        for message in messages:
            key = "text" if isinstance(message, str) else "bytes"
            self.arrive({"type": "websocket.receive", key: message})

    def leave(self, code: int | None = 1005, reason: str | None = "") -> None:
        """The client's close frame, or with 1006 its disappearing; None leaves a key out."""
        said = {"code": code, "reason": reason}
        present = {key: setting for key, setting in said.items() if setting is not None}
        self.arrive({"type": "websocket.disconnect", **present})

    def stop_reading(self) -> None:
        """`send` waits from now on, as that of a server whose buffers are full."""
        self._flowing = anyio.Event()

    def go_on_reading(self) -> None:
        self._flowing.set()

    # -- what the app did ----------------------------------------------------------------------

    async def accepted(self) -> Message:
        """Wait for the app to accept; the message."""
        await self.until(lambda: bool(self.sent))
        assert self.sent[0]["type"] == "websocket.accept", self.types
        self._read = max(self._read, 1)
        return self.sent[0]

    async def message(self) -> str | bytes:
        """Wait for the next message that was not taken yet."""
        await self.accepted()
        await self.until(lambda: len(self.sent) > self._read)
        message = self.sent[self._read]
        assert message["type"] == "websocket.send", f"{message} where a message was wanted"
        self._read += 1
        text: str | None = message.get("text")
        octets: bytes | None = message.get("bytes")
        assert (text is None) is not (octets is None), "one of text and bytes has to be there"
        return octets if text is None else text  # type: ignore[return-value]

    async def closed(self) -> tuple[int, str]:
        """Wait for the app to close, past any message; the code and the reason."""
        await self.until(lambda: bool(self.sent) and self.sent[-1]["type"] == "websocket.close")
        return self.sent[-1].get("code", 1000), self.sent[-1].get("reason") or ""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the app sends; it is looked at after each message, and when it returns."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                if self.returned.is_set():
                    raise AssertionError(f"the app has returned: {self.types}") from self.error
                await self._news.wait()

    async def ended(self) -> None:
        """Wait for the app to return."""
        with anyio.fail_after(PATIENCE):
            await self.returned.wait()

    def take_error(self) -> Exception | None:
        """What the app raised, which the test expects."""
        error, self.error = self.error, None
        if error is not None:
            # Its frames would keep alive what the app had.
            error.__traceback__ = error.__context__ = None
        return error

    @property
    def types(self) -> list[str]:
        """Of all that was sent."""
        return [message["type"] for message in self.sent]

    @property
    def messages(self) -> list[str | bytes]:
        """All the messages so far."""
        found = [message for message in self.sent if message["type"] == "websocket.send"]
        return [m["text"] if m.get("text") is not None else m["bytes"] for m in found]

    @property
    def status(self) -> int:
        """Of a refusal through the extension."""
        assert self.sent[0]["type"] == "websocket.http.response.start", self.types
        return int(self.sent[0]["status"])

    @property
    def response_headers(self) -> Headers:
        """Of the accept, or of a refusal."""
        return list(self.sent[0].get("headers", ()))

    def response_values(self, name: str) -> list[bytes]:
        return values(self.response_headers, name)

    @property
    def body(self) -> bytes:
        """Of a refusal, which has to be whole."""
        assert self.state == "over", self.types
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    # -- the two halves of ASGI ----------------------------------------------------------------

    async def _call(self, app: ASGIApp, running: anyio.CancelScope) -> None:
        with running:
            try:
                await app(self.scope, self._receive, self._send)
            except Exception as error:
                self.error = error
            finally:
                self.returned.set()
                self._tell()

    async def _receive(self) -> Message:
        # Behind the disconnect nothing comes any more, and who waits for it waits for ever.
        while not self._incoming:
            await self._came.wait()
        message = self._incoming.popleft()
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Message) -> None:
        assert message["type"] in _ALLOWED[self.state], f"{message} while {self.state}"
        if self.send_error is not None:
            raise self.send_error
        self._check(message)
        self.sent.append(message)
        self._tell()
        await self._flowing.wait()

    def _check(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.state = "open"
        elif kind == "websocket.close":
            self.state = "over"
        elif kind == "websocket.http.response.start":
            assert "websocket.http.response" in self.scope.get("extensions", {})
            self.state = "refusing"
        elif kind == "websocket.http.response.body" and not message.get("more_body", False):
            self.state = "over"

    def arrive(self, message: Message | Exception) -> None:
        """Any message at all for the app's `receive`, or what it raises."""
        self._incoming.append(message)
        came, self._came = self._came, anyio.Event()
        came.set()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


def given(session: Session, target: str, **settings: Any) -> Session:
    """Hand a session to `Relay(target, **settings)`; its client leaves when that has accepted."""

    async def run() -> None:
        with anyio.fail_after(2 * PATIENCE):
            async with Relay(target, **settings) as relay, session.run(relay):
                await session.until(lambda: session.state in {"open", "over"})
                session.leave(1000)

    anyio.run(run)
    return session
