"""Which target the upstream is asked for: octets unchanged, below the base path, never above it.

How mounts are cut off is in test_frameworks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_relay import Relay

from .support import scripts
from .support.apps import mount
from .support.client import fetch
from .support.direct import Call
from .support.front import called, relayed
from .support.servers import serve
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .conftest import Serve


def arrives(target: str | bytes, *, base: str = "", **settings: Any) -> bytes:
    """The target that the upstream is asked for."""
    with Upstream(scripts.ok) as upstream, relayed(upstream.url + base, **settings) as front:
        assert front.fetch(target).status == 200
        return upstream.requests[0].target


def called_with(base: str = "", **extra: Any) -> bytes:
    """The target that the upstream is asked for, for a scope with these keys."""
    with Upstream(scripts.ok) as upstream:
        assert called(Call(extra=extra), upstream.url + base).status == 200
        return upstream.requests[0].target


# -- octets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/x",
        "/x/",
        "//",
        "//x",
        "//host.test/x",
        "///",
        "/a//b///c//",
        "/a%2Fb%2fc",
        "/a%20b+c",
        "/%E2%82%AC",
        "/%e2%82%ac",
        "/%25",
        "/%2525%252F",
        "/%00",
        "/%0d%0aX-Evil:%201",
        "/%ff%fe",
        "/%zz%",
        "/a;x=1;y=2/b",
        "/a:b@c,d!e$f&g'h(i)j*k=l~m.n_o-p",
        "/{a}|[b]^",
        "/.well-known/x",
        "/a/./b",
        "/a/../b",
        "/a/b/..",
        "/a/b/%2e%2E/c",
        "/...",
        "/..a/b",
        "/http://other.test/x",
        "/" + "x" * 8000,
    ],
)
def test_a_path_arrives_as_its_octets(target: str) -> None:
    assert arrives(target) == target.encode()


@pytest.mark.parametrize(
    "query",
    [
        "x=%2F",
        "x=1&x=2&y",
        "a=b=c&&=",
        "x=%E2%82%AC+%20",
        "?",
        "a?b?",
        "/../..",
        "%00%0d%0a",
        "x=[1]{2}|^",
        "x" * 8000,
    ],
)
def test_a_query_arrives_as_its_octets(query: str) -> None:
    assert arrives(f"/x?{query}") == f"/x?{query}".encode()


@pytest.mark.parametrize("target", ["/x", "/x?"])
def test_lilya_defect_no_question_mark_is_added(target: str) -> None:
    """Lilya puts a `?` behind every URL."""
    assert arrives(target) == b"/x"


def test_lilya_defect_a_euro_sign_in_the_path_is_no_500() -> None:
    """The path is `/€` for every framework, and percent-encoded again for the upstream."""
    assert called_with(path="/€", raw_path=None) == b"/%E2%82%AC"
    assert called_with(path="/€", raw_path=b"/%E2%82%AC") == b"/%E2%82%AC"


def test_reverse_proxy_defect_slashes_are_neither_decoded_nor_collapsed() -> None:
    """fastapi-reverse-proxy decodes `%2F` and makes one slash of two."""
    assert arrives("/a%2Fb//c") == b"/a%2Fb//c"


def test_octets_pass_unchanged_on_every_server(server: Serve) -> None:
    with Upstream(scripts.ok) as upstream:
        port = server(Relay(upstream.url)).port
        targets = [b"/a%2Fb//c%20d/%E2%82%AC;x?y=%2F&z=//", b"//x", b"/%zz%?%"]
        for target in targets:
            assert fetch(port, target).status == 200
        assert [request.target for request in upstream.requests] == targets


def test_octets_that_are_not_ascii_arrive_encoded_or_not_at_all(server: Serve) -> None:
    """No server but granian lets them in."""
    with Upstream(scripts.ok) as upstream:
        status = fetch(server(Relay(upstream.url)).port, "/€?€".encode()).status
        assert status in {200, 400}
        for request in upstream.requests:
            assert request.target in {b"/%E2%82%AC?%E2%82%AC", "/€?€".encode()}


@pytest.mark.parametrize(
    ("base", "prefix", "arrived"),
    [("", "/", b"*"), ("/", "", b"*"), ("/base", "/", b"/base/*"), ("", "/v1", b"/v1/*")],
)
def test_the_asterisk_of_options_is_the_whole_upstream(
    server: Serve, base: str, prefix: str, arrived: bytes
) -> None:
    """RFC 9112 §3.2.4; below a base it is not the upstream's to ask for."""
    with Upstream(scripts.ok) as upstream:
        port = server(Relay(upstream.url + base, upstream_prefix=prefix)).port
        assert fetch(port, "*", method="OPTIONS").status == 200
        assert upstream.requests[0].target == arrived


