"""Whoever leaves, drops a response or calls it off: the upstream's exchange ends with that."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_relay import ASGITransport
from asgi_relay.fastapi import Proxy, proxy_pass

from .support import scripts
from .support.conversation import silence
from .support.direct import Call
from .support.exchange import Gate
from .support.servers import SERVERS, serve
from .support.site import FRAMEWORKS, Site, make_app, served
from .support.tidy import Tidy
from .support.upstream import Upstream
from .support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.asgi import Receive, Scope, Send
    from .support.exchange import Exchange

pytestmark = pytest.mark.usefixtures("unowned")


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


def upload(exchange: Exchange) -> None:
    for _ in exchange.body():
        pass
    exchange.hang()


def early_and_long(exchange: Exchange) -> None:
    """Answer on the head alone, and go on while the body still comes."""
    exchange.start()
    exchange.chunk(b"some")
    upload(exchange)


SCRIPTS = {
    b"/hang": scripts.hang,
    b"/idle": scripts.stall(),
    b"/flood": scripts.flood(1 << 30),
    b"/upload": upload,
    b"/early": early_and_long,
}


@pytest.mark.parametrize("target", [target.decode() for target in SCRIPTS])
def test_a_client_that_leaves_takes_the_upstreams_exchange_along(site: Site, target: str) -> None:
    uploads = target in ("/upload", "/early")
    with Upstream(scripts.by_path(SCRIPTS)) as upstream:
        with site.passing(upstream).client() as client:
            client.start("POST" if uploads else "GET", target, length=1000 if uploads else None)
            if uploads:
                client.send(b"some")
            request = upstream.wait_requests()
            if target not in {"/hang", "/upload"}:
                client.read_head()
        request.connection.wait_closed()
        assert request.complete.is_set() is not uploads


@pytest.mark.anyio
async def test_a_client_is_seen_to_leave_behind_a_body_that_nobody_wants(
    anyio_backend: Any,
) -> None:
    async def endpoint(request: Request) -> Response:
        return await proxy_pass(request, upstream.url, override_body=b"instead")

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    call = Call(
        "POST",
        headers=[(b"host", b"relay.test"), (b"transfer-encoding", b"chunked")],
        pieces=[b"x"] * 20,
    )
    with Upstream(scripts.hang) as upstream:
        async with Proxy(app), anyio.create_task_group() as tasks:
            tasks.start_soon(call, app)
            await anyio.to_thread.run_sync(upstream.wait_requests)
            call.leave.set()
            await anyio.to_thread.run_sync(upstream.connections[0].wait_closed)
        assert upstream.requests[0].body == b"instead"


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("together", [True, False])
def test_a_client_that_leaves_takes_all_exchanges_along(kind: str, together: bool) -> None:
    """Some servers tell only one who waits for that."""

    async def endpoint(request: Request) -> Response:
        if together:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail, request, one)
                tasks.start_soon(fail, request, two)
            return Response()
        # It is on its way, and waits for its client to leave, too.
        first = await proxy_pass(request, one.url, "/idle")
        await fail(request, two)
        return first

    async def fail(request: Request, upstream: Upstream) -> None:
        with pytest.raises(HTTPException):
            await proxy_pass(request, upstream.url, "/hang")

    script = scripts.by_path(SCRIPTS)
    site = Site()
    with (
        Upstream(script) as one,
        Upstream(script) as two,
        serve(make_app(site.doing(endpoint)), kind) as server,
    ):
        site.port = server.port
        with site.client() as client:
            client.start()
            one.wait_requests()
            two.wait_requests()
        one.connections[0].wait_closed()
        two.connections[0].wait_closed()


def test_what_a_client_that_has_left_would_be_told(site: Site) -> None:
    raised: list[HTTPException] = []
    over = asyncio.Event()

    async def endpoint(request: Request) -> Response:
        try:
            return await proxy_pass(request, upstream.url)
        except HTTPException as error:
            raised.append(error)
            raise
        finally:
            over.set()

    with Upstream(scripts.hang) as upstream:
        with site.doing(endpoint).client() as client:
            client.start()
            upstream.wait_requests()
        upstream.connections[0].wait_closed()
        wait_until(lambda: bool(raised), "the endpoint's exception")
    assert raised[0].status_code == 499


def test_background_tasks_run_although_the_client_has_left(site: Site) -> None:
    ran = asyncio.Event()

    async def endpoint(request: Request) -> Response:
        response = await proxy_pass(request, upstream.url)
        response.background = done  # type: ignore[assignment]
        return response

    async def done() -> None:
        ran.set()

    with Upstream(scripts.stall()) as upstream:
        with site.doing(endpoint).client() as client:
            client.start()
            client.read_head()
        upstream.connections[0].wait_closed()
        wait_until(ran.is_set, "the background task")


@pytest.mark.parametrize("target", ["/idle", "/flood", "/early"])
@pytest.mark.parametrize("how", ["raised", "replaced", "handled"])
def test_a_response_that_is_dropped_ends_the_exchange(site: Site, target: str, how: str) -> None:
    async def endpoint(request: Request) -> Response:
        response = await proxy_pass(request, upstream.url)
        assert response.status_code == 200
        if how == "raised":
            raise LookupError("the endpoint's own")
        if how == "handled":
            raise HTTPException(418)
        return PlainTextResponse("other", status_code=418)

    uploads = target == "/early"
    with (
        Upstream(scripts.by_path(SCRIPTS)) as upstream,
        site.doing(endpoint).client() as client,
    ):
        client.start("POST" if uploads else "GET", target, length=1000 if uploads else None)
        client.send(b"some" if uploads else b"")
        assert client.read().status == (500 if how == "raised" else 418)
        upstream.connections[0].wait_closed()


def test_an_endpoint_that_is_called_off_ends_the_exchange(site: Site) -> None:
    async def endpoint(request: Request) -> Response:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_off, tasks.cancel_scope)
            return await proxy_pass(request, upstream.url)
        return PlainTextResponse("too late")

    async def call_off(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(upstream.wait_requests)
        scope.cancel()

    with Upstream(scripts.hang) as upstream:
        assert site.doing(endpoint).fetch().body == b"too late"
        upstream.connections[0].wait_closed()


def test_a_middleware_that_answers_instead_ends_the_exchange() -> None:
    async def dispatch(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        await call_next(request)
        return PlainTextResponse("instead")

    site = Site()
    app = FastAPI(middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
    app.mount("/", make_app(site))
    with Upstream(scripts.by_path(SCRIPTS)) as upstream, serve(app) as server:
        site.port = server.port
        site.passing(upstream)
        for number, target in enumerate(("/idle", "/flood")):
            assert site.fetch(target).body == b"instead"
            upstream.connections[number].wait_closed()


@pytest.mark.anyio
@pytest.mark.parametrize("dropped", [False, True])
async def test_nothing_is_left_of_a_stream_on_any_loop(anyio_backend: Any, dropped: bool) -> None:
    tidy = await Tidy.look_around()

    async def endpoint(request: Request) -> Response:
        response = await proxy_pass(request, upstream.url)
        return PlainTextResponse("other") if dropped else response

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    gate = Gate()
    script = scripts.drip(gate, [b"a", b"b"])
    with Upstream(early_and_long if dropped else script) as upstream:
        async with Proxy(app):
            gate.throw_open()
            call = Call(method="POST", headers=[(b"content-length", b"3")], pieces=[b"ab", b"c"])
            await call(app)
            assert call.body == (b"other" if dropped else b"ab")
            gc.collect()
            if dropped:
                await anyio.to_thread.run_sync(upstream.connections[0].wait_closed)
    await tidy.check()


@pytest.mark.anyio
async def test_a_response_that_is_dropped_calls_off_an_app_in_this_process(
    anyio_backend: Any,
) -> None:
    called_off = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        try:
            await anyio.sleep_forever()
        finally:
            called_off.set()

    async def endpoint(request: Request) -> Response:
        await proxy_pass(request, "http://upstream")
        return Response()

    front = Starlette(routes=[Route("/", endpoint)])
    async with Proxy(front, transport=ASGITransport(app)):
        await Call()(front)
        with anyio.fail_after(10):
            await called_off.wait()


@pytest.mark.anyio
async def test_a_response_that_is_dropped_on_another_thread_ends_its_exchange(
    anyio_backend: Any,
) -> None:
    with Upstream(scripts.stall()) as upstream:
        app = Starlette()
        async with Proxy(app):
            scope = {**Call().scope(), "app": app}
            # Its client never leaves.
            held = [await proxy_pass(Request(scope, silence), upstream.url)]
            assert not upstream.connections[0].closed_by_peer.is_set()
            await anyio.to_thread.run_sync(held.clear)
            await anyio.to_thread.run_sync(upstream.connections[0].wait_closed)
