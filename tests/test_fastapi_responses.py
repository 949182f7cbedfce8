"""What `proxy_pass` returns: a response of Starlette's that streams, and that can be changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from asgi_relay.fastapi import RelayedResponse, proxy_pass

from .support import scripts
from .support.client import TruncatedError, fetch
from .support.exchange import Gate
from .support.servers import SERVERS, serve
from .support.site import FRAMEWORKS, Site, served
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Exchange, Script

pytestmark = pytest.mark.usefixtures("unowned")


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


def stream(*chunks: bytes) -> Script:
    """A chunked answer, in pieces that do not come together with the head."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start(headers=[("Content-Type", "text/event-stream")])
        for data in chunks:
            exchange.chunk(data)
        exchange.end()

    return script


def test_an_answer_passes_as_it_is(site: Site) -> None:
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("Content-Type", "application/x; q=1"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2, c; Path=/"),
        ("X-Latin", b"caf\xe9"),
        ("Content-Encoding", "gzip"),
        ("Cache-Control", "max-age=60"),
        ("Connection", "X-Hop"),
        ("X-Hop", "gone"),
    ]
    with Upstream(scripts.answer(404, headers, b"\x1f\x8bnot really")) as upstream:
        response = site.passing(upstream).fetch("/x")
    assert (response.status, response.body) == (404, b"\x1f\x8bnot really")
    assert response.values("set-cookie") == [b"a=1; Path=/", b"b=2, c; Path=/"]
    assert response.value("x-latin") == b"caf\xe9"
    assert response.value("content-encoding") == b"gzip"
    assert response.value("content-length") == b"12"
    assert response.value("content-type") == b"application/x; q=1"
    assert response.value("cache-control") == b"max-age=60"
    assert response.value("x-hop") is None


def test_nginx_is_told_not_to_buffer(site: Site) -> None:
    with Upstream(scripts.answer(headers=[("X-Accel-Buffering", "yes")])) as upstream:
        assert site.passing(upstream).fetch().values("x-accel-buffering") == [b"no"]


@pytest.mark.parametrize("status", [200, 204, 304])
def test_heads_and_bodiless_statuses(site: Site, status: int) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 {status} X\r\nETag: x\r\n".encode())
        exchange.send(b"Content-Length: 5\r\n\r\n" if status == 200 else b"\r\n")

    with Upstream(script) as upstream, site.passing(upstream).client() as client:
        for _ in range(2):
            response = client.request("HEAD" if status == 200 else "GET")
            assert (response.status, response.value("etag"), response.body) == (status, b"x", b"")


@pytest.mark.parametrize("script", [scripts.answer(body=b"abc"), stream(b"a", b"b", b"c")])
def test_status_headers_and_cookies_can_be_changed(site: Site, script: Script) -> None:
    with Upstream(script) as upstream:

        async def endpoint(request: Request) -> Response:
            response = await proxy_pass(request, upstream.url)
            assert isinstance(response, StreamingResponse)
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/")
            response.status_code = 201
            response.headers["X-New"] = "1"
            del response.headers["content-type"]
            response.set_cookie("a", "b")
            return response

        response = site.doing(endpoint).fetch()
    assert (response.status, response.body) == (201, b"abc")
    assert (response.value("x-new"), response.value("content-type")) == (b"1", None)
    assert (response.value("set-cookie") or b"").startswith(b"a=b;")


@pytest.mark.parametrize("kind", SERVERS)
def test_each_piece_goes_out_when_it_comes(kind: str) -> None:
    gate = Gate()
    site = Site("starlette" if "trio" in kind else "fastapi")
    from .support.site import make_app

    events = [f"data: {number}\n\n".encode() for number in range(3)]
    with (
        Upstream(scripts.drip(gate, events)) as upstream,
        serve(make_app(site.passing(upstream)), kind) as server,
    ):
        site.port = server.port
        with site.client() as client:
            client.start()
            response = client.read_head()
            pieces = client.pieces(response)
            for event in events:
                gate.open()
                assert next(pieces).data == event
            assert list(pieces) == []


@pytest.mark.parametrize("script", [scripts.cut_length(b"abc"), scripts.cut_chunked(b"abc")])
def test_a_cut_answer_is_seen_as_cut(site: Site, script: Script) -> None:
    with Upstream(script) as upstream, pytest.raises(TruncatedError) as cut:
        site.passing(upstream).fetch()
    assert cut.value.after == 3


