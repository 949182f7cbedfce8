"""Whose the connections are, how long they live, and how many there can be."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from asgi_relay import ASGITransport, Limits, Timeout
from asgi_relay.fastapi import (
    HealthChecker,
    LoadBalancer,
    Proxy,
    close_httpx_client,
    create_httpx_client,
    proxy_pass,
)
from asgi_relay.fastapi import _relays as relays

from .support import scripts
from .support.asgi import respond
from .support.client import fetch
from .support.direct import Call
from .support.exchange import Gate
from .support.servers import serve
from .support.site import Site, make_app, served
from .support.tidy import Tidy, expect_engine_threads
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .support.asgi import Receive, Scope, Send

pytestmark = pytest.mark.usefixtures("unowned")


def asking(url: str, **arguments: Any) -> Starlette:
    async def endpoint(request: Request) -> Response:
        return await proxy_pass(request, url, **arguments)

    return Starlette(routes=[Route("/", endpoint)])


def test_connections_are_kept_and_end_with_the_proxy() -> None:
    with Upstream(scripts.ok) as upstream:
        with served() as site:
            for _ in range(3):
                assert site.passing(upstream).fetch().status == 200
            assert len(upstream.connections) == 1
            assert not upstream.connections[0].closed_by_peer.is_set()
        upstream.connections[0].wait_closed()


@pytest.mark.anyio
async def test_nothing_is_left_of_a_proxy_and_it_can_be_had_again(anyio_backend: Any) -> None:
    with Upstream(scripts.ok) as upstream:
        app = asking(upstream.url)
        tidy = await Tidy.look_around()
        for _ in range(2):
            async with Proxy(app):
                assert (await Call()(app)).status == 200
        await create_httpx_client(app)
        assert (await Call()(app)).status == 200
        await close_httpx_client(app)
        await close_httpx_client(app)
        assert len(upstream.connections) == 3
        for connection in upstream.connections:
            await anyio.to_thread.run_sync(connection.wait_done)
        await tidy.check()
    await expect_engine_threads(0)


def test_without_a_proxy_connections_are_kept_as_well() -> None:
    with Upstream(scripts.ok) as upstream, serve(asking(upstream.url)) as server:
        for _ in range(3):
            assert fetch(server.port).status == 200
        assert len(upstream.connections) == 1


def test_a_mounted_app_has_no_part_in_the_outer_ones_proxy() -> None:
    inner = asking("http://upstream")
    proxy = Proxy(Starlette(routes=[Mount("/in", app=inner)]), transport=ASGITransport(answer))
    scope = {"app": inner}
    assert relays.relays_of(scope) is not proxy.relays
    assert relays.relays_of({}) is relays.relays_of(scope)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, scope["raw_path"] + b" " + dict(scope["headers"])[b"host"])


def test_the_settings_of_a_proxy_are_those_of_its_relays() -> None:
    with served(transport=ASGITransport(answer), drop_response_headers=["x-a"]) as site:
        assert site.passing("http://up.example/base").fetch("/x").body == b"/base/x up.example"


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"timeout": 5}, "timeout"), ({"limits": 5}, "limits"), ({"unknown": 5}, "unknown")],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    app = Starlette()
    with pytest.raises(TypeError, match=named):
        Proxy(app, **settings)
    assert not vars(app.state)["_state"]


def test_each_upstream_and_timeout_has_connections_of_its_own() -> None:
    with Upstream(scripts.ok) as upstream, served() as site:
        for timeout in (5, 5.0, Timeout(5), 6, None, Timeout(5)):
            assert site.passing(upstream, timeout=timeout).fetch().status == 200
        assert len(upstream.connections) == 4


@pytest.mark.anyio
async def test_the_table_forgets_what_was_used_least_recently(
    anyio_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_MOST", 2)
    table = relays.Relays({})
    first = table.find("http://a", 1)
    second = table.find("http://b", 1)
    assert table.find("http://a", 1) is first
    table.find("http://c", 1)
    assert len(table) == 2
    assert table.find("http://a", 1) is first
    assert table.find("http://b", 1) is not second
    await table.shutdown()
    assert len(table) == 0


@pytest.mark.anyio
async def test_what_the_table_forgot_goes_on_to_its_end(
    anyio_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "_MOST", 1)
    gate = Gate()
    with (
        Upstream(scripts.drip(gate, [b"a", b"b"])) as upstream,
        Upstream(scripts.ok) as other,
    ):
        app = asking(upstream.url)
        call = Call()
        async with Proxy(app) as proxy, anyio.create_task_group() as tasks:
            tasks.start_soon(call, app)
            await call.until(lambda: bool(call.sent))
            for number in range(5):
                proxy.relays.find(other.url, number)
            gate.throw_open()
            await call.until(lambda: call.ended)
        assert call.body == b"ab"


def test_many_loops_one_after_another() -> None:
    with Upstream(scripts.ok) as upstream:
        app = asking(upstream.url)
        for _ in range(2):
            with TestClient(app) as client:
                assert client.get("/").text == "ok"

            async def once() -> None:
                async with Proxy(app):
                    assert (await Call()(app)).body == b"ok"

            asyncio.run(once())


def test_a_shutdown_lets_requests_in_flight_finish() -> None:
    gate = Gate()
    with Upstream(scripts.gated(gate, scripts.ok)) as upstream:

        async def run() -> None:
            app = asking(upstream.url)
            call = Call()
            async with anyio.create_task_group() as tasks, Proxy(app):
                tasks.start_soon(call, app)
                await anyio.to_thread.run_sync(upstream.wait_requests)
                asyncio.get_running_loop().call_later(0.1, gate.open)
            assert call.body == b"ok"

        anyio.run(run)


def test_the_limits_are_those_of_each_upstream() -> None:
    gate = Gate()
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as busy,
        Upstream(scripts.ok) as free,
        served(limits=Limits(max_connections=1)) as site,
        site.passing(busy).client() as client,
    ):
        client.start()
        busy.wait_requests()
        assert site.passing(free).fetch().status == 200
        gate.open()
        assert client.read().status == 200


def test_the_package_itself_needs_no_starlette() -> None:
    code = (
        "import sys; import asgi_relay; "
        "assert not {'starlette', 'fastapi', 'anyio'} & set(sys.modules), 'imported'; "
        "import asgi_relay.fastapi; "
        "assert 'fastapi' not in sys.modules and 'httpx' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.anyio
async def test_a_balancers_relays_are_the_proxys_and_a_checkers_its_own(
    anyio_backend: Any,
) -> None:
    with Upstream(scripts.ok) as one, Upstream(scripts.ok) as two:
        tidy = await Tidy.look_around()
        checker = HealthChecker([one.url, two.url], interval=3600)
        balancers = [LoadBalancer([one.url, two.url]), LoadBalancer(checker)]

        async def endpoint(request: Request) -> Response:
            for balancer in balancers[:-1]:
                await balancer.proxy_pass(request, "/")
            return await balancers[-1].proxy_pass(request, "/")

        app = Starlette(routes=[Route("/", endpoint)])
        async with Proxy(app), checker:
            for _ in range(4):
                assert (await Call()(app)).body == b"ok"
        for connection in [*one.connections, *two.connections]:
            await anyio.to_thread.run_sync(connection.wait_done)
        await tidy.check()


def test_after_the_proxys_end_requests_are_still_answered() -> None:
    site = Site()
    app = make_app(site)
    with Upstream(scripts.ok) as upstream, serve(app) as server:
        site.port = server.port

        async def endpoint(request: Request) -> Response:
            await request.app.state.asgi_relay.close()
            assert not hasattr(request.app.state, "asgi_relay")
            return await proxy_pass(request, upstream.url)

        assert site.doing(endpoint).fetch().body == b"ok"


def test_a_503_of_the_engine_says_when_to_come_back() -> None:
    """As for an exception that a framework turns into a response: the headers go along."""
    from asgi_relay.fastapi._errors import failure

    error = failure(503, "busy", [(b"content-length", b"4"), (b"retry-after", b"1")])
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.detail, error.headers) == (503, "busy", {"retry-after": "1"})
