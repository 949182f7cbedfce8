"""`LoadBalancer`: who is next, and that whoever is down or has had enough is not."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, HTTPException, Request, WebSocket
from starlette.responses import JSONResponse

from asgi_relay.fastapi import HealthChecker, LoadBalancer, Proxy

from .support import scripts
from .support.client import fetch
from .support.servers import serve
from .support.site import Site, make_app, served
from .support.upstream import Upstream, refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.responses import Response

    from .support.exchange import Exchange

pytestmark = pytest.mark.usefixtures("unowned")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def named() -> Iterator[list[Upstream]]:
    """Three upstreams that answer with their numbers."""
    with contextlib.ExitStack() as stack:
        answers = [scripts.answer(body=str(number).encode()) for number in range(3)]
        yield [stack.enter_context(Upstream(answer)) for answer in answers]


def balancing(site: Site, balancer: LoadBalancer, **arguments: Any) -> Site:
    async def endpoint(request: Request) -> Response:
        return await balancer.proxy_pass(request, **arguments)

    async def websocket(websocket: WebSocket) -> None:
        await balancer.proxy_pass_websocket(websocket)

    return site.doing(endpoint, websocket)


@contextlib.contextmanager
def checked(checker: HealthChecker, balancer: LoadBalancer) -> Iterator[int]:
    """The port of an app like the document's, with the checker in its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Proxy(app), checker:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def gateway(request: Request, path: str) -> Any:
        return await balancer.proxy_pass(request, path=f"/{path}")

    @app.websocket("/{path:path}")
    async def websocket(websocket: WebSocket, path: str) -> None:
        await balancer.proxy_pass_websocket(websocket, path=f"/{path}")

    with serve(app) as server:
        yield server.port


# -- in turn ---------------------------------------------------------------------------------------


def test_a_list_takes_turns(site: Site, named: list[Upstream]) -> None:
    urls = [upstream.url for upstream in named]
    balancer = LoadBalancer(urls)
    assert balancer.get_all() == urls
    balancing(site, balancer)
    assert [site.fetch("/x").body for _ in range(6)] == [b"0", b"1", b"2"] * 2
    assert balancer.peek() == balancer.peek() == urls[0]
    assert [balancer.get(), balancer.get()] == urls[:2]
    assert site.fetch().body == b"2"
    balancer.set_index(1)
    assert balancer.peek() == urls[1]
    assert site.fetch().body == b"1"


def test_a_repeated_server_has_as_many_turns(site: Site, named: list[Upstream]) -> None:
    one, two, _ = (upstream.url for upstream in named)
    balancing(site, LoadBalancer([one, one, two]))
    assert [site.fetch().body for _ in range(6)] == [b"0", b"0", b"1"] * 2


@pytest.mark.parametrize("body", [None, b"abc"])
def test_a_dead_server_costs_no_request(site: Site, body: bytes | None) -> None:
    with refusing() as dead, Upstream(scripts.echo) as well:
        balancing(site, LoadBalancer([dead, well.url]))
        for _ in range(8):
            response = site.fetch(method="POST", body=body)
            assert (response.status, response.body) == (200, body or b"")


def test_what_a_server_answers_is_not_asked_of_another(site: Site, named: list[Upstream]) -> None:
    with Upstream(scripts.answer(503, body=b"busy")) as ill:
        balancing(site, LoadBalancer([ill.url, named[0].url]))
        assert site.fetch().body == b"busy"
    assert named[0].requests == []


def test_an_empty_list_is_a_503(site: Site) -> None:
    balancer = LoadBalancer([])
    assert balancer.get() is balancer.peek() is None
    assert balancing(site, balancer).fetch().status == 503
    with WebSocketClient(site.port) as client:
        response = client.shake("/")
        assert response.status == 503
        assert response.body.startswith(b"Service Unavailable")


def test_it_takes_what_proxy_pass_takes(site: Site) -> None:
    with Upstream(scripts.ok) as upstream:
        balancing(
            site,
            LoadBalancer([upstream.url]),
            path="/b?c",
            forward_query=False,
            additional_headers={"X-A": "1"},
            override_headers={"X-B": "2"},
            override_body={"a": 1},
            method="PUT",
            timeout=5,
        )
        site.fetch("/x?y", headers=[("X-C", "3")])
        request = upstream.requests[0].wait_complete()
    assert request.line == b"PUT /b?c HTTP/1.1"
    found = [request.value(name) for name in ("x-a", "x-b", "x-c")]
    assert (found, request.body) == ([b"1", b"2", None], b'{"a": 1}')


