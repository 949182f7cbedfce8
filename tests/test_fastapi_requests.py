"""Headers and bodies that `proxy_pass` sends: the client's, or what the arguments say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response

from asgi_relay.fastapi import LoadBalancer, RelayedResponse, proxy_pass
from asgi_relay.fastapi._relays import Relays

from .support import scripts
from .support.client import fetch
from .support.servers import serve
from .support.site import FRAMEWORKS, METHODS, Site, arrived, served
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


# -- headers ---------------------------------------------------------------------------------------


def test_what_a_proxy_adds_is_added(site: Site, upstream: Upstream) -> None:
    site.passing(upstream)
    headers = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"), ("A", "1")]
    request = arrived(site, upstream, headers=[*headers, ("A", "2")])
    # The server has put the client's word in the place of its address: it trusts 127.0.0.1.
    assert request.value("x-forwarded-for") == b"192.0.2.1, 192.0.2.1"
    assert request.value("x-forwarded-proto") == b"https"
    assert request.value("x-forwarded-host") == b"relay.test"
    assert request.value("host") == upstream.authority.encode()
    assert request.values("a") == [b"1", b"2"]
    assert request.values("user-agent") == request.values("accept-encoding") == []


def test_cookies_of_one_client_do_not_go_with_another(site: Site, upstream: Upstream) -> None:
    with Upstream(scripts.answer(headers=[("Set-Cookie", "who=ada; Path=/")])) as setting:
        site.passing(setting)
        for _ in range(2):
            site.fetch("/")
        assert [request.values("cookie") for request in setting.requests] == [[], []]


def test_additional_headers_replace_those_of_the_same_name(site: Site, upstream: Upstream) -> None:
    site.passing(upstream, additional_headers={"X-API-Key": "ours", "New": "café"})
    headers = [("x-api-key", "theirs"), ("x-api-key", "too"), ("Old", "stays")]
    request = arrived(site, upstream, headers=headers)
    assert request.values("x-api-key") == [b"ours"]
    assert request.value("new") == "café".encode("latin-1")
    assert request.value("old") == b"stays"


def test_override_headers_stand_for_the_clients(site: Site, upstream: Upstream) -> None:
    site.passing(upstream, override_headers={"A": "1"}, additional_headers={"B": "2"})
    headers = [("Cookie", "secret"), ("Content-Type", "text/plain"), ("B", "client's")]
    request = arrived(site, upstream, method="POST", headers=headers, body=b"abc")
    assert (request.value("a"), request.values("b")) == (b"1", [b"2"])
    assert request.value("cookie") is request.value("content-type") is None
    assert request.wait_complete().body == b"abc"
    assert request.value("content-length") == b"3"
    assert request.value("x-forwarded-for") == b"127.0.0.1"
    assert request.value("x-forwarded-host") == b"relay.test"


def test_the_clients_headers_given_back_change_nothing(site: Site, upstream: Upstream) -> None:
    async def endpoint(request: Request) -> Response:
        return await proxy_pass(request, upstream.url, override_headers=dict(request.headers))

    site.doing(endpoint)
    request = arrived(site, upstream, method="POST", headers=[("A", "1")], body=b"abc")
    assert request.value("host") == upstream.authority.encode()
    assert request.value("content-length") == b"3"
    assert request.value("a") == b"1"


def test_forwarded_headers_that_are_given_win_over_the_computed(
    site: Site, upstream: Upstream
) -> None:
    given = {
        "X-Forwarded-For": "198.51.100.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
    }
    site.passing(upstream, additional_headers=given)
    request = arrived(site, upstream, headers=[("X-Forwarded-For", "192.0.2.1")])
    assert {name: request.value(name) for name in given} == {
        name: text.encode() for name, text in given.items()
    }
    assert request.value("host") == upstream.authority.encode()


@pytest.mark.parametrize("host", ["tenant.example", "relay.test"])
def test_another_host_and_the_clients_own(site: Site, upstream: Upstream, host: str) -> None:
    site.passing(upstream, override_host=host)
    request = arrived(site, upstream)
    assert request.value("host") == host.encode()
    assert request.value("x-forwarded-host") == b"relay.test"


def test_a_host_among_the_headers_is_not_the_upstreams(site: Site, upstream: Upstream) -> None:
    site.passing(upstream, additional_headers={"Host": "no", "Content-Length": "9"})
    request = arrived(site, upstream, method="POST", body=b"abc")
    assert request.value("host") == upstream.authority.encode()
    assert request.value("content-length") == b"3"


def test_user_information_of_the_host_is_sent_and_not_told(site: Site, upstream: Upstream) -> None:
    site.passing(upstream.url.replace("//", "//ada:pw@"))
    assert arrived(site, upstream).value("authorization") == b"Basic YWRhOnB3"
    balancer = LoadBalancer([upstream.url.replace("//", "//ada:pw@")])

    async def endpoint(request: Request) -> Response:
        return await balancer.proxy_pass(request)

    site.doing(endpoint)
    assert arrived(site, upstream).value("authorization") == b"Basic YWRhOnB3"
    with pytest.raises(ValueError, match="host") as error:
        Relays({}).find("ftp://ada:pw@upstream", 1)
    assert "pw" not in str(error.value)


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [method for method in METHODS if method != "HEAD"])
def test_bodies_of_every_method_with_their_framing(
    site: Site, upstream: Upstream, method: str
) -> None:
    site.passing(upstream)
    whole = arrived(site, upstream, method=method, body=b"a\0b").wait_complete()
    assert (whole.method.decode(), whole.body) == (method, b"a\0b")
    assert (whole.value("content-length"), whole.value("transfer-encoding")) == (b"3", None)
    none = arrived(site, upstream, method=method)
    assert none.value("transfer-encoding") is None
    assert none.value("content-length") in (None, b"0")
    with site.client() as client:
        client.start(method, "/x", chunked=True)
        client.send_chunks([b"ab", b"c"])
        assert client.read().status == 200
    chunked = upstream.requests[-1].wait_complete()
    assert (chunked.body, chunked.value("transfer-encoding")) == (b"abc", b"chunked")


def test_a_large_upload_streams_with_its_length(site: Site, upstream: Upstream) -> None:
    site.passing(upstream)
    size = 8 * 1024 * 1024
    request = arrived(site, upstream, method="PUT", body=bytes(size)).wait_complete()
    assert request.body_size == size
    assert request.value("content-length") == str(size).encode()


@pytest.mark.parametrize("how", ["whole", "chunked", "none"])
def test_a_body_that_was_read_already_is_sent(site: Site, upstream: Upstream, how: str) -> None:
    async def endpoint(request: Request) -> Response:
        assert await request.body() == (b"" if how == "none" else b"abc")
        return await proxy_pass(request, upstream.url)

    site.doing(endpoint)
    with site.client() as client:
        if how == "chunked":
            client.start("POST", "/x", chunked=True)
            client.send_chunks([b"ab", b"c"])
            assert client.read().status == 200
        else:
            client.request("POST", "/x", body=b"abc" if how == "whole" else None)
    request = upstream.requests[-1].wait_complete()
    assert request.body == (b"" if how == "none" else b"abc")
    assert request.value("content-length") == (None if how == "none" else b"3")
    assert request.value("transfer-encoding") is None


@pytest.mark.parametrize(
    ("body", "arrives"),
    [
        (b"\0\xff", b"\0\xff"),
        ("é", "é".encode()),
        ({"a": [1]}, b'{"a": [1]}'),
        ([1, "b"], b'[1, "b"]'),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("client_body", [None, b"x" * 100_000])
def test_another_body_takes_the_place_of_the_clients(
    site: Site, upstream: Upstream, body: Any, arrives: bytes, client_body: bytes | None
) -> None:
    site.passing(upstream, override_body=body, method="PUT")
    request = arrived(site, upstream, method="POST", body=client_body).wait_complete()
    assert (request.method, request.body) == (b"PUT", arrives)
    assert request.value("content-length") == str(len(arrives)).encode()
    assert request.value("transfer-encoding") is None
    json = isinstance(body, list | dict)
    assert request.value("content-type") == (b"application/json" if json else None)


def test_another_body_keeps_the_type_that_is_set(site: Site, upstream: Upstream) -> None:
    site.passing(upstream, override_body={}, additional_headers={"Content-Type": "application/x"})
    assert arrived(site, upstream, method="POST").value("content-type") == b"application/x"


OF_OTHER_OCTETS = {
    "Content-Encoding": "gzip",
    "Content-MD5": "x",
    "Content-Digest": "sha-256=:x:",
    "Repr-Digest": "sha-256=:x:",
    "Digest": "sha-256=x",
}


@pytest.mark.parametrize(("body", "kind"), [({}, b"application/json"), (b"x", b"text/x")])
def test_what_the_client_has_said_of_its_body_is_not_said_of_another(
    site: Site, upstream: Upstream, body: Any, kind: bytes
) -> None:
    site.passing(upstream, override_body=body)
    headers = [*OF_OTHER_OCTETS.items(), ("Content-Type", "text/x"), ("Content-Language", "de")]
    request = arrived(site, upstream, method="POST", headers=headers, body=b"theirs")
    assert [request.value(name) for name in OF_OTHER_OCTETS] == [None] * len(OF_OTHER_OCTETS)
    assert request.values("content-type") == [kind]
    assert request.value("content-language") == b"de"
    site.passing(upstream, override_body=body, override_headers=OF_OTHER_OCTETS)
    request = arrived(site, upstream, method="POST", body=b"theirs")
    assert request.value("content-encoding") == b"gzip"
    site.passing(upstream)
    request = arrived(site, upstream, method="POST", headers=headers, body=b"theirs")
    assert [request.value(name) for name in OF_OTHER_OCTETS] == [
        text.encode() for text in OF_OTHER_OCTETS.values()
    ]


@pytest.mark.parametrize("method", ["get", "HEAD"])
def test_a_get_that_is_asked_for_has_no_body(site: Site, upstream: Upstream, method: str) -> None:
    site.passing(upstream, method=method)
    for chunked in (False, True):
        with site.client() as client:
            client.start("POST", "/x", length=None if chunked else 3, chunked=chunked)
            if chunked:
                client.send_chunks([b"abc"])
            else:
                client.send(b"abc")
            assert client.read().status == 200
        request = upstream.requests[-1]
        assert request.method == method.upper().encode()
        assert request.values("content-length") == request.values("transfer-encoding") == []


@pytest.mark.parametrize("asked", ["GET", "HEAD", "POST"])
def test_the_answer_to_a_head_is_whole_for_whoever_asked_otherwise(site: Site, asked: str) -> None:
    """It tells the length of a body that does not come: only to HEAD is that a whole answer."""
    seen: list[str | None] = []

    async def endpoint(request: Request) -> Response:
        response = await proxy_pass(request, one.url, method="HEAD")
        seen.append(response.headers.get("content-length"))
        return response

    with (
        Upstream(scripts.answer(body=b"hello")) as one,
        site.doing(endpoint).client() as client,
    ):
        for _ in range(2):
            response = client.request(asked)
            assert (response.status, response.body) == (200, b"")
            assert response.value("content-length") == (b"5" if asked == "HEAD" else b"0")
    assert seen == ["5", "5"]


class Item(BaseModel):
    name: str


def test_in_a_router_and_a_dependency_beside_a_parsed_body(upstream: Upstream) -> None:
    app = FastAPI()

    async def passed(request: Request) -> RelayedResponse:
        return await proxy_pass(request, upstream.url)

    @app.post("/items", response_model=None)
    async def items(
        item: Item,
        response: RelayedResponse = Depends(passed),  # noqa: B008
    ) -> Response:
        response.headers["x-name"] = item.name
        return response

    with serve(app) as server:
        body = b'{ "name": "n" }'
        headers = [("Content-Type", "application/json")]
        response = fetch(server.port, "/items", method="POST", headers=headers, body=body)
        assert (response.status, response.value("x-name")) == (200, b"n")
    assert upstream.requests[-1].wait_complete().body == body
