"""`proxy_pass` and `proxy_pass_websocket`: an endpoint passes one request or WebSocket on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketState

from .. import _engine
from .._pump import COMPLETE, FAILED, OWN, Pump, Receive, Scope
from ..relay import Relay
from ._body import BodyGoneError, beyond_body, uploaded
from ._relays import relays_of
from ._response import RelayedResponse, failure
from ._scope import (
    Headers,
    body_octets,
    with_body,
    with_headers,
    with_method,
    with_path,
)

# What a client that has left would be told (nginx's number for it).
_CLIENT_LEFT = 499
# Methods that a client's body does not come along with when they are asked for.
_BODILESS = frozenset({"GET", "HEAD"})


async def proxy_pass(  # noqa: PLR0917 - the arguments are fastapi-reverse-proxy's
    request: Request,
    host: str,
    path: str | None = None,
    timeout: Any = 60.0,
    forward_query: bool = True,
    additional_headers: Headers | None = None,
    override_headers: Headers | None = None,
    override_body: bytes | str | list[Any] | dict[str, Any] | None = None,
    method: str | None = None,
    override_host: str | None = None,
) -> RelayedResponse:
    """Pass a request on, wait for the head of the answer, and return what is to be sent.

    host: the upstream's URL; a path in it stays in front, `http://` may be left out.
    path: what to ask for there; `None` is the request's whole path, octet by octet. In a str what
        must be is percent-encoded, `%XX` stays, and a `?query` goes before the client's.
    timeout: seconds that it may stand still: connecting, between octets, waiting for a connection;
        or anything that `Relay` takes.
    forward_query: send the client's query.
    additional_headers: sent in place of the client's of the same names, and over the computed
        X-Forwarded-*.
    override_headers: sent instead of the client's.
    override_body: sent instead of the client's body; text as UTF-8, lists and dictionaries as JSON.
    method: sent instead of the client's. A GET or HEAD asked for here has no client's body.
    override_host: the Host that the upstream sees instead of its own.

    Raises `HTTPException`, FastAPI's or Starlette's, where there is no answer: 502 for an upstream
    that cannot be reached or talks nonsense, 504 for one that takes too long, 503 where all are
    busy, 400 for a request that cannot be passed on, 499 where the client has left. The body that
    was read by then, up to 256 KiB, is there for another try.
    """
    scope: Scope = request.scope
    if path is not None or not forward_query or scope.get("root_path"):
        scope = with_path(scope, path, forward_query)
    if additional_headers or override_headers is not None:
        scope = with_headers(scope, additional_headers, override_headers)
    receive: Receive | None = None
    body: bytes | None = getattr(request, "_body", None)
    if method is not None:
        scope = with_method(scope, method)
        if scope["method"] in _BODILESS and request.method not in _BODILESS:
            body, receive = b"", beyond_body(request.receive)
            scope = with_body(scope, None)
    if override_body is not None:
        body, receive = body_octets(override_body), beyond_body(request.receive)
        scope = with_body(scope, body, isinstance(override_body, list | dict))
    elif body:
        scope = with_body(scope, body)
    relay = relays_of(request.scope).find(host, timeout, scope, override_host)
    return await relayed(request, relay, scope, body, receive)


async def relayed(
    request: Request, relay: Relay, scope: Scope, body: bytes | None, receive: Receive | None
) -> RelayedResponse:
    """The answer of a relay's upstream to a request.

    body: the request's, where it is there already.
    receive: tells when the client leaves.
    """
    port = relay._current_port()
    try:
        exchange = relay._engine.start(scope, port.engine)
    except _engine.BadRequest as error:
        raise failure(400, f"Bad request: {error}") from None
    pump: Pump | None = None
    response: RelayedResponse | None = None
    try:
        plan = exchange.body_plan
        if plan and body is None:
            receive = uploaded(request)
            pump = relay._pump(exchange, port, receive)
            await pump.begin(plan)
        elif plan:
            exchange.begin(body or b"", False)
        port.flush_soon()
        while True:
            waiter = port.create_waiter()
            if exchange.park(waiter):
                await waiter
            taken = exchange.take(relay._rewrite)
            if taken is None:
                continue
            status, headers, octets, flags = taken
            if flags > COMPLETE:
                pump = pump or relay._pump(exchange, port, receive or request.receive)
                if not pump.heed(flags):
                    raise failure(_CLIENT_LEFT, "Client Closed Request")
                if flags & FAILED and not status:
                    raise pump.failure()
                if flags & OWN:
                    raise failure(status, octets.decode(), headers or ())
            if status:
                break
        response = RelayedResponse(relay, status, headers or [], octets)
        if not flags & COMPLETE:
            pump = pump or relay._pump(exchange, port, receive or request.receive)
            pump.keep(octets, flags)
            response.stream_from(pump)
        return response
    except BodyGoneError as error:
        raise failure(502, f"Upstream error: {error}") from error
    finally:
        if pump is None:
            if response is None:
                exchange.abort()
        elif response is None or flags & COMPLETE:
            pump.complete = response is not None
            await pump.close()


async def proxy_pass_websocket(  # noqa: PLR0917 - as above
    websocket: WebSocket,
    host: str,
    path: str | None = None,
    subprotocols: Sequence[str] | None = None,
    forward_query: bool = True,
    additional_headers: Headers | None = None,
    override_headers: Headers | None = None,
    timeout: Any = 10.0,
) -> None:
    """Connect to the upstream, accept with what it chose, carry messages until an end closes.

    subprotocols: offered to the upstream instead of the client's.
    timeout: seconds for connecting, and again for the answer to the handshake.

    The others are those of `proxy_pass`. Does not raise for an upstream that is down or refuses:
    the client gets its answer, 502 or 504, where the server can pass that on, else a close.
    """
    if websocket.application_state is not WebSocketState.CONNECTING:
        raise RuntimeError(
            "proxy_pass_websocket accepts the WebSocket itself, once it is connected"
        )
    scope: Scope = with_path(websocket.scope, path, forward_query)
    if additional_headers or override_headers is not None:
        scope = with_headers(scope, additional_headers, override_headers)
    if subprotocols:
        scope = {**scope, "subprotocols": list(subprotocols)}
    relay = relays_of(websocket.scope).find(host, timeout, scope, None)
    await carried(websocket, relay, scope)


async def carried(websocket: WebSocket, relay: Relay, scope: Scope) -> None:
    """Carry a WebSocket through a relay to its end."""
    try:
        # Without Starlette's checks of each message, and its exceptions for a client that left.
        await relay(scope, websocket._receive, websocket._send)
    finally:
        websocket.client_state = websocket.application_state = WebSocketState.DISCONNECTED
