"""Requests that try to be two, or to reach the upstream with a head that is not what it seems.

Most are given to the app as a scope, since servers refuse them: the relay must not rely on that.
What upstreams send is in test_smuggling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay import Relay

from .support import scripts
from .support.client import Client, fetch
from .support.direct import Call
from .support.front import called
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from .conftest import Serve

HOST = (b"host", b"relay.test")


def assert_refused(call: Call, **settings: Any) -> None:
    with Upstream(scripts.ok) as upstream:
        called(call, upstream.url, **settings)
        assert upstream.connections == []
    assert call.status == 400
    assert call.body.startswith(b"Bad request: ")
    assert call.response_values("content-type") == [b"text/plain; charset=utf-8"]
    assert b"evil" not in call.body.lower()


# -- octets that no line may hold ------------------------------------------------------------------

BREAKS = [b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rx-evil: 1", b"a\0b", b"a\x01b", b"a\x7fb"]
IDS = ["crlf", "lf", "cr", "nul", "control", "delete"]


@pytest.mark.parametrize("value", BREAKS, ids=IDS)
@pytest.mark.parametrize(
    "name",
    [b"x-a", b"cookie", b"authorization", b"host", b"x-forwarded-for"],
)
def test_a_value_with_a_line_break_or_a_control_character_is_a_400(
    name: bytes, value: bytes
) -> None:
    assert_refused(Call(headers=[(name, value)]))


@pytest.mark.parametrize("value", BREAKS, ids=IDS)
def test_two_cookies_of_http_2_with_a_line_break_are_a_400(value: bytes) -> None:
    headers = [(b"cookie", b"a=b"), (b"cookie", value)]
    assert_refused(Call(headers=headers, extra={"http_version": "2"}))


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"two words",
        b"x-a:",
        b"x-a\r\nx-evil",
        b"x-a\0",
        b"x-\xe2\x82\xac",
        b"(x)",
        b" x",
        b"x ",
    ],
)
def test_a_name_that_is_no_token_is_a_400(name: bytes) -> None:
    assert_refused(Call(headers=[HOST, (name, b"evil")]))


@pytest.mark.parametrize(
    "method", ["GET /evil HTTP/1.1\r\nX-Evil:", "GE T", "", "GET\0", "G\u20acT"]
)
def test_a_method_that_is_no_token_is_a_400(method: str) -> None:
    assert_refused(Call(method))


@pytest.mark.parametrize(
    "path",
    [b"/a\r\nx-evil: 1", b"/a b", b"/a\nb", b"/a\0b", b"/a\tb", b"/a HTTP/1.1\r\n\r\nGET /evil"],
)
def test_a_raw_path_that_would_break_the_request_line_is_a_400(path: bytes) -> None:
    assert_refused(Call(extra={"raw_path": path, "path": path.decode()}))


@pytest.mark.parametrize("query", [b"a\r\nx-evil: 1", b"a b", b"a\0b", b"a\nb", b"a#b"])
def test_a_query_that_would_break_the_request_line_is_a_400(query: bytes) -> None:
    assert_refused(Call(extra={"query_string": query}))


def test_a_path_without_its_raw_octets_is_encoded_again() -> None:
    call = Call(extra={"raw_path": None, "path": "/a b\r\nx-evil: 1/\u20ac?%#"})
    with Upstream(scripts.reflect) as upstream:
        called(call, upstream.url)
        request = upstream.requests[0]
    assert request.target == b"/a%20b%0D%0Ax-evil:%201/%E2%82%AC%3F%25%23"
    assert request.value("x-evil") is None


@pytest.mark.parametrize("address", ["192.0.2.7\r\nX-Evil: 1", "a\0b", "a\nb"])
def test_a_client_address_with_a_line_break_is_a_400(address: str) -> None:
    assert_refused(Call(extra={"client": (address, 1)}))


def test_connect_is_a_400() -> None:
    assert_refused(Call("CONNECT"))


# -- framing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths",
    [
        [b"5", b"6"],
        [b"5, 6"],
        [b"+5"],
        [b"-5"],
        [b"0x5"],
        [b"5 5"],
        [b""],
        [b"5,"],
        [b"five"],
        [b"\xb2"],
        [b"99999999999999999999"],
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_a_400(lengths: list[bytes]) -> None:
    headers = [HOST, *((b"content-length", length) for length in lengths)]
    assert_refused(Call("POST", headers=headers, pieces=[b"evil!"]))


@pytest.mark.parametrize(
    "coding",
    [b"gzip, chunked", b"chunked, gzip", b"xchunked", b"identity", b"", b"chunked, chunked"],
)
def test_a_transfer_coding_that_is_not_chunked_is_a_400(coding: bytes) -> None:
    headers = [HOST, (b"transfer-encoding", coding)]
    assert_refused(Call("POST", headers=headers, pieces=[b"evil!"]))


@pytest.mark.parametrize("lengths", [[b"5", b"5"], [b"5, 5"]])
def test_a_length_that_repeats_itself_crosses_once(lengths: list[bytes]) -> None:
    headers = [HOST, *((b"content-length", length) for length in lengths)]
    with Upstream(scripts.ok) as upstream:
        assert called(Call("POST", headers=headers, pieces=[b"hello"]), upstream.url).status == 200
        assert upstream.requests[0].values("content-length") == [b"5"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_length_and_a_coding_only_the_coding_crosses(order: int) -> None:
    """RFC 9112 §6.3: Transfer-Encoding overrides Content-Length, which must not be forwarded."""
    framing = [(b"content-length", b"4"), (b"transfer-encoding", b"chunked")][::order]
    call = Call("POST", headers=[HOST, *framing], pieces=[b"GET /evil", b" HTTP/1.1\r\n\r\n"])
    with Upstream(scripts.ok) as upstream:
        called(call, upstream.url)
        assert [request.target for request in upstream.requests] == [b"/"]
        request = upstream.requests[0]
    assert request.values("content-length") == []
    assert request.values("transfer-encoding") == [b"chunked"]
    assert request.body == b"GET /evil HTTP/1.1\r\n\r\n"


def test_octets_beyond_the_length_never_cross() -> None:
    evil = b"GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    call = Call("POST", headers=[HOST, (b"content-length", b"2")], pieces=[b"ok", evil])
    with Upstream(scripts.ok) as upstream:
        _finish(call, upstream.url)
        upstream.wait_connections().wait_done()
        assert all(request.target == b"/" for request in upstream.requests)
        assert all(b"evil" not in request.raw for request in upstream.requests)


def test_a_body_that_is_shorter_than_its_length_is_never_whole() -> None:
    call = Call("POST", headers=[HOST, (b"content-length", b"9")], pieces=[b"shor", b"t"])
    with Upstream(scripts.ok) as upstream:
        _finish(call, upstream.url)
        upstream.wait_connections().wait_done()
        # What came of it depends on how fast the RST was.
        assert not any(request.complete.is_set() for request in upstream.requests)
    assert call.status == 400


AMBIGUOUS = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4",
    b"Content-Length: 4\r\nContent-Length: 40",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"X-A: a\r\n X-Evil: 1\r\nContent-Length: 4",
    b"X-A: a\rX-Evil: 1\r\nContent-Length: 4",
    b"X-A: a\0b\r\nContent-Length: 4",
]


def test_what_a_server_lets_in_reaches_the_upstream_as_one_request_or_not_at_all(
    server: Serve,
) -> None:
    body = b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    head = b"POST /front HTTP/1.1\r\nHost: relay.test\r\nConnection: close\r\n"
    with Upstream(scripts.ok) as upstream:
        serving = server(Relay(upstream.url))
        for fields in AMBIGUOUS:
            with Client(serving.port) as client:
                client.send(head, fields, b"\r\n\r\n", body)
                client.finish()
                client.read_until_closed()
            if serving.kind == "hypercorn-trio":
                # It may have made an end of itself (see `servers`).
                serving = server(Relay(upstream.url))
        # The upstream is strict, so a fold or a second framing is an error of the test already.
        for request in upstream.requests:
            assert b"evil" not in request.target
            assert request.value("x-evil") is None
            assert len(request.values("content-length") + request.values("transfer-encoding")) <= 1


def test_a_chunked_body_with_trailers_and_extensions_crosses_without_them() -> None:
    # h11, as httptools refuses trailers.
    with (
        Upstream(scripts.echo) as upstream,
        serve(Relay(upstream.url), "uvicorn-asyncio-h11") as server,
        Client(server.port) as client,
    ):
        client.start("POST", chunked=True)
        client.send(b"2;name=value\r\nok\r\n0\r\nX-Evil: 1\r\n\r\n")
        assert client.read().body == b"ok"
        request = upstream.requests[0]
    assert b"evil" not in request.raw.lower()
    assert request.raw.endswith(b"2\r\nok\r\n0\r\n\r\n")


def test_an_absolute_target_reaches_the_configured_upstream_alone(server: Serve) -> None:
    with Upstream(scripts.ok) as upstream, Upstream(scripts.ok) as other:
        port = server(Relay(upstream.url)).port
        fetch(port, f"{other.url}/path?query", host=other.authority)
        assert other.connections == []
        for request in upstream.requests:
            assert request.value("host") == upstream.authority.encode()


def _finish(call: Call, target: str) -> None:
    """Make a call that may end in any way, as its client is the one that is at fault."""

    async def run() -> None:
        async with Relay(target, timeout=2) as relay:
            with anyio.move_on_after(PATIENCE) as scope:
                await call(relay)
            assert not scope.cancelled_caught

    anyio.run(run)
