"""The path that `proxy_pass` asks for: the client's octets, or what the argument makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from asgi_relay.fastapi import proxy_pass

from .support import scripts
from .support.servers import serve
from .support.site import FRAMEWORKS, Site, arrived, make_app, served
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("unowned")


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.ok) as upstream:
        yield upstream


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/x?y=%2F",
        "/a%2Fb%20c",
        "/%E2%82%AC",
        "/%e2%82%ac?%C3%A9=%zz",
        "//x//",
        "/a;v=1",
        "/%00",
    ],
)
def test_the_path_goes_octet_by_octet(site: Site, upstream: Upstream, target: str) -> None:
    site.passing(upstream)
    assert arrived(site, upstream, target).target == target.encode()


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/login", b"/login"),
        ("login", b"/login"),
        ("", b"/"),
        ("/a b", b"/a%20b"),
        ("/€", b"/%E2%82%AC"),
        ("/a%2Fb", b"/a%2Fb"),
        ("/100%", b"/100%25"),
        ("/a#b", b"/a%23b"),
        ("//a//b/", b"//a//b/"),
        ("/a?b=c d", b"/a?b=c%20d"),
        ("/a?b=c?d", b"/a?b=c?d"),
    ],
)
def test_a_given_path_is_taken_and_what_must_be_is_encoded(
    site: Site, upstream: Upstream, path: str, arrives: bytes
) -> None:
    site.passing(upstream, path=path)
    assert arrived(site, upstream, "/whatever").target == arrives


@pytest.mark.parametrize(
    ("path", "forward_query", "arrives"),
    [
        ("/a", True, b"/a?q=%2F"),
        ("/a?b=c", True, b"/a?b=c&q=%2F"),
        ("/a?b=c", False, b"/a?b=c"),
        ("/a", False, b"/a"),
        (None, False, b"/x"),
    ],
)
def test_a_query_in_the_path_goes_before_the_clients(
    site: Site, upstream: Upstream, path: str | None, forward_query: bool, arrives: bytes
) -> None:
    site.passing(upstream, path=path, forward_query=forward_query)
    assert arrived(site, upstream, "/x?q=%2F").target == arrives


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb",
        "/%2f",
        "/a%3Fb",
        "/a%23b",
        "/%E2%82%AC/%20//c",
        "/%2525",
        "//",
        "/a",
        "/%ff",
        "/caf%E9/%2F%E2%82/%FE%FF%2Fx",
    ],
)
def test_the_endpoints_path_parameter_gets_its_octets_back(
    site: Site, upstream: Upstream, target: str
) -> None:
    """As in `proxy_pass(request, host, path=f"/{path}")`, with what the framework has decoded."""

    async def endpoint(request: Request) -> Response:
        return await proxy_pass(request, upstream.url, path="/" + request.path_params["path"])

    site.doing(endpoint)
    assert arrived(site, upstream, target).target == target.encode()


@pytest.mark.parametrize(
    ("target", "path", "arrives"),
    [
        ("/a%2Fb", "/b", b"/b"),
        ("/%E9%A9%A9", "/é", b"/%C3%A9"),
        ("/a%2Fb", "/x/a/b", b"/x/a%2Fb"),
        ("/a%2Fb", "/xa/b", b"/xa/b"),
        ("/a%20b/", "/c", b"/c"),
        ("/a/%ff", "/x/%ff", b"/x/%ff"),
        ("/a/%ff", "/x/\ufffd", b"/x/%ff"),
        ("/a%2F%ff", "/x/\ufffd", b"/x/%EF%BF%BD"),
    ],
)
def test_a_path_that_ends_as_the_clients_by_chance(
    site: Site, upstream: Upstream, target: str, path: str, arrives: bytes
) -> None:
    site.passing(upstream, path=path)
    assert arrived(site, upstream, target).target == arrives


def test_the_end_of_a_rewritten_path_keeps_its_octets(site: Site, upstream: Upstream) -> None:
    async def endpoint(request: Request) -> Response:
        rest = request.path_params["path"].removeprefix("api/")
        return await proxy_pass(request, upstream.url, path=f"/v2 x/{rest}?y=1")

    site.doing(endpoint)
    assert arrived(site, upstream, "/api/a%2Fb/c").target == b"/v2%20x/a%2Fb/c?y=1"


def test_a_base_path_of_the_host_stays_in_front(site: Site, upstream: Upstream) -> None:
    for host in (upstream.url + "/base", upstream.url + "/base/"):
        site.passing(host)
        assert arrived(site, upstream, "/x?y").target == b"/base/x?y"
        site.passing(host, path="/z")
        assert arrived(site, upstream, "/x").target == b"/base/z"


def test_a_host_without_a_scheme_is_http(site: Site, upstream: Upstream) -> None:
    site.passing(upstream.authority)
    assert arrived(site, upstream).value("host") == upstream.authority.encode()


@pytest.mark.parametrize("path", [None, "/../admin", "/a/../../admin", "/%2e%2e/admin"])
def test_no_path_climbs_above_the_base(site: Site, upstream: Upstream, path: str | None) -> None:
    before = len(upstream.requests)
    site.passing(upstream.url + "/base", path=path)
    answer = site.fetch("/%2e%2e/admin")
    assert answer.status == 400
    assert b"Bad request: the path leaves the area that is served here" in answer.body
    assert len(upstream.requests) == before


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("root_path", ["", "/outer"])
def test_a_mounted_app_sends_the_whole_path(
    framework: str, root_path: str, upstream: Upstream
) -> None:
    site = Site(framework).passing(upstream)
    inner = make_app(site)
    outer: Any = Starlette(routes=[Mount("/in", app=inner)])
    if framework == "fastapi":
        outer = FastAPI()
        outer.mount("/in", inner)
    with serve(outer, root_path=root_path) as server:
        site.port = server.port
        whole = f"{root_path}/in/a%2Fb?c".encode()
        assert arrived(site, upstream, "/in/a%2Fb?c").target == whole
        site.passing(upstream, path="/d")
        assert arrived(site, upstream, "/in/a?c").target == b"/d?c"