def test_the_path_parameter_keeps_its_octets(site: Site, named: list[Upstream]) -> None:
    balancer = LoadBalancer([named[0].url])

    async def endpoint(request: Request) -> Response:
        return await balancer.proxy_pass(request, path="/" + request.path_params["path"])

    site.doing(endpoint).fetch("/a%2Fb//c?d")
    balancing(site, balancer).fetch("/a%2Fb//c?d")
    assert {request.target for request in named[0].requests} == {b"/a%2Fb//c?d"}


def test_websockets_take_turns(site: Site) -> None:
    accepts = [Accept(), Accept()]
    with Upstream(accepts[0]) as one, Upstream(accepts[1]) as two, refusing() as dead:
        balancing(site, LoadBalancer([one.url, two.url, dead]))
        for _ in range(3):
            with WebSocketClient(site.port) as client:
                client.open("/ws?x")
                client.close(4001)
                client.expect_close()
        assert len(one.requests) + len(two.requests) == 3
        assert {len(one.requests), len(two.requests)} == {1, 2}
        assert one.requests[0].target == b"/ws?x"


# -- the fastest that is healthy -------------------------------------------------------------------


def test_the_documents_gateway_leaves_the_dead_out(named: list[Upstream]) -> None:
    with refusing() as dead, Upstream(scripts.answer(500)) as ill:
        checker = HealthChecker([dead, named[0].url, ill.url])
        balancer = LoadBalancer(checker)
        assert balancer.get() is None
        assert balancer.get_all() == checker.targets
        with checked(checker, balancer) as port:
            assert balancer.get() == balancer.peek() == named[0].url
            for _ in range(10):
                assert fetch(port, "/a%2Fb").body == b"0"
        assert {r.target for r in named[0].requests if r.method == b"GET"} == {b"/a%2Fb"}
        assert {r.method for r in ill.requests} == {b"HEAD"}


def test_the_fastest_gets_the_requests() -> None:
    def slow(exchange: Exchange) -> None:
        exchange.read_body()
        time.sleep(1.2)
        exchange.respond(body=b"slow")

    with Upstream(slow) as late, Upstream(scripts.answer(body=b"fast")) as early:
        checker = HealthChecker([late.url, early.url])
        with checked(checker, LoadBalancer(checker)) as port:
            assert Counter(fetch(port).body for _ in range(10)) == {b"fast": 10}


def test_one_that_dies_is_left_out_and_comes_back(named: list[Upstream]) -> None:
    state = {"status": 200}

    def script(exchange: Exchange) -> None:
        exchange.respond(state["status"], [("X-Accel-Buffering", "yes")], b"only")

    with Upstream(script) as upstream:
        checker = HealthChecker([upstream.url], interval=0.05)
        balancer = LoadBalancer(checker)
        with checked(checker, balancer) as port:
            response = fetch(port)
            assert response.body == b"only"
            assert response.values("x-accel-buffering") == [b"no"]
            state["status"] = 500
            wait_until(lambda: balancer.peek() is None, "it to be left out")
            assert fetch(port).status == 503
            with WebSocketClient(port) as client:
                assert client.shake("/").status == 503
            state["status"] = 200
            wait_until(lambda: balancer.peek() is not None, "it to be back")
            assert fetch(port).body == b"only"


def test_a_checker_that_nobody_started_is_started(site: Site, named: list[Upstream]) -> None:
    with refusing() as dead:
        checker = HealthChecker([dead, named[1].url])

        async def endpoint(request: Request) -> Response:
            try:
                return await LoadBalancer(checker).proxy_pass(request, "/")
            finally:
                await checker.stop()

        assert site.doing(endpoint).fetch().body == b"1"


def test_a_target_has_no_more_requests_than_it_may(named: list[Upstream]) -> None:
    one, two, three = (upstream.url for upstream in named)
    checker = HealthChecker(
        [
            {"host": one, "maxrequests": 2},
            {"host": two, "maxrequests": 3},
            {"host": three, "maxrequests": 0},
        ],
        interval=3600,
    )
    balancer = LoadBalancer(checker)
    with pytest.raises(RuntimeError, match="max_requests"):
        _ = balancer.max_requests
    with pytest.raises(RuntimeError, match="max_requests"):
        balancer.max_requests = 1
    with checked(checker, balancer) as port:
        answers = [fetch(port) for _ in range(6)]
        assert Counter(answer.body for answer in answers[:5]) == {b"0": 2, b"1": 3}
        assert answers[5].status == 503
        assert balancer.get() is None


