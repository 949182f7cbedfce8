"""`proxy_pass` and `proxy_pass_websocket`: an endpoint passes one request or WebSocket on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketState

from .. import _engine
from .._pump import COMPLETE, FAILED, OWN, Pump, Receive, Scope
from ..relay import Relay
from ._body import Upload, beyond_body, receive_of, streamed, upload_of
from ._errors import failure
from ._form import Multipart, encode_fields, is_multipart
from ._relays import relays_of, sent_host
from ._response import RelayedResponse
from ._scope import (
    JSON,
    Headers,
    Lines,
    body_octets,
    with_body,
    with_headers,
    with_method,
    with_path,
)

# Seconds for connecting, and for the answer to a handshake.
HANDSHAKE_TIMEOUT: Final = 10.0
# What a client that has left would be told (nginx's number for it).
_CLIENT_LEFT: Final = 499
# Methods that a client's body does not come along with when they are asked for.
_BODILESS: Final = frozenset({"GET", "HEAD"})


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
    additional_headers: sent in place of all others of the same names, whatever the client says;
        X-Forwarded-* over the computed. Not to another origin that a redirect leads to.
    override_headers: sent instead of the client's; X-Forwarded-* are computed behind them.
    override_body: sent instead of the client's body; text as UTF-8, lists and dictionaries as JSON.
    method: sent instead of the client's. A GET or HEAD asked for here has no client's body.
    override_host: the Host that the upstream sees instead of its own.

    Raises `HTTPException`, FastAPI's or Starlette's, where there is no answer: 502 for an upstream
    that cannot be reached or talks nonsense, 504 for one that takes too long, 503 where all are
    busy, 400 for a request that cannot be passed on, 499 where the client has left. The body that
    was read by then, up to 256 KiB, is there for another try.
    """
    asked = ask(
        request,
        path=path,
        forward_query=forward_query,
        additional=additional_headers,
        override=override_headers,
        override_body=override_body,
        method=method,
    )
    sent = None if override_host is None else sent_host(asked.scope, override_host)
    return await relayed(request, relays_of(request.scope).find(host, timeout, sent), asked)


class Asked(NamedTuple):
    """What the upstream is asked."""

    scope: Scope
    body: bytes | None
    """`None` is the request's own, which is still to be read."""
    receive: Receive
    """Tells when the client leaves."""
    given: Lines
    """Header lines in place of all others of their names."""
    made: Receive | None = None
    """A body that is made here, piece by piece."""


def ask(
    request: Request,
    *,
    path: str | None,
    forward_query: bool,
    additional: Headers | None,
    override: Headers | None,
    override_body: Any,
    method: str | None,
) -> Asked:
    """What the arguments of `proxy_pass` make of a request."""
    scope: Scope = request.scope
    if path is not None or not forward_query or scope.get("root_path"):
        scope = with_path(scope, path, forward_query)
    scope, given = with_headers(scope, additional, override)
    receive = receive_of(request)
    body: bytes | None = getattr(request, "_body", None)
    if method is not None:
        scope = with_method(scope, method)
        if scope["method"] in _BODILESS and request.method not in _BODILESS:
            body, receive = b"", beyond_body(receive)
            scope = with_body(scope, None, clients=False)
    if override_body is not None:
        body, receive = body_octets(override_body), beyond_body(receive_of(request))
        scope = with_body(scope, len(body), clients=False)
        if isinstance(override_body, list | dict):
            given = [JSON, *given]
    elif body:
        scope = with_body(scope, len(body), clients=True)
    elif body is None and request._stream_consumed and request._form is not None:
        return _with_form(request, Asked(scope, None, receive, given), request._form)
    return Asked(scope, body, receive, given)


def _with_form(request: Request, asked: Asked, form: FormData) -> Asked:
    """What is asked with a form that was parsed."""
    content_type = request.headers.get("content-type", "")
    if is_multipart(content_type):
        parts = Multipart(form, content_type)
        made = streamed(parts.pieces(), asked.receive)
        return asked._replace(scope=with_body(asked.scope, len(parts), clients=False), made=made)
    body = encode_fields(form)
    return asked._replace(scope=with_body(asked.scope, len(body), clients=False), body=body)