def test_a_large_answer_is_whole(site: Site) -> None:
    size = 20 * 1024 * 1024
    with Upstream(scripts.flood(size)) as upstream:
        assert len(site.passing(upstream).fetch().body) == size


@pytest.mark.parametrize("script", [scripts.answer(body=b"abc"), stream(b"a", b"b", b"c")])
def test_the_body_can_be_replaced_by_what_is_made_of_it(site: Site, script: Script) -> None:
    with Upstream(script) as upstream:

        async def endpoint(request: Request) -> Response:
            response = await proxy_pass(request, upstream.url)
            octets = response.body_iterator

            async def louder() -> AsyncIterator[bytes | str]:
                async for piece in octets:
                    yield piece.upper()
                yield "!"

            response.body_iterator = louder()
            if "content-length" in response.headers:
                del response.headers["content-length"]
            return response

        assert site.doing(endpoint).fetch().body == b"ABC!"


@pytest.mark.parametrize("script", [scripts.ok, stream(b"o", b"k")])
@pytest.mark.parametrize("own", [False, True])
def test_background_tasks_run_after_the_response(script: Script, own: bool) -> None:
    done: list[str] = []
    app = FastAPI()
    with Upstream(script) as upstream:

        async def later(tasks: BackgroundTasks) -> None:
            tasks.add_task(done.append, "dependency's")

        @app.get("/", response_model=None, dependencies=[Depends(later)])
        async def endpoint(request: Request, tasks: BackgroundTasks) -> Response:
            tasks.add_task(done.append, "endpoint's")
            response = await proxy_pass(request, upstream.url)
            if own:
                response.background = BackgroundTask(done.append, "response's")
            return response

        with serve(app) as server:
            assert fetch(server.port).body == b"ok"
    assert done == (["response's"] if own else ["dependency's", "endpoint's"])


@pytest.mark.parametrize("script", [scripts.ok, stream(b"o", b"k")])
def test_middleware_sees_and_changes_it(script: Script) -> None:
    async def dispatch(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path == "/body":
            assert await request.body() == b"abc"
        response = await call_next(request)
        response.headers["x-seen"] = str(response.status_code)
        return response

    with Upstream(script) as upstream:
        app = FastAPI(middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])

        @app.api_route("/{path:path}", methods=["GET", "POST"], response_model=None)
        async def endpoint(request: Request) -> Response:
            return await proxy_pass(request, upstream.url)

        with serve(app) as server:
            for target in ("/", "/body"):
                response = fetch(server.port, target, method="POST", body=b"abc")
                assert (response.body, response.value("x-seen")) == (b"ok", b"200")
        assert [request.wait_complete().body for request in upstream.requests] == [b"abc", b"abc"]


def test_middleware_that_passes_on_by_itself() -> None:
    with Upstream(scripts.echo) as upstream:

        async def dispatch(request: Request, _: object) -> Response:
            return await proxy_pass(request, upstream.url)

        app = FastAPI(middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)])
        with serve(app) as server:
            assert fetch(server.port, "/x", method="POST", body=b"abc").body == b"abc"


def test_a_dependency_may_hold_the_response() -> None:
    app = FastAPI()
    with Upstream(stream(b"a", b"b")) as upstream:

        async def answered(request: Request) -> AsyncIterator[RelayedResponse]:
            yield await proxy_pass(request, upstream.url)

        @app.get("/", response_model=None)
        async def endpoint(response: Any = Depends(answered)) -> Any:  # noqa: B008
            return response

        with serve(app) as server:
            assert fetch(server.port).body == b"ab"


@pytest.mark.parametrize("streams", [False, True])
def test_a_stream_is_sent_once(site: Site, streams: bool) -> None:
    kept: list[Response] = []
    gate = Gate()
    with Upstream(scripts.drip(gate, [b"o", b"k"]) if streams else scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            if not kept:
                kept.append(await proxy_pass(request, upstream.url))
                gate.throw_open()
            return kept[0]

        site.doing(endpoint)
        assert site.fetch().body == b"ok"
        assert site.fetch().status == (500 if streams else 200)