def test_requests_are_counted_anew_after_each_check(named: list[Upstream]) -> None:
    site = Site()
    checker = HealthChecker([upstream.url for upstream in named[:2]], interval=3600)
    balancer = LoadBalancer(checker)
    balancer.max_requests = 2
    assert balancer.max_requests == 2

    async def endpoint(request: Request) -> Response:
        if request.url.path == "/check":
            await checker.check_all()
        return await balancer.proxy_pass(request, "/")

    with serve(make_app(site.doing(endpoint))) as server:
        site.port = server.port
        for first in ("/", "/check"):
            answers = [site.fetch(first), *(site.fetch() for _ in range(4))]
            assert [answer.status for answer in answers] == [200] * 4 + [503]
            assert Counter(answer.body for answer in answers[:4]) == {b"0": 2, b"1": 2}
        balancer.max_requests = None
        assert site.fetch().status == 200
        balancer.max_requests = 1

        async def last(request: Request) -> Response:
            # It begins anew, and so do the counts.
            await checker.stop()
            response = await endpoint(request)
            await checker.stop()
            return response

        assert site.doing(last).fetch().status == 200


def test_another_timeout_than_the_usual(named: list[Upstream]) -> None:
    def hanging(exchange: Exchange) -> None:
        if exchange.request.method == b"HEAD":
            exchange.respond()
        else:
            exchange.hang()

    with Upstream(hanging) as upstream:
        checker = HealthChecker([{"host": upstream.url + "/base"}], interval=3600)
        balancer = LoadBalancer(checker)
        app = FastAPI()

        @app.get("/")
        async def gateway(request: Request) -> Any:
            with pytest.raises(HTTPException) as error:
                await balancer.proxy_pass(request, "/x", timeout=1)
            await checker.stop()
            return error.value.status_code

        with serve(app) as server:
            assert fetch(server.port).body == b"504"
        upstream.settle()
        assert upstream.requests[-1].target == b"/base/x"


def test_another_timeout_changes_nothing_else(named: list[Upstream]) -> None:
    with Upstream(scripts.answer(500)) as ill, Upstream(scripts.ok) as dying:
        checker = HealthChecker(
            [ill.url, dying.url, f"{named[0].url}/base"],
            interval=3600,
            balance="round_robin",
            extra_request_headers={"X-Key": "ours"},
        )
        balancer = LoadBalancer(checker)

        async def endpoint(request: Request) -> Response:
            return await balancer.proxy_pass(request, "/x", timeout=5)

        async def other(request: Request) -> Response:
            await (checker.stop if request.url.path == "/stop" else checker.start)()
            return JSONResponse({})

        site = Site()
        with serve(make_app(site.doing(other))) as server:
            site.port = server.port
            assert site.fetch("/start").status == 200
            dying.stop()
            site.doing(endpoint)
            assert [site.fetch().body for _ in range(10)] == [b"0"] * 10
            assert checker.is_healthy(dying.url)
            asked = named[0].requests[1:]
            assert {request.target for request in asked} == {b"/base/x"}
            assert {request.value("x-key") for request in asked} == {b"ours"}
            assert len(ill.requests) == 1
            assert site.doing(other).fetch("/stop").status == 200
            asked[-1].connection.wait_closed()


@pytest.mark.parametrize(
    ("servers", "error", "named_"),
    [
        ("http://a", TypeError, "servers"),
        (5, TypeError, "servers"),
        (["a", 5], TypeError, r"servers\[1\]: a int"),
        (["http://a", "https://b"], ValueError, "servers: https://b"),
        (["http://a", "http://a/"], ValueError, "servers: http://a "),
        (["ftp://a"], ValueError, r"servers\[0\]: .*ftp"),
        (["http://a", "http://a", "ftp://b"], ValueError, r"servers\[2\]: .*ftp"),
    ],
)
def test_what_is_wrong_is_named(servers: Any, error: type[Exception], named_: str) -> None:
    with pytest.raises(error, match=f"^{named_}"):
        LoadBalancer(servers)


def test_an_index_that_is_none() -> None:
    balancer = LoadBalancer(["http://a", "http://b"])
    for index in (-1, 2):
        with pytest.raises(IndexError):
            balancer.set_index(index)
    with pytest.raises(RuntimeError, match="set_index"):
        LoadBalancer(HealthChecker(["http://a"])).set_index(0)
    with pytest.raises(ValueError, match="max_requests"):
        balancer.max_requests = -1
