"""Headers and framing on their way back to the client; lists of names for both ways.

Cookies are in test_cookies, what must not cross in test_smuggling.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Relay

from .support import scripts, wire
from .support.client import fetch
from .support.direct import Call
from .support.front import called, relayed
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .conftest import Serve
    from .support.client import Response
    from .support.exchange import Request
    from .support.wire import HeaderItems

HEAD = b"HTTP/1.1 200 OK\r\n"


def answered(headers: HeaderItems, body: bytes = b"ok", **settings: Any) -> Call:
    """What the app sends for an upstream's answer with these headers; no server adds its own."""
    with Upstream(scripts.answer(headers=headers, body=body)) as upstream:
        return called(Call(), upstream.url, **settings)


def passed(headers: HeaderItems, **settings: Any) -> Response:
    """What the client gets for an upstream's answer with these headers."""
    script = scripts.answer(headers=headers)
    with Upstream(script) as upstream, relayed(upstream.url, **settings) as front:
        return front.fetch()


# -- what passes -----------------------------------------------------------------------------------


def test_headers_pass_as_octets_with_their_duplicates_in_order() -> None:
    headers: list[tuple[str, str | bytes]] = [
        ("Content-Type", "text/plain"),
        ("X-A", "1"),
        ("X-Utf-8", "€".encode()),
        ("X-Latin-1", b"caf\xe9\xff"),
        ("x-a", "2"),
        ("X-Empty", ""),
        ("X-Spaces", "a  b"),
        ("X-A", "3, 4"),
        ("Vary", "a"),
        ("Vary", "b"),
        ("WWW-Authenticate", 'Basic realm="x"'),
        ("WWW-Authenticate", "Bearer"),
    ]
    response = passed(headers)
    for name in {name for name, _ in headers}:
        expected = [wire.octets(value) for key, value in headers if key.lower() == name.lower()]
        assert response.values(name) == expected


def test_nothing_is_added() -> None:
    call = answered([("X-A", "1")])
    assert call.response_headers == [(b"x-a", b"1"), (b"content-length", b"2")]


def test_two_hundred_header_lines_pass() -> None:
    headers = [(f"X-{number}", str(number)) for number in range(200)]
    response = passed(headers)
    assert [response.value(name) for name, _ in headers] == [value.encode() for _, value in headers]


def test_a_status_and_no_reason_pass() -> None:
    script = scripts.say(b"HTTP/1.1 418 \r\nContent-Length: 2\r\n\r\nok")
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert front.fetch().status == 418


@pytest.mark.parametrize("status", [200, 201, 206, 299, 300, 399, 400, 404, 451, 500, 599])
def test_every_status_passes(status: int) -> None:
    with Upstream(scripts.answer(status)) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
        assert (response.status, response.body) == (status, b"ok")


@pytest.mark.parametrize(
    "name", ["Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Upgrade"]
)
def test_hop_by_hop_headers_go(name: str) -> None:
    assert answered([(name, "x")]).response_values(name) == []


def test_what_connection_names_goes() -> None:
    call = answered([("X-Hop", "1"), ("Connection", "X-Hop, keep-alive"), ("X-Other", "2")])
    assert call.response_values("x-hop") == []
    assert call.response_values("connection") == []
    assert call.response_values("x-other") == [b"2"]


def test_connection_cannot_take_the_length_away() -> None:
    assert answered([("Connection", "Content-Length")]).response_values("content-length") == [b"2"]


# -- Date and Server -------------------------------------------------------------------------------


def test_where_no_server_adds_its_own_date_and_server_are_the_upstream_s() -> None:
    lines = [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "upstream")]
    with Upstream(scripts.answer(headers=lines)) as upstream:
        call = called(Call(extra={"asgi": {"version": "3.0"}}), upstream.url)
    assert call.response_values("date") == [b"Thu, 01 Jan 1970 00:00:00 GMT"]
    assert call.response_values("server") == [b"upstream"]


@pytest.mark.parametrize("sends", [True, False], ids=["upstream-sends", "upstream-sends-none"])
def test_date_and_server_are_not_doubled(server: Serve, sends: bool) -> None:
    lines = [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "upstream")] if sends else []
    with Upstream(scripts.answer(headers=lines)) as upstream:
        response = fetch(server(Relay(upstream.url)).port)
    assert len(response.values("date")) == 1
    assert len(response.values("server")) == 1


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(b"hello " * 1000, mtime=0)),
        (b"deflate", zlib.compress(b"hello " * 1000)),
        (b"br", b"\x8b\x02\x80not really brotli"),
        (b"gzip", b"not even gzip"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"hello", mtime=0), mtime=0)),
        (b"unheard-of", b"\0\1\2"),
    ],
)
def test_lilya_defect_an_encoded_body_is_not_decoded(coding: bytes, body: bytes) -> None:
    """Lilya decodes it and leaves the header on, so that the client gets nothing it can read."""
    headers = [("Content-Encoding", coding)]
    script = scripts.answer(headers=headers, body=body)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        response = front.fetch(headers=[("Accept-Encoding", "gzip")])
    assert response.body == body
    assert response.value("content-encoding") == coding
    assert response.value("content-length") == str(len(body)).encode()


def test_a_known_length_stays_one_and_an_unknown_one_is_chunked() -> None:
    chunked = scripts.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    script = scripts.in_turn(scripts.ok, chunked)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        known, unknown = front.fetch(), front.fetch()
    assert known.value("content-length") == b"2"
    assert known.value("transfer-encoding") is None
    assert unknown.value("content-length") is None
    assert unknown.value("transfer-encoding") == b"chunked"
    assert (known.body, unknown.body) == (b"ok", b"ok")


