"""Headers that an endpoint gives for one request are its own: no client, no list touches them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from asgi_relay import ConsistentHash
from asgi_relay.fastapi import HealthChecker, LoadBalancer, proxy_pass

from .support import scripts
from .support.site import Site, arrived, served
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Request as Arrived
    from .support.exchange import Script

pytestmark = pytest.mark.usefixtures("unowned")

GIVEN = {"X-User": "ada", "Authorization": "ours", "X-Trace": "1"}
ARGUMENTS = ["additional_headers", "override_headers"]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.ok) as upstream:
        yield upstream


@contextlib.contextmanager
def passing(script: Script, argument: str, **settings: Any) -> Iterator[tuple[Site, Upstream]]:
    """A site whose `Proxy` has settings, with `GIVEN` for an argument."""
    with Upstream(script) as upstream, served(**settings) as site:
        yield site.passing(upstream, **{argument: GIVEN}), upstream


def given(request: Arrived) -> dict[str, bytes | None]:
    return {name: request.value(name) for name in GIVEN}


EXPECTED = {name: text.encode() for name, text in GIVEN.items()}


@pytest.mark.parametrize("body", [None, b"abc"])
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_client_cannot_have_them_taken_for_its_connections(
    site: Site, upstream: Upstream, argument: str, body: bytes | None
) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.9"} if argument == "additional_headers" else {}
    site.passing(upstream, **{argument: {**GIVEN, **forwarded}})
    names = ", ".join(["close", *GIVEN, "X-Forwarded-For"])
    headers = [("Connection", names), ("X-User", "theirs")]
    request = arrived(site, upstream, method="POST", headers=headers, body=body)
    assert given(request) == EXPECTED
    assert request.values("x-user") == [b"ada"]
    expected = b"198.51.100.9" if forwarded else b"127.0.0.1"
    assert request.values("x-forwarded-for") == [expected]


def test_nor_say_what_a_program_takes_for_them(site: Site, upstream: Upstream) -> None:
    """CGI and WSGI write `-` as `_`."""
    site.passing(upstream, additional_headers={"X-User": "ada", "X_Role": "none", "Host": "no"})
    theirs = [("X_User", "eve"), ("x-role", "admin"), ("X-User-Name", "eve"), ("X_Other", "1")]
    request = arrived(site, upstream, headers=theirs)
    assert request.values("x-user") == [b"ada"]
    assert request.values("x_role") == [b"none"]
    assert [request.value(name) for name in ("x_user", "x-role")] == [None, None]
    assert [request.value(name) for name in ("x-user-name", "x_other")] == [b"eve", b"1"]
    assert request.value("host") is not None


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_nor_in_the_handshake_of_a_websocket(site: Site, argument: str) -> None:
    accept = Accept()
    with Upstream(accept) as upstream, WebSocketClient(site.port) as client:
        site.passing(upstream, **{argument: GIVEN})
        client.open("/", [("Connection", "Upgrade, X-User, X-Trace"), ("X-User", "theirs")])
        assert given(accept.peer().request) == EXPECTED


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_the_lists_of_a_proxy_are_for_what_clients_send(argument: str) -> None:
    lists = {"allow_request_headers": ["x-a"], "drop_request_headers": ["authorization"]}
    with passing(scripts.ok, argument, **lists) as (site, upstream):
        request = arrived(site, upstream, headers=[("X-B", "1"), ("Authorization", "theirs")])
        assert given(request) == EXPECTED
        assert request.value("x-b") is None


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_they_win_over_those_of_a_proxy_and_over_user_information(argument: str) -> None:
    extra = {"x-user": "anybody", "x-other": "stays", "x-forwarded-proto": "https"}
    with passing(scripts.ok, argument, extra_request_headers=extra) as (site, upstream):
        site.passing(upstream.url.replace("//", "//ada:pw@"), **{argument: GIVEN})
        request = arrived(site, upstream)
        assert given(request) == EXPECTED
        assert request.value("x-other") == b"stays"
        assert request.value("x-forwarded-proto") == b"https"


def test_a_forwarded_host_is_no_host() -> None:
    with Upstream(scripts.ok) as upstream, served(preserve_host=True) as site:
        site.passing(upstream, additional_headers={"X-Forwarded-Host": "shop.example"})
        request = arrived(site, upstream)
        assert request.value("host") == b"relay.test"
        assert request.value("x-forwarded-host") == b"shop.example"


def test_what_is_computed_is_computed_from_those_that_stand_for_the_clients(
    site: Site, upstream: Upstream
) -> None:
    async def endpoint(request: Request) -> Response:
        return await proxy_pass(request, upstream.url, override_headers=dict(request.headers))

    site.doing(endpoint)
    headers = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", "theirs")]
    request = arrived(site, upstream, headers=headers)
    # The server has put the client's word in the place of its address: it trusts 127.0.0.1.
    assert request.values("x-forwarded-for") == [b"192.0.2.1, 192.0.2.1"]
    assert request.values("x-forwarded-host") == [b"relay.test"]


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("body", [None, b"abc"])
def test_they_do_not_follow_a_redirect_to_another_origin(argument: str, body: bytes | None) -> None:
    with Upstream(scripts.ok) as other:
        script = scripts.answer(307, [("Location", other.url)])
        with passing(script, argument, follow_redirects=True) as (site, upstream):
            also = {**GIVEN, "Content-Type": "text/x"}
            site.passing(upstream, **{argument: also})
            assert site.fetch(method="PUT", body=body).status == 200
            assert given(upstream.requests[0]) == EXPECTED
        (request,) = other.requests
        assert given(request) == dict.fromkeys(GIVEN)
        # That is about the body, which goes along.
        assert request.value("content-type") == b"text/x"


def test_they_follow_a_redirect_within_the_origin() -> None:
    script = scripts.in_turn(scripts.answer(302, [("Location", "/next")]), scripts.ok)
    with passing(script, "additional_headers", follow_redirects=True) as (site, upstream):
        assert site.fetch().status == 200
        assert [given(request) for request in upstream.requests] == [EXPECTED] * 2


def test_a_hash_is_made_of_what_is_given(site: Site) -> None:
    with Upstream(scripts.answer(body=b"a")) as one, Upstream(scripts.answer(body=b"b")) as two:
        balance = ConsistentHash(header="x-tenant")
        checker = HealthChecker([one.url, two.url], interval=3600, balance=balance)
        balancer = LoadBalancer(checker)

        async def endpoint(request: Request) -> Response:
            headers = {"X-Tenant": request.query_params["tenant"]}
            return await balancer.proxy_pass(request, "/", additional_headers=headers)

        site.doing(endpoint)
        clients = [("X-Tenant", "mine")]
        asked = [site.fetch(f"/?tenant={at % 20}", headers=clients).body for at in range(60)]
        assert asked[:20] == asked[20:40] == asked[40:]
        assert set(asked) == {b"a", b"b"}

        async def stop(request: Request) -> Response:
            await checker.stop()
            return Response()

        assert site.doing(stop).fetch().status == 200
