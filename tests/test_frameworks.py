"""Relay mounted in each framework: the mount is cut off the path and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lilya.apps import Lilya
from lilya.routing import Include as LilyaInclude
from ravyn import Include, Ravyn
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_relay import Relay

from .support import scripts
from .support.apps import FRAMEWORKS, mount
from .support.client import Client, TruncatedError, fetch
from .support.servers import SERVERS, serve
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from .support.asgi import ASGIApp
    from .support.exchange import Script
    from .support.wire import HeaderItems

PATHS = [
    "/login?x=%2F",
    "/a%2Fb%20c",
    "/%E2%82%AC",
    "/%e2%82%ac?%C3%A9=%zz",
    "/a/",
    "/",
    "//x",
    "/a//b",
    "//",
    "/auth",
    "/auth/auth/",
    "/a;v=1,2/$&'()*+=:@!~",
    "/?",
    "/??a=b?c",
    "/%00%09",
    "/x.y/..z",
]
"""Below the mount, as the client sends it; a bare ? may go."""

PAIRS = [
    (framework, kind)
    for framework in FRAMEWORKS
    for kind in SERVERS
    # Quart needs asyncio.
    if (framework, kind) != ("quart", "hypercorn-trio")
]

ROOTED = [
    (framework, kind)
    for framework in FRAMEWORKS
    for kind in ("uvicorn-asyncio-httptools", "hypercorn-asyncio", "granian")
    # uvicorn puts its root before the path, where the dispatcher around Quart looks for the mount.
    if (framework, kind) != ("quart", "uvicorn-asyncio-httptools")
]


def mounted(framework: str, prefix: str | tuple[str, ...], relay: Relay) -> ASGIApp:
    return mount(framework, prefix, relay, relay.startup, relay.shutdown)


def test_the_mount_is_cut_off_and_the_octets_stay(framework: str) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serve(mounted(framework, "/auth", Relay(upstream.url))) as server,
    ):
        for path in PATHS:
            assert fetch(server.port, "/auth" + path).status == 200
        arrived = [request.target.decode() for request in upstream.requests]
    assert arrived == [path.removesuffix("?") for path in PATHS]


@pytest.mark.parametrize(("framework", "kind"), PAIRS)
def test_each_framework_under_each_server(framework: str, kind: str) -> None:
    with Upstream(scripts.echo) as upstream:
        app = mounted(framework, "/auth", Relay(upstream.url))
        with serve(app, kind) as server, Client(server.port) as client:
            assert client.request("GET", "/auth/login?x=%2F").status == 200
            assert client.request("POST", "/auth/login", body=b"who").body == b"who"
        assert upstream.requests[0].line == b"GET /login?x=%2F HTTP/1.1"
        assert upstream.requests[1].line == b"POST /login HTTP/1.1"
        assert len(upstream.connections) == 1
        upstream.connections[0].wait_closed()


def test_nested_mounts_are_cut_off(framework: str) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serve(mounted(framework, ("/outer", "/auth"), Relay(upstream.url))) as server,
    ):
        for path in PATHS:
            assert fetch(server.port, "/outer/auth" + path).status == 200
        arrived = [request.target.decode() for request in upstream.requests]
    assert arrived == [path.removesuffix("?") for path in PATHS]


@pytest.mark.parametrize(("framework", "kind"), ROOTED)
def test_the_servers_root_path_is_no_part_of_the_path(framework: str, kind: str) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serve(mounted(framework, "/auth", Relay(upstream.url)), kind, root_path="/outer") as server,
    ):
        for path in PATHS:
            assert fetch(server.port, "/auth" + path).status == 200
        arrived = [request.target.decode() for request in upstream.requests]
    assert arrived == [path.removesuffix("?") for path in PATHS]


@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "quart"])
def test_the_servers_root_path_and_nested_mounts(framework: str) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        with serve(mounted(framework, ("/in", "/auth"), relay), root_path="/outer") as server:
            assert fetch(server.port, "/in/auth/login?x=%2F").status == 200
        assert upstream.requests[0].target == b"/login?x=%2F"


def test_a_mount_whose_name_the_path_repeats(framework: str) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serve(mounted(framework, "/a", Relay(upstream.url))) as server,
    ):
        for path in ("/a/a", "/a/a/a", "/a/%61"):
            assert fetch(server.port, path).status == 200
        assert [request.target for request in upstream.requests] == [b"/a", b"/a/a", b"/%61"]


@pytest.mark.parametrize("framework", ["plain", "quart", "litestar"])
def test_the_bare_mount_is_the_upstreams_root(framework: str) -> None:
    # The other frameworks redirect to the path with a slash, before any app of theirs is asked.
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url + "/base", upstream_prefix="/api")
        with serve(mounted(framework, "/auth", relay)) as server:
            assert fetch(server.port, "/auth").status == 200
        assert upstream.requests[0].target in (b"/base/api", b"/base/api/")


@pytest.mark.parametrize("framework", ["ravyn", "lilya", "starlette"])
def test_a_mount_with_a_parameter_in_its_path(framework: str) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        apps: dict[str, ASGIApp] = {
            "ravyn": Ravyn(routes=[Include("/t/{name}", app=relay)]),
            "lilya": Lilya(routes=[LilyaInclude("/t/{name}", app=relay)]),
            "starlette": Starlette(routes=[Mount("/t/{name}", app=relay)]),
        }
        with serve(apps[framework]) as server:
            assert fetch(server.port, "/t/acme/login%2F").status == 200
        assert upstream.requests[0].target == b"/login%2F"


def test_base_path_and_prefix_come_before_the_rest(framework: str) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url + "/base", upstream_prefix="/api/v2")
        with serve(mounted(framework, "/auth", relay)) as server:
            assert fetch(server.port, "/auth/login?x").status == 200
        assert upstream.requests[0].target == b"/base/api/v2/login?x"


@pytest.mark.parametrize(
    "escape", ["/..", "/../admin", "/%2e%2e/admin", "/a/../../admin", "/.%2E/"]
)
def test_no_path_climbs_above_the_prefix(framework: str, escape: str) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url, upstream_prefix="/api")
        with serve(mounted(framework, "/auth", relay)) as server:
            # Litestar resolves the dots itself and may find that no route is left.
            assert fetch(server.port, "/auth" + escape).status in (400, 404)
        assert upstream.requests == []


def test_each_method_and_its_body_pass(framework: str) -> None:
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND"]
    with (
        Upstream(scripts.reflect) as upstream,
        serve(mounted(framework, "/auth", Relay(upstream.url))) as server,
    ):
        for method in methods:
            assert fetch(server.port, "/auth/x", method=method).status == 200
            body = fetch(server.port, "/auth/y", method=method, body=b"a\0b").body
            assert body.startswith(f"{method} /y HTTP/1.1\r\n".encode())
            assert body.endswith(b"\r\n\r\na\0b")
        assert fetch(server.port, "/auth/x", method="HEAD").body == b""


def test_an_answer_passes_unchanged(framework: str) -> None:
    headers: HeaderItems = [
        ("Content-Type", "application/x; q=1"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2, c; Path=/"),
        ("X-Latin", b"caf\xe9"),
        ("Content-Encoding", "gzip"),
        ("Retry-After", "7"),
    ]
    with (
        Upstream(scripts.answer(503, headers, b"\x1f\x8bnot really")) as upstream,
        serve(mounted(framework, "/auth", Relay(upstream.url))) as server,
    ):
        response = fetch(server.port, "/auth/x")
    assert (response.status, response.body) == (503, b"\x1f\x8bnot really")
    assert response.values("set-cookie") == [b"a=1; Path=/", b"b=2, c; Path=/"]
    assert response.value("x-latin") == b"caf\xe9"
    assert response.value("content-encoding") == b"gzip"
    assert response.value("retry-after") == b"7"
    assert response.value("content-type") == b"application/x; q=1"


def test_an_upstream_that_is_down_is_a_502(framework: str) -> None:
    with refusing() as url, serve(mounted(framework, "/auth", Relay(url))) as server:
        response = fetch(server.port, "/auth/x")
    assert response.status == 502
    assert response.body.startswith(b"Upstream error")
    assert b"127.0.0.1" not in response.body
    assert (response.value("content-type") or b"").startswith(b"text/plain")


@pytest.mark.parametrize("script", [scripts.cut_length(b"abc"), scripts.cut_chunked(b"abc")])
def test_a_cut_answer_is_seen_as_cut(framework: str, script: Script) -> None:
    with (
        Upstream(script) as upstream,
        serve(mounted(framework, "/auth", Relay(upstream.url))) as server,
        pytest.raises(TruncatedError) as cut,
    ):
        fetch(server.port, "/auth/x")
    assert cut.value.after == 3


def test_the_hooks_start_and_stop_the_relay(framework: str) -> None:
    with Upstream(scripts.ok) as upstream:
        relay = Relay(upstream.url)
        with serve(mounted(framework, "/auth", relay)) as server:
            assert "running" in repr(relay)
            fetch(server.port, "/auth/x")
            assert not upstream.connections[0].closed_by_peer.is_set()
        upstream.connections[0].wait_closed()
        assert "not started" in repr(relay)
        with serve(mounted(framework, "/auth", relay)) as server:
            assert fetch(server.port, "/auth/x").status == 200


def test_a_relay_that_no_hook_starts_works(framework: str) -> None:
    with (
        Upstream(scripts.ok) as upstream,
        serve(mount(framework, "/auth", Relay(upstream.url))) as server,
    ):
        assert fetch(server.port, "/auth/x").status == 200


def test_two_relays_in_one_app() -> None:
    with Upstream(scripts.answer(body=b"one")) as one, Upstream(scripts.answer(body=b"two")) as two:
        first, second = Relay(one.url), Relay(two.url)
        app = Ravyn(
            routes=[Include("/one", app=first), Include("/onetwo", app=second)],
            on_startup=[first.startup, second.startup],
            on_shutdown=[first.shutdown, second.shutdown],
        )
        with serve(app) as server:
            assert fetch(server.port, "/one/x").body == b"one"
            assert fetch(server.port, "/onetwo/x").body == b"two"
            assert fetch(server.port, "/onet/x").status == 404