@pytest.mark.parametrize(
    ("method", "said", "length"),
    [
        ("HEAD", HEAD + b"Content-Length: 1234\r\n\r\n", b"1234"),
        ("HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", HEAD + b"Content-Length: 0\r\n\r\n", b"0"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', None),
        ("HEAD", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', None),
        ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", b"0"),
    ],
    ids=["head", "head-chunked", "head-0", "204", "204-length", "304", "head-304", "205"],
)
def test_answers_without_a_body_are_framed_right(
    method: str, said: bytes, length: bytes | None
) -> None:
    script = scripts.in_turn(scripts.say(said), scripts.ok)
    with (
        Upstream(script) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        response = client.request(method)
        assert response.body == b""
        assert response.value("content-length") == length
        # The client's connection is in step still.
        assert client.request().body == b"ok"
        assert front.raised == []


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_responses_are_swallowed(status: int) -> None:
    interim = wire.status_head(status, [("Link", "</style.css>")])
    script = scripts.say(interim * 3 + HEAD + b"Content-Length: 2\r\n\r\nok")
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
    assert (response.interim, response.status, response.body) == ([], 200, b"ok")
    assert response.value("link") is None


# -- lists of names --------------------------------------------------------------------------------


def requested(headers: HeaderItems, **settings: Any) -> Request:
    with Upstream(scripts.ok) as upstream, relayed(upstream.url, **settings) as front:
        assert front.fetch(method="PUT", headers=headers, body=b"body").status == 200
        return upstream.requests[0]


def test_lilya_defect_an_extra_header_replaces_the_client_s_of_that_name() -> None:
    """Lilya sends the client's `x-api-key` beside the configured one."""
    sent = [("x-api-key", "client"), ("X-API-KEY", "client too")]
    request = requested(sent, extra_request_headers={"X-Api-Key": "ours"})
    assert request.values("x-api-key") == [b"ours"]


@pytest.mark.parametrize(
    "name", ["Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Authorization"]
)
def test_an_extra_header_is_stronger_than_what_is_computed(name: str) -> None:
    request = requested(
        [(name, "client")] if name != "Host" else [], extra_request_headers={name: "ours"}
    )
    assert request.values(name) == [b"ours"]


def test_an_extra_header_passes_an_allow_list() -> None:
    request = requested([], extra_request_headers={"X-Key": "k"}, allow_request_headers=[])
    assert request.value("x-key") == b"k"


def test_an_extra_header_cannot_be_taken_away_by_connection() -> None:
    sent = [("Connection", "X-Key")]
    assert requested(sent, extra_request_headers={"X-Key": "k"}).value("x-key") == b"k"


def test_dropped_request_headers_go_whatever_their_case() -> None:
    sent = [("X-Internal", "1"), ("x-INTERNAL", "2"), ("Authorization", "Bearer"), ("X-A", "3")]
    request = requested(sent, drop_request_headers=["x-internal", "AUTHORIZATION"])
    assert request.values("x-internal") + request.values("authorization") == []
    assert request.value("x-a") == b"3"


def test_lilya_defect_a_list_of_allowed_request_headers_is_heeded() -> None:
    """Lilya ignores its allow-lists."""
    sent = [("X-A", "1"), ("X-B", "2"), ("Cookie", "c=d"), ("User-Agent", "x"), ("x-a", "3")]
    request = requested(sent, allow_request_headers=["X-a"])
    assert request.values("x-a") == [b"1", b"3"]
    assert sorted(name.lower() for name, _ in request.headers) == [
        b"content-length",
        b"host",
        b"x-a",
        b"x-a",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    ]
    assert request.body == b"body"


def test_what_is_allowed_and_dropped_is_dropped() -> None:
    sent = [("X-A", "1"), ("X-B", "2")]
    request = requested(sent, allow_request_headers=["x-a", "x-b"], drop_request_headers=["x-a"])
    assert (request.value("x-a"), request.value("x-b")) == (None, b"2")


def test_dropped_response_headers_go_whatever_their_case() -> None:
    call = answered(
        [("X-Debug", "1"), ("X-A", "2"), ("x-debug", "3")], drop_response_headers=["X-DEBUG"]
    )
    assert call.response_headers == [(b"x-a", b"2"), (b"content-length", b"2")]


def test_lilya_defect_a_list_of_allowed_response_headers_is_heeded() -> None:
    headers = [("X-A", "1"), ("X-B", "2"), ("Set-Cookie", "a=b"), ("Content-Type", "text/plain")]
    call = answered(headers, allow_response_headers=["x-a", "CONTENT-TYPE"])
    assert sorted(call.response_headers) == [
        (b"content-length", b"2"),
        (b"content-type", b"text/plain"),
        (b"x-a", b"1"),
    ]
    assert call.body == b"ok"


def test_an_empty_allow_list_leaves_the_framing() -> None:
    response = passed([("X-A", "1")], allow_response_headers=[])
    assert response.value("x-a") is None
    assert (response.value("content-length"), response.body) == (b"2", b"ok")


def test_a_drop_list_cannot_break_the_framing() -> None:
    with (
        Upstream(scripts.echo) as upstream,
        relayed(
            upstream.url,
            drop_request_headers=["content-length", "host"],
            drop_response_headers=["content-length"],
        ) as front,
        front.client() as client,
    ):
        for body in (b"first", b"second"):
            assert client.request("POST", body=body).body == body