async def relayed(
    request: Request, relay: Relay, asked: Asked, prefer: str | None = None
) -> RelayedResponse:
    """The answer of a relay's upstream, where there are several of the preferred one."""
    scope, body, receive, given, made = asked
    port = relay._current_port()
    try:
        exchange = relay._engine.start(scope, port.engine, prefer, given)
    except _engine.BadRequest as error:
        raise failure(400, str(error)) from None
    pump: Pump | None = None
    upload: Upload | None = None
    response: RelayedResponse | None = None
    try:
        plan = exchange.body_plan
        if plan and body is not None:
            exchange.begin(body, False)
        elif plan:
            receive = made or (upload := upload_of(request)).receive
            pump = relay._pump(exchange, port, receive)
            await pump.begin(plan)
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
                pump = pump or relay._pump(exchange, port, receive)
                _heed(pump, status, headers, octets, flags)
            if status:
                break
        of_head = scope["method"] == "HEAD"
        response = RelayedResponse(relay, status, headers or [], octets, of_head=of_head)
        if not flags & COMPLETE:
            pump = pump or relay._pump(exchange, port, receive)
            pump.keep(octets, flags)
            # Tells of the client's end even where a traceback keeps a response that is never sent.
            pump.watch()
            response.stream_from(pump)
        return response
    finally:
        if pump is None:
            if response is None:
                exchange.abort()
        elif response is None or flags & COMPLETE:
            pump.complete = response is not None
            await pump.close()
            if upload is not None:
                upload.release()


def _heed(pump: Pump, status: int, headers: Lines | None, octets: bytes, flags: int) -> None:
    """Act on what came beside the response; raises where it is none of the upstream's."""
    if not pump.heed(flags):
        raise failure(_CLIENT_LEFT, "Client Closed Request")
    if flags & FAILED and not status:
        raise pump.failure()
    if flags & OWN:
        raise failure(status, octets.decode(), headers or ())


async def proxy_pass_websocket(  # noqa: PLR0917 - as above
    websocket: WebSocket,
    host: str,
    path: str | None = None,
    subprotocols: Sequence[str] | None = None,
    forward_query: bool = True,
    additional_headers: Headers | None = None,
    override_headers: Headers | None = None,
    timeout: Any = HANDSHAKE_TIMEOUT,
) -> None:
    """Connect to the upstream, accept with what it chose, carry messages until an end closes.

    subprotocols: offered to the upstream instead of the client's. The client is accepted with the
        upstream's choice where it has offered that, else without any (RFC 6455 §4.1).
    timeout: seconds for connecting, and again for the answer to the handshake.

    The others are those of `proxy_pass`. Does not raise for an upstream that is down or refuses:
    the client gets its answer, 502 or 504, where the server can pass that on, else a close.
    """
    handshake = connecting(
        websocket,
        path=path,
        subprotocols=subprotocols,
        forward_query=forward_query,
        additional=additional_headers,
        override=override_headers,
    )
    await carried(websocket, relays_of(websocket.scope).find(host, timeout), handshake)


class Handshake(NamedTuple):
    """What the upstream of a WebSocket is asked."""

    scope: Scope
    given: Lines
    """Header lines in place of all others of their names."""
    offers: list[str] | None
    """Subprotocols instead of the client's."""


def connecting(
    websocket: WebSocket,
    *,
    path: str | None,
    subprotocols: Sequence[str] | None,
    forward_query: bool,
    additional: Headers | None,
    override: Headers | None,
) -> Handshake:
    """The handshake that the arguments of `proxy_pass_websocket` make."""
    if websocket.application_state is not WebSocketState.CONNECTING:
        raise RuntimeError(
            "proxy_pass_websocket accepts the WebSocket itself, once it is connected"
        )
    scope: Scope = with_path(websocket.scope, path, forward_query)
    scope, given = with_headers(scope, additional, override)
    return Handshake(scope, given, list(subprotocols) if subprotocols else None)


async def carried(
    websocket: WebSocket, relay: Relay, handshake: Handshake, prefer: str | None = None
) -> None:
    """Carry a WebSocket through a relay to its end."""
    scope, *own = handshake
    try:
        # Without Starlette's checks of each message, and its exceptions for a client that left.
        await relay._web_socket(scope, websocket._receive, websocket._send, prefer, *own)
    finally:
        websocket.client_state = websocket.application_state = WebSocketState.DISCONNECTED
