"""Upstreams in this process: our own `ASGITransport`, and httpx's transports.

The engine treats them like any other upstream (policies, retries, timeouts, truncation); only the
connection is replaced by a call on the event loop.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from . import _engine
from ._in_process import serve_web_socket
from ._loop import Port, parked
from ._parameters import KINDS, LIBRARIES
from ._pump import Message, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Caller = Callable[[_engine.Call, Port], Coroutine[Any, Any, None]]

_LIBRARIES = ("httpx", "httpx2")
_logger = logging.getLogger("asgi_relay")


class ASGITransport:
    """An upstream that is an ASGI app in this process; streams both ways.

    app: the upstream.
    root_path: its `root_path`.
    client: what it sees as its client, address and port.

    An app that raises before its response starts is answered for with 502, and the traceback goes
    to the logger `asgi_relay`.
    """

    def __init__(
        self,
        app: App,
        *,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> None:
        if not callable(app):
            raise TypeError(f"app: {app!r} is not an ASGI app")
        if not isinstance(root_path, str):
            raise TypeError(f"root_path: {root_path!r} is not a str")
        if not isinstance(client, tuple | list) or len(client) != 2:
            raise TypeError(f"client: {client!r} is not a pair of address and port")
        self._app = app
        self._root_path = root_path
        self._client = client

    def __repr__(self) -> str:
        return f"ASGITransport({self._app!r})"

    async def serve(self, call: _engine.Call, port: Port) -> None:
        """Answer one request, or serve one WebSocket; for the pump."""
        link = call.link()
        if link is not None:
            await serve_web_socket(self._app, self._web_socket_scope(call), call, link, port)
            return
        exchange = _ASGIExchange(call, port)
        await self._app(self._scope(call), exchange.receive, exchange.send)
        if not exchange.complete:
            call.fail("RemoteProtocolError", "the application ended before its response")

    def _scope(self, call: _engine.Call) -> Scope:
        url = urlsplit(call.url)
        raw_path, _, query = call.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": url.scheme,
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": self._root_path,
            "headers": call.headers,
            "server": (url.hostname, url.port or {"http": 80, "https": 443}[url.scheme]),
            "client": self._client,
            "extensions": {},
            "state": {},
        }

    def _web_socket_scope(self, call: _engine.Call) -> Scope:
        scope = self._scope(call)
        del scope["method"]
        scheme = {"http": "ws", "https": "wss"}[scope["scheme"]]
        offers = [value for name, value in call.headers if name == b"sec-websocket-protocol"]
        subprotocols = [
            offer.strip() for line in offers for offer in line.decode("latin-1").split(",")
        ]
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        return scope | {
            "type": "websocket",
            "scheme": scheme,
            "subprotocols": subprotocols,
            "extensions": extensions,
        }


class _ASGIExchange:
    """`receive` and `send` of an app that serves a call."""

    def __init__(self, call: _engine.Call, port: Port) -> None:
        self._call = call
        self._port = port
        self._body = _CallBody(call, port)
        self._bodiless = False
        self.complete = False

    async def receive(self) -> Message:
        chunk = await self._body.read()
        if chunk is None:
            return {"type": "http.disconnect"}
        octets, more = chunk
        return {"type": "http.request", "body": octets, "more_body": more}

    async def send(self, message: Message) -> None:
        call = self._call
        if message["type"] == "http.response.start":
            self._bodiless = _is_bodiless(call.method, message["status"])
            call.respond(message["status"], message.get("headers", []))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if body and not self._bodiless:
                await _push(call, self._port, bytes(body))
            if not message.get("more_body", False):
                self.complete = True
                call.finish()


class _CallBody:
    """The request's body of a call."""

    def __init__(self, call: _engine.Call, port: Port) -> None:
        self._call = call
        self._port = port
        self._ended = False

    async def read(self) -> tuple[bytes, bool] | None:
        """Octets, and whether more come; `None` once nobody waits for the answer."""
        while True:
            taken = self._call.take()
            if taken is not None:
                octets, state = taken
                if state == 2:
                    return None
                if not self._ended:
                    self._ended = state == 1
                    return octets, not self._ended
            await parked(self._call, self._call.park, self._port)


def _is_bodiless(method: str, status: int) -> bool:
    """Whether a response has no body, whatever follows its head (RFC 9110 §6.4.1)."""
    return method == "HEAD" or status in {204, 304}


async def _push(call: _engine.Call, port: Port, octets: bytes) -> None:
    if not call.push(octets):
        await parked(call, call.park_writer, port)


def caller_for(transport: Any) -> Caller:
    """What serves calls for the `transport` parameter."""
    if isinstance(transport, ASGITransport):
        return _reporting(transport.serve)
    if isinstance(transport, type) or not hasattr(transport, "handle_async_request"):
        raise TypeError(
            f"transport: {transport!r} is neither an ASGITransport nor an object with httpx's "
            "handle_async_request"
        )
    library = _library_of(transport)

    class Stream(library.AsyncByteStream):  # type: ignore[misc,name-defined]
        def __init__(self, body: _CallBody) -> None:
            self._body = body

        async def __aiter__(self) -> AsyncIterator[bytes]:
            more = True
            while more:
                chunk = await self._body.read()
                if chunk is None:
                    raise library.ReadError("the client left")
                octets, more = chunk
                if octets:
                    yield octets

    inner = None
    if type(transport).__name__ == "ASGITransport":
        inner = ASGITransport(transport.app, root_path=transport.root_path, client=transport.client)

    async def serve(call: _engine.Call, port: Port) -> None:
        if call.handshake:
            if inner is None:
                call.fail("ConnectError", "the transport takes no WebSockets")
            else:
                await inner.serve(call, port)
            return
        request = library.Request(
            call.method, call.url, headers=call.headers, stream=Stream(_CallBody(call, port))
        )
        request.extensions["target"] = call.target
        response = await transport.handle_async_request(request)
        try:
            bodiless = _is_bodiless(call.method, response.status_code)
            call.respond(response.status_code, response.headers.raw)
            async for octets in response.stream:
                if octets and not bodiless:
                    await _push(call, port, octets)
            call.finish()
        finally:
            await response.aclose()

    return _reporting(serve)


def _library_of(transport: Any) -> Any:
    """The library whose `Request` a transport takes."""
    roots = [cls.__module__.partition(".")[0] for cls in type(transport).__mro__]
    for name in [root for root in roots if root in _LIBRARIES]:
        return importlib.import_module(name)
    for name in _LIBRARIES:
        if name in sys.modules:
            return sys.modules[name]
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise TypeError(f"transport: {transport!r} needs httpx or httpx2, and neither is installed")


def _reporting(serve: Caller) -> Caller:
    """Turns what a call raises into a failure of the exchange, which nobody waits for in vain."""

    async def reported(call: _engine.Call, port: Port) -> None:
        try:
            await serve(call, port)
        except Exception as error:
            kinds = [
                cls.__name__
                for cls in type(error).__mro__
                if cls.__name__ in KINDS and cls.__module__.partition(".")[0] in LIBRARIES
            ]
            if not kinds:
                _logger.exception("the upstream in this process failed")
            kind = kinds[0] if kinds else "RemoteProtocolError"
            call.fail(kind, type(error).__name__)
        except BaseException as error:
            call.fail("RemoteProtocolError", type(error).__name__)
            raise

    return reported