@pytest.mark.parametrize(("method", "target"), [("GET", "*"), ("OPTIONS", "/*")])
def test_any_other_asterisk_is_a_path(method: str, target: str) -> None:
    with Upstream(scripts.ok) as upstream, relayed(upstream.url) as front:
        assert front.fetch(target, method=method).status == 200
        assert upstream.requests[0].target == b"/*"


def test_each_target_has_its_own_asterisk() -> None:
    with Upstream(scripts.ok) as one, Upstream(scripts.ok) as other:
        targets: Any = [one.url, other.url + "/base"]
        with relayed(targets, balance="round_robin") as front:
            for _ in range(2):
                assert front.fetch("*", method="OPTIONS").status == 200
        assert [one.requests[0].target, other.requests[0].target] == [b"*", b"/base/*"]


@pytest.mark.parametrize("target", ["/%FF/x", "/%E2%82/x", "/a%ffb%FE/x"])
def test_a_mount_that_is_not_utf_8_is_cut_off(server: Serve, target: str) -> None:
    """Servers put a replacement character into `path`, and so into `root_path`."""
    with Upstream(scripts.ok) as upstream:
        app = Starlette(routes=[Mount("/{tenant}", app=Relay(upstream.url))])
        assert fetch(server(app).port, target).status == 200
        assert upstream.requests[0].target == b"/x"


# -- base path and prefix --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "prefix", "target", "arrived"),
    [
        ("", "/", "/x", b"/x"),
        ("", "", "/x", b"/x"),
        ("/", "/", "/x", b"/x"),
        ("/", "", "/", b"/"),
        ("", "/api", "/x", b"/api/x"),
        ("", "api", "/x", b"/api/x"),
        ("", "/api/", "/x", b"/api/x"),
        ("", "//api//v1//", "/x", b"/api/v1/x"),
        ("", "/api", "/", b"/api/"),
        ("/base", "/", "/x", b"/base/x"),
        ("/base/", "/", "/x", b"/base/x"),
        ("/base", "", "/x", b"/base/x"),
        ("/base", "/api", "/x", b"/base/api/x"),
        ("/base/", "/api/", "/x/", b"/base/api/x/"),
        ("/base", "/", "//x", b"/base//x"),
        ("/b%20%2F", "/p%2f", "/%2F", b"/b%20%2F/p%2f/%2F"),
    ],
)
def test_lilya_defect_base_path_and_prefix_come_before_the_path(
    base: str, prefix: str, target: str, arrived: bytes
) -> None:
    """Lilya loses the base path."""
    assert arrives(target, base=base, upstream_prefix=prefix) == arrived
    assert arrives(f"{target}?q=/", base=base, upstream_prefix=prefix) == arrived + b"?q=/"


def test_the_bare_mount_is_the_base_itself() -> None:
    assert called_with("/base", path="/auth", raw_path=b"/auth", root_path="/auth") == b"/base"
    assert called_with("/base", path="/auth/", raw_path=b"/auth/", root_path="/auth") == b"/base/"


@pytest.mark.parametrize("framework", ["lilya", "ravyn", "starlette"])
def test_lilya_defect_the_mount_is_stripped(framework: str) -> None:
    """Lilya's relay asks for `/auth/echo` under Lilya, Ravyn and Starlette."""
    with Upstream(scripts.ok) as upstream:
        with serve(mount(framework, "/auth", Relay(upstream.url))) as server:
            assert fetch(server.port, "/auth/echo").status == 200
        assert upstream.requests[0].target == b"/echo"


