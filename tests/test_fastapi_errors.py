"""Where there is no answer `proxy_pass` raises, so that an endpoint can ask another upstream."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import fastapi
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from asgi_relay import Limits, Timeout
from asgi_relay.fastapi import proxy_pass

from .support import scripts
from .support.client import fetch
from .support.exchange import Gate
from .support.front import patience
from .support.site import FRAMEWORKS, Site, served
from .support.upstream import Upstream, refusing
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Script

pytestmark = pytest.mark.usefixtures("unowned")

KEPT = 256 * 1024


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


def failing_over(site: Site, *hosts: str) -> Site:
    """As the document has it: the next upstream where one raises."""

    async def endpoint(request: Request) -> Response:
        for host in hosts[:-1]:
            try:
                return await proxy_pass(request, host)
            except fastapi.HTTPException as error:
                if error.status_code not in (502, 504):
                    raise
        return await proxy_pass(request, hosts[-1])

    return site.doing(endpoint)


@pytest.mark.parametrize(
    ("script", "status", "detail"),
    [
        (None, 502, "Upstream error: cannot connect"),
        (scripts.close, 502, "Upstream error: "),
        (scripts.reset, 502, "Upstream error: "),
        (scripts.say(b"HTTP/1.1 what\r\n\r\n"), 502, "Upstream error: "),
        (scripts.hang, 504, "Gateway Timeout"),
    ],
)
def test_what_goes_wrong_before_the_head_is_raised(
    site: Site, script: Script | None, status: int, detail: str
) -> None:
    raised: list[HTTPException] = []
    timeout = patience(script or scripts.ok)

    async def endpoint(request: Request) -> Response:
        try:
            return await proxy_pass(request, url, timeout=timeout)
        except HTTPException as error:
            raised.append(error)
            raise

    with refusing() as refused, Upstream(script or scripts.ok) as upstream:
        url = refused if script is None else upstream.url
        response = site.doing(endpoint).fetch()
    assert response.status == raised[0].status_code == status
    assert raised[0].detail.startswith(detail)
    assert detail.encode() in response.body
    assert b"127.0.0.1" not in response.body
    assert isinstance(raised[0], fastapi.HTTPException)
    assert raised[0].__cause__ is None


@pytest.mark.parametrize("status", [404, 500, 502, 503, 504])
def test_what_the_upstream_answers_is_returned(site: Site, status: int) -> None:
    with Upstream(scripts.answer(status, [("Retry-After", "7")], b"sorry")) as upstream:
        response = site.passing(upstream).fetch()
    assert (response.status, response.body) == (status, b"sorry")
    assert response.value("retry-after") == b"7"


def test_an_upstream_whose_name_is_unknown(site: Site) -> None:
    response = site.passing("http://nowhere.invalid").fetch()
    assert response.status == 502
    assert b"name cannot be resolved" in response.body


def test_no_connection_free_in_time() -> None:
    gate = Gate()
    limits = Limits(max_connections=1)
    with (
        Upstream(scripts.gated(gate, scripts.ok)) as upstream,
        served(limits=limits) as site,
        site.passing(upstream, timeout=Timeout(5, pool=0.1)).client() as client,
    ):
        client.start()
        upstream.wait_requests()
        assert site.fetch().status == 504
        gate.open()
        assert client.read().status == 200


@pytest.mark.parametrize("how", ["none", "small", "large", "chunked", "in pieces"])
def test_a_body_goes_to_the_next_upstream_as_well(site: Site, how: str) -> None:
    body = {"none": b"", "large": b"x" * 200_000}.get(how, b"abc")
    with (
        refusing() as down,
        Upstream(scripts.close) as bad,
        Upstream(scripts.reflect) as good,
        failing_over(site, down, bad.url, good.url).client() as client,
    ):
        if how == "chunked":
            client.start("POST", chunked=True)
            client.send_chunks([body[:1], body[1:]])
        elif how == "in pieces":
            client.start("POST", length=len(body))
            client.send(body[:1])
            bad.wait_requests()
            client.send(body[1:])
        else:
            client.start("POST", length=len(body) if body else None)
            client.send(body)
        assert client.read().status == 200
        assert good.requests[0].wait_complete().body == body


def test_an_upload_that_is_too_long_to_be_kept_is_a_502_and_not_an_empty_body(site: Site) -> None:
    with (
        Upstream(scripts.close) as bad,
        Upstream(scripts.reflect) as good,
    ):
        body = bytes(4 * KEPT)
        response = failing_over(site, bad.url, good.url).fetch(method="POST", body=body)
        assert response.status == 502
        assert b"body" in response.body
        assert good.requests == []


def test_another_upstream_after_an_answer_that_will_not_do(site: Site) -> None:
    with Upstream(scripts.answer(503)) as bad, Upstream(scripts.reflect) as good:

        async def endpoint(request: Request) -> Response:
            response = await proxy_pass(request, bad.url)
            if response.status_code == 503:
                return await proxy_pass(request, good.url, additional_headers={"X-Second": "1"})
            return response

        response = site.doing(endpoint).fetch(method="POST", body=b"abc")
        assert response.status == 200
        assert good.requests[0].wait_complete().body == b"abc"
        assert good.requests[0].value("x-second") == b"1"


def test_two_upstreams_at_once_take_a_body_that_was_read_and_no_other(site: Site) -> None:
    raised: list[BaseException] = []
    gate = Gate()
    with Upstream(scripts.gated(gate, scripts.echo)) as one, Upstream(scripts.echo) as two:

        async def both(request: Request) -> Response:
            if request.url.path == "/read":
                await request.body()
            answers = await asyncio.gather(
                proxy_pass(request, one.url), proxy_pass(request, two.url), return_exceptions=True
            )
            raised.extend(answer for answer in answers if isinstance(answer, Exception))
            assert isinstance(answers[0], Response)
            return answers[0]

        with site.doing(both).client() as client:
            client.start("POST", chunked=True)
            client.send_chunks([b"a"], last=False)
            one.wait_requests()
            client.send_chunks([b"b"])
            gate.throw_open()
            assert client.read().body == b"ab"
        assert [type(error) for error in raised] == [RuntimeError]
        raised.clear()
        assert site.fetch("/read", method="POST", body=b"ab").body == b"ab"
        assert raised == []
        assert [request.wait_complete().body for request in two.requests] == [b"ab"]


def test_what_was_kept_of_a_body_is_forgotten_once_an_answer_is_sent(site: Site) -> None:
    scopes: list[Any] = []
    with Upstream(scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            scopes.append(request.scope)
            response = await proxy_pass(request, upstream.url)
            assert scopes[0]["asgi_relay.upload"]._messages
            return response

        assert site.doing(endpoint).fetch(method="POST", body=b"abc").status == 200
    assert "asgi_relay.upload" not in scopes[0]


def test_a_stream_that_was_read_and_not_kept_cannot_be_sent(site: Site) -> None:
    raised: list[str] = []
    with Upstream(scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            async for _ in request.stream():
                pass
            with pytest.raises(RuntimeError) as error:
                await proxy_pass(request, upstream.url)
            raised.append(str(error.value))
            return Response()

        assert site.doing(endpoint).fetch(method="POST", body=b"abc").status == 200
        assert "read as a stream" in raised[0]
        assert upstream.requests == []


@pytest.mark.parametrize("rest", [3, 1_000_000])
def test_nor_can_one_of_which_a_part_was_read(site: Site, rest: int) -> None:
    raised: list[str] = []
    partly = threading.Event()
    with Upstream(scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            await anext(request.stream())
            partly.set()
            with pytest.raises(RuntimeError) as error:
                await proxy_pass(request, upstream.url)
            raised.append(str(error.value))
            return Response()

        with site.doing(endpoint).client() as client:
            client.start("POST", length=2 + rest)
            client.send(b"ab")
            assert partly.wait(PATIENCE)
            client.send(bytes(rest))
            assert client.read().status == 200
        assert "part of the request's body" in raised[0]


def test_a_body_that_was_sent_cannot_be_read_again(site: Site) -> None:
    raised: list[str] = []
    with Upstream(scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            response = await proxy_pass(request, upstream.url)
            with pytest.raises(RuntimeError) as error:
                await request.body()
            raised.append(str(error.value))
            return response

        assert site.doing(endpoint).fetch(method="POST", body=b"abc").status == 200
    assert raised == ["Stream consumed"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"host": 5}, "host"),
        ({"host": "ftp://x"}, "host"),
        ({"host": "http://x/?q"}, "host"),
        ({"path": b"/x"}, "path"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"additional_headers": {"X": None}}, "additional_headers"),
        ({"additional_headers": {"a b": "c"}}, "additional_headers"),
        ({"additional_headers": {"a": "b\r\nc: d"}}, "additional_headers"),
        ({"override_headers": ["a"]}, "override_headers"),
        ({"override_headers": {"a": "€"}}, "override_headers"),
        ({"override_body": 5}, "override_body"),
        ({"method": "GET /"}, "method"),
        ({"method": 5}, "method"),
        ({"override_host": 5}, "override_host"),
        ({"override_host": "a\nb"}, "override_host"),
        ({"override_host": "a b"}, "override_host"),
        ({"override_host": "bücher.example"}, "override_host"),
        ({"host": ["http://x"]}, "host: a list"),
    ],
)
def test_a_wrong_argument_is_named(site: Site, arguments: dict[str, Any], named: str) -> None:
    raised: list[Exception] = []

    async def endpoint(request: Request) -> Response:
        try:
            return await proxy_pass(request, **{"host": "http://127.0.0.1:9", **arguments})
        except (TypeError, ValueError) as error:
            raised.append(error)
        return Response()

    assert site.doing(endpoint).fetch().status == 200
    assert named in str(raised[0]).lower()


def test_starlettes_exception_where_fastapi_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "fastapi.exceptions")
    raised: list[Exception] = []

    async def endpoint(request: Request) -> Response:
        try:
            return await proxy_pass(request, url)
        except HTTPException as error:
            raised.append(error)
            raise

    with refusing() as url, served("starlette") as site:
        response = site.doing(endpoint).fetch()
        assert (response.status, type(raised[0])) == (502, HTTPException)
        assert fetch(site.port).body.startswith(b"Upstream error")
