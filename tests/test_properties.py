"""Whatever a server lets in arrives octet by octet, and whatever the upstream says comes back so.

Hypothesis makes up the requests; real servers and a real upstream decide what is legal.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_relay import Relay

from .support import wire
from .support.client import Client, Response, TruncatedError
from .support.servers import serve
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Exchange, Request

# The same examples each time: a run that fails can be repeated.
bounded = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

BASE = b"/base"
COMPUTED = {b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
FRAMING = {b"content-length", b"transfer-encoding"}
# Names with a meaning for proxies, servers or HTTP/1.1 itself, each a test of its own elsewhere.
SPECIAL = {
    *COMPUTED,
    *FRAMING,
    *[b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect"],
    *[b"proxy-authenticate", b"proxy-authorization", b"date", b"server"],
}


@dataclass
class Chain:
    """A client, a server with a relay, and an upstream that answers as it is told."""

    port: int
    upstream: Upstream
    answer: bytes = b""
    _client: Client | None = field(default=None, repr=False)

    def request(self, *octets: bytes, method: bytes = b"GET") -> Response:
        """The answer to a request on a connection that is kept as long as the server keeps it."""
        if self._client is None:
            self._client = Client(self.port)
        try:
            self._client.send(*octets)
            response = self._client.read(method=method)
        except (TruncatedError, ConnectionError):
            self.hang_up()
            raise
        if response.value("connection") == b"close" or response.status == 400:
            self.hang_up()
        return response

    def alive(self) -> int:
        return sum(request.target == BASE + b"/alive" for request in self.upstream.requests)

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def last(self) -> Request:
        return self.upstream.requests[-1].wait_complete()


@pytest.fixture(scope="module", params=["uvicorn-uvloop-h11", "uvicorn-uvloop-httptools"])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(found.answer)
        if found.answer.startswith(b"HTTP/1.0"):
            exchange.close()

    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(script))
        relay = Relay(upstream.url + BASE.decode())
        found = Chain(stack.enter_context(serve(relay, request.param)).port, upstream)
        yield found
        found.hang_up()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
escape = st.sampled_from(["%2F", "%2f", "%20", "%00", "%0d%0a", "%E2%82%AC", "%FF", "%", "%zz"])
segment = st.sampled_from([".", "..", "%2e", "%2E%2e", "..;x", "", "a", "\\", "//"])
path = st.lists(
    st.one_of(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?")),
        escape,
        segment.map(lambda text: f"/{text}/"),
    ),
    max_size=6,
).map(lambda parts: ("/" + "".join(parts)).encode())
query = st.text(st.one_of(visible.filter(lambda c: c != "#")), max_size=20).map(str.encode)

token = st.text(
    st.sampled_from(
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ),
    min_size=1,
    max_size=12,
).map(str.encode)
name = st.one_of(token, st.sampled_from([b"Cookie", b"Set-Cookie", b"X-A", b"x-a", b"Accept"]))
name = name.filter(lambda octets: octets.lower() not in SPECIAL)
# Servers let them in, and a URI cannot carry them: they go up percent-encoded.
NOT_IN_A_URI = b'"<>`'
# Field content (RFC 9110 §5.5): visible, obs-text, and white space inside.
value = st.lists(
    st.one_of(st.integers(0x20, 0x7E), st.integers(0x80, 0xFF), st.just(0x09)), max_size=20
).map(lambda numbers: bytes(numbers).strip(b" \t"))
headers = st.lists(st.tuples(name, value), max_size=8)
body = st.binary(max_size=400)


def is_refused_by_the_server(response: Response) -> bool:
    return response.status == 400 and response.body == b"Invalid HTTP request received."


def may_climb(octets: bytes) -> bool:
    """Whether a reader of any persuasion might take some part of it for `..`."""
    plain = re.sub(rb"%2e", b".", octets, flags=re.IGNORECASE)
    return b".." in plain


@bounded
@given(path=path, query=query)
@example(path=b"/", query=b"")
@example(path=b"//host/a", query=b"?")
@example(path=b"/%2e%2e%2fx", query=b"a=%2F")
@example(path=b"/a/..", query=b"..")
@example(path=b"/<`>", query=b'"<>')
def test_any_target_arrives(chain: Chain, path: bytes, query: bytes) -> None:
    chain.answer = OK
    target = path + b"?" + query if query else path
    before = len(chain.upstream.requests)
    response = chain.request(wire.head(b"GET %s HTTP/1.1" % target, [("Host", "h")]))
    if response.status == 400:
        assert len(chain.upstream.requests) == before
        assert is_refused_by_the_server(response) or may_climb(path)
    else:
        assert response.status == 200
        arrived, sent = chain.last().target, BASE + target
        if set(sent).isdisjoint(NOT_IN_A_URI):
            assert arrived == sent
        else:
            assert unquote_to_bytes(arrived) == unquote_to_bytes(sent)


@bounded
@given(headers=headers)
@example(headers=[(b"X-A", b""), (b"x-a", b"\xff\x80\t\xe2"), (b"X-a", b"1")])
@example(headers=[(b"Cookie", b"a=1"), (b"X-B", b"x"), (b"cookie", b"b=2")])
def test_any_headers_arrive(chain: Chain, headers: wire.Headers) -> None:
    chain.answer = OK
    response = chain.request(wire.head(b"GET / HTTP/1.1", [("Host", "h"), *headers]))
    if is_refused_by_the_server(response):
        return
    assert response.status == 200
    arrived = [line for line in chain.last().headers if line[0].lower() not in COMPUTED]
    assert by_name(arrived) == by_name(headers)


@bounded
@given(body=body, cuts=st.one_of(st.none(), st.lists(st.integers(1, 120), max_size=6)))
@example(body=b"", cuts=None)
@example(body=b"", cuts=[])
@example(body=b"\r\n0\r\n\r\n", cuts=[1, 1, 1])
def test_any_body_arrives(chain: Chain, body: bytes, cuts: list[int] | None) -> None:
    chain.answer = OK
    framing, octets = framed(body, cuts)
    response = chain.request(wire.head(b"PUT /x HTTP/1.1", [("Host", "h"), framing]), octets)
    assert response.status == 200
    arrived = chain.last()
    assert arrived.body == body
    lengths = arrived.values("content-length")
    assert lengths == ([] if cuts is not None else [str(len(body)).encode()])


STATUSES = st.integers(200, 599).filter(lambda status: status not in {204, 205, 304})
ENDINGS = st.one_of(st.none(), st.just("close"), st.lists(st.integers(1, 120), max_size=6))


@bounded
@given(status=STATUSES, headers=headers, body=body, ending=ENDINGS)
@example(
    status=599,
    headers=[(b"Set-Cookie", b"a"), (b"X", b""), (b"set-cookie", b"b")],
    body=b"",
    ending="close",
)
def test_any_answer_arrives(
    chain: Chain, status: int, headers: wire.Headers, body: bytes, ending: list[int] | str | None
) -> None:
    if ending == "close":
        first, octets = b"HTTP/1.0 %d Reason" % status, body
        chain.answer = wire.head(first, headers) + octets
    else:
        assert not isinstance(ending, str)
        framing, octets = framed(body, ending)
        chain.answer = wire.head(b"HTTP/1.1 %d Reason" % status, [*headers, framing]) + octets
    response = chain.request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (response.status, response.body) == (status, body)
    expected, arrived = by_name(headers), by_name(response.headers)
    assert {name: arrived.get(name) for name in expected} == expected
    assert arrived.keys() - expected.keys() <= {b"date", b"server", b"connection", *FRAMING}


@settings(bounded, max_examples=60)
@given(
    octets=st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([b"\r\n", b": ", b"GET / HTTP/1.1\r\nHost: h\r\n"]),
        ),
        max_size=8,
    )
)
def test_any_octets_at_all_leave_the_chain_alive(chain: Chain, octets: list[bytes]) -> None:
    """What comes over the wire may be anything: nothing but whole requests reach the upstream."""
    chain.answer = OK
    with Client(chain.port) as client, contextlib.suppress(ConnectionError):
        client.send(*octets, b"\r\n\r\n")
        client.finish()
        client.read_until_closed()
    before = chain.alive()
    assert chain.request(b"GET /alive HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
    # Not the last one: what came in before may arrive later, over another connection.
    assert chain.alive() == before + 1
    assert chain.upstream.errors == []


def by_name(headers: wire.Headers) -> dict[bytes, list[bytes]]:
    """The values of each name, in order; names are without case."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    return found


def framed(body: bytes, cuts: list[int] | None) -> tuple[tuple[bytes, bytes], bytes]:
    """A body as it goes over the wire, and the header that says how: a length, or chunks."""
    if cuts is None:
        return (b"Content-Length", b"%d" % len(body)), body
    pieces: list[bytes] = []
    for size in cuts:
        pieces.append(body[:size])
        body = body[size:]
    chunks = b"".join(wire.chunk(piece) for piece in [*pieces, body] if piece)
    return (b"Transfer-Encoding", b"chunked"), chunks + b"0\r\n\r\n"