@pytest.mark.parametrize(
    ("target", "status", "arrived"),
    [
        ("/api/x", 200, b"/x"),
        ("/apifoo", 404, None),
        ("/api/v2/x", 200, b"/v2/x"),
        ("/api/api/x", 200, b"/api/x"),
    ],
)
def test_pyserve_defect_a_mount_matches_whole_segments(
    target: str, status: int, arrived: bytes | None
) -> None:
    """PyServe takes `/apifoo` for something below `/api`."""
    with Upstream(scripts.ok) as upstream:
        with serve(mount("starlette", "/api", Relay(upstream.url))) as server:
            assert fetch(server.port, target).status == status
        assert [request.target for request in upstream.requests] == ([arrived] if arrived else [])


def test_a_root_path_that_is_not_in_the_path_cuts_nothing() -> None:
    assert called_with(path="/apifoo/x", raw_path=b"/apifoo/x", root_path="/api") == b"/apifoo/x"


def test_a_query_in_raw_path_is_not_doubled() -> None:
    """Lilya's and Ravyn's test clients leave it there."""
    arrived = called_with(path="/x", raw_path=b"/x?a=%2F", query_string=b"a=%2F")
    assert arrived == b"/x?a=%2F"


# -- dot segments ----------------------------------------------------------------------------------

CLIMBING = [
    "/..",
    "/../",
    "/../admin",
    "/../../../admin",
    "/a/../../admin",
    "/a/b/../../../admin",
    "/./../admin",
    "//../admin",
    "/a//../../admin",
    "/%2e%2e/admin",
    "/%2E%2E/admin",
    "/.%2e/admin",
    "/%2e./admin",
    "/..%2fadmin",
    "/..%2Fadmin",
    "/%2e%2e%2fadmin",
    "/a%2f..%2f..%2fadmin",
    "/..\\admin",
    "/..%5cadmin",
    "/..%5Cadmin",
    "/a\\..\\..\\admin",
    "/..;/admin",
    "/..;x=y/admin",
    "/%2e%2e;x/admin",
    "/../admin?x",
    "/..?x",
]


@pytest.mark.parametrize("target", CLIMBING)
def test_lilya_defect_a_path_that_climbs_above_the_prefix_is_a_400(target: str) -> None:
    """Lilya sends `/auth/../../../admin` on, and the upstream answers what nobody should see."""
    with Upstream(scripts.ok) as upstream:
        with relayed(upstream.url + "/base", upstream_prefix="/api") as front:
            response = front.fetch(target)
        assert upstream.connections == []
    assert response.status == 400
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert response.body == b"Bad request: the path leaves the area that is served here"


@pytest.mark.parametrize("framework", ["ravyn", "lilya", "starlette", "litestar", "plain"])
def test_no_path_climbs_out_of_a_mount(framework: str) -> None:
    with Upstream(scripts.ok) as upstream:
        app = mount(framework, "/auth", Relay(upstream.url, upstream_prefix="/api"))
        with serve(app) as server:
            for target in CLIMBING:
                assert fetch(server.port, "/auth" + target).status in {400, 404}
        assert upstream.connections == []


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [(b"/%2e%2e/x", "/../x"), (b"/..%2fx", "/../x"), (b"/.%2e%5cx", "/..\\x")],
)
def test_a_path_that_climbs_is_seen_without_a_server(raw_path: bytes, path: str) -> None:
    with Upstream(scripts.ok) as upstream:
        call = called(Call(extra={"raw_path": raw_path, "path": path}), upstream.url)
        assert upstream.connections == []
    assert call.status == 400


def test_a_path_without_raw_octets_that_climbs_is_a_400() -> None:
    with Upstream(scripts.ok) as upstream:
        call = called(Call(extra={"raw_path": None, "path": "/../x"}), upstream.url)
        assert upstream.connections == []
    assert call.status == 400


def test_what_is_encoded_twice_is_passed_as_it_is() -> None:
    """`%252e%252e` is the text `%2e%2e`: decoding it twice would be the upstream's own fault."""
    assert arrives("/%252e%252e/x") == b"/%252e%252e/x"
