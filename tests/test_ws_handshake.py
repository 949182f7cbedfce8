"""A WebSocket's handshake on its way to the upstream: the policies of HTTP, and its own headers.

The upstream's answer is in test_ws_accept and test_ws_refusals.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Relay

from .support.apps import mount
from .support.front import relayed
from .support.servers import serve
from .support.session import Session, given
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from .support.exchange import Request

COMPUTED = [b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"]
HANDSHAKE = [b"connection", b"sec-websocket-key", b"sec-websocket-version", b"upgrade"]


def names(request: Request) -> list[bytes]:
    return sorted(name.lower() for name, _ in request.headers)


def shaken(target: str = "/x", headers: Any = (), **settings: Any) -> Request:
    """The handshake that the upstream gets for one with these headers."""
    path = settings.pop("base", "")
    offered = settings.pop("subprotocols", ())
    with (
        Upstream(Accept(echo)) as upstream,
        relayed(upstream.url + path, **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open(target, headers, subprotocols=offered)
        client.finish_close()
        return upstream.requests[0]


def handed_up(session: Session, **settings: Any) -> Request:
    """The handshake that the upstream gets for a scope."""
    with Upstream(Accept(echo)) as upstream:
        given(session, upstream.url + settings.pop("base", ""), **settings)
        assert session.state == "open"
        return upstream.requests[0]


# -- where it goes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/", "/x", "/a%2Fb", "//double//", "/%E2%82%AC", "/x?a=b&a=%20c&d", "/x?y?z", "/x/"]
)
def test_path_and_query_pass_as_octets(target: str) -> None:
    assert shaken(target).target == target.encode()


def test_the_base_path_and_the_prefix_come_first() -> None:
    request = shaken("/x?y", base="/base", upstream_prefix="/api")
    assert request.target == b"/base/api/x?y"


@pytest.mark.parametrize("scheme", ["http", "ws", "HTTP", "WS"])
def test_ws_is_http_s_twin(scheme: str) -> None:
    with Upstream(Accept(echo)) as upstream:
        given(Session("/x"), upstream.url.replace("http", scheme))
        assert upstream.requests[0].target == b"/x"


@pytest.mark.parametrize("framework", ["ravyn", "lilya", "starlette", "fastapi", "litestar"])
def test_lilya_defect_the_mount_is_stripped(framework: str) -> None:
    """Under Lilya's Relay `/auth/echo` arrives as it is, and no WebSocket ever connects."""
    with Upstream(Accept(echo)) as upstream:
        relay = Relay(upstream.url, upstream_prefix="/up")
        with (
            serve(mount(framework, "/auth", relay)) as server,
            WebSocketClient(server.port) as client,
        ):
            client.open("/auth/echo%2F?x")
            client.send_text("hello")
            assert client.receive_message() == "hello"
            client.finish_close()
        assert upstream.requests[0].target == b"/up/echo%2F?x"


@pytest.mark.parametrize(
    "extra",
    [
        {"path": "/auth/a b", "raw_path": b"/auth/a%20b", "root_path": "/auth"},
        {"path": "/a b", "raw_path": b"/a%20b", "root_path": "/auth"},
        {"path": "/auth/a b", "raw_path": None, "root_path": "/auth"},
        {"path": "/auth/a b", "raw_path": b"/auth/a%20b?q", "root_path": "/auth"},
    ],
    ids=["whole", "cut", "without-raw-path", "query-in-raw-path"],
)
def test_servers_and_test_clients_differ_in_their_paths(extra: dict[str, Any]) -> None:
    session = Session(extra={**extra, "query_string": b"q"})
    assert handed_up(session).target == b"/a%20b?q"


# -- its own headers -------------------------------------------------------------------------------


def test_nothing_is_invented() -> None:
    request = shaken()
    assert names(request) == sorted(COMPUTED + HANDSHAKE)
    assert request.line == b"GET /x HTTP/1.1"


def test_the_client_s_handshake_stays_on_its_hop() -> None:
    key = b"AAAAAAAAAAAAAAAAAAAAAA=="
    headers = [
        (b"host", b"relay.test"),
        (b"upgrade", b"websocket"),
        (b"connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-key", key),
        (b"sec-websocket-version", b"8"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits, x-own"),
        (b"sec-websocket-accept", b"nonsense"),
        (b"sec-websocket-protocol", b"not-in-the-scope"),
    ]
    request = handed_up(Session(headers=headers))
    assert names(request) == sorted(COMPUTED + HANDSHAKE)
    assert request.value("sec-websocket-version") == b"13"
    assert request.value("sec-websocket-key") != key


def test_each_handshake_has_a_key_of_its_own() -> None:
    with Upstream(Accept(echo)) as upstream, relayed(upstream.url) as front:
        for _ in range(20):
            with WebSocketClient(front.port) as client:
                client.open(key=b"AAAAAAAAAAAAAAAAAAAAAA==")
                client.finish_close()
        keys = {request.value("sec-websocket-key") or b"" for request in upstream.requests}
    assert len(keys) == 20
    assert {len(b64decode(key, validate=True)) for key in keys} == {16}


def test_no_extension_is_offered() -> None:
    request = shaken(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    assert request.values("sec-websocket-extensions") == []


def test_a_scope_without_the_headers_of_an_upgrade_becomes_one_with_them() -> None:
    """As over HTTP/2, where a WebSocket is a CONNECT (RFC 8441)."""
    request = handed_up(Session("/x", extra={"http_version": "2"}))
    assert names(request) == sorted(COMPUTED + HANDSHAKE)


def test_a_body_that_the_client_announces_does_not_go_up() -> None:
    headers = [(b"host", b"relay.test"), (b"content-length", b"5"), (b"expect", b"100-continue")]
    assert names(handed_up(Session(headers=headers))) == sorted(COMPUTED + HANDSHAKE)


# -- subprotocols ----------------------------------------------------------------------------------


def test_subprotocols_are_offered_as_the_client_does() -> None:
    request = shaken(subprotocols=["v2.chat", "chat", "x!#$%&'*+-.^_`|~"])
    assert request.value("sec-websocket-protocol") == b"v2.chat, chat, x!#$%&'*+-.^_`|~"


def test_fastapi_reverse_proxy_defect_none_are_offered_if_the_client_offers_none() -> None:
    """It sends an empty header, and then refuses the client itself."""
    assert shaken().values("sec-websocket-protocol") == []
    nothing: list[Any] = [[], (), None]
    for offered in nothing:
        session = Session(extra={"subprotocols": offered})
        assert handed_up(session).values("sec-websocket-protocol") == []


@pytest.mark.parametrize("bad", ["a\r\nX-Forged: 1", "a\nb", "a\0"])
def test_a_subprotocol_cannot_forge_a_header(bad: str) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session(subprotocols=[bad]), upstream.url)
        assert upstream.requests == []
    assert session.status == 400


# -- the policies of HTTP --------------------------------------------------------------------------


def test_end_to_end_headers_pass() -> None:
    headers = [
        ("User-Agent", "test/1"),
        ("Origin", "https://relay.test"),
        ("Authorization", "Bearer x"),
        ("Cookie", "a=b; c=d"),
        ("X-A", "1"),
        ("X-Utf-8", "€".encode()),
        ("X-Latin-1", b"caf\xe9"),
        ("x-a", "2"),
        ("Accept-Language", "de"),
    ]
    request = shaken(headers=headers)
    assert request.values("x-a") == [b"1", b"2"]
    assert request.value("x-utf-8") == "€".encode()
    assert request.value("x-latin-1") == b"caf\xe9"
    for name in ("User-Agent", "Origin", "Authorization", "Cookie", "Accept-Language"):
        assert request.value(name) == str(dict(headers)[name]).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("TE", "trailers"),
        ("X-Hop", "named by Connection"),
    ],
)
def test_hop_by_hop_headers_stay(name: str, value: str) -> None:
    headers = [("connection", "keep-alive, Upgrade, X-Hop"), ("upgrade", "websocket")]
    session = Session(
        headers=[(b"host", b"relay.test")]
        + [(key.lower().encode(), text.encode()) for key, text in [*headers, (name, value)]]
    )
    request = handed_up(session)
    assert request.values(name) == []
    assert request.values("connection") == [b"Upgrade"]
    assert request.values("upgrade") == [b"websocket"]


def test_host_is_the_target_s_with_its_port_unless_preserved() -> None:
    with Upstream(Accept(echo)) as upstream:
        for preserve, expected in ((False, upstream.authority.encode()), (True, b"relay.test")):
            given(Session(), upstream.url, preserve_host=preserve)
            assert upstream.requests[-1].value("host") == expected


@pytest.mark.parametrize(("scheme", "proto"), [("ws", b"http"), ("wss", b"https")])
def test_what_was_forwarded_is_told(scheme: str, proto: bytes) -> None:
    headers = [
        (b"host", b"relay.test:8080"),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"gopher"),
        (b"x-forwarded-host", b"forged.test"),
    ]
    request = handed_up(Session(headers=headers, extra={"scheme": scheme}))
    assert request.value("x-forwarded-for") == b"203.0.113.9, 192.0.2.7"
    assert request.value("x-forwarded-proto") == proto
    assert request.value("x-forwarded-host") == b"relay.test:8080"


def test_extra_headers_replace_the_client_s() -> None:
    request = shaken(
        headers=[("x-api-key", "client's"), ("Authorization", "Basic x")],
        extra_request_headers={"X-Api-Key": "ours", "authorization": "Bearer ours"},
    )
    assert request.values("x-api-key") == [b"ours"]
    assert request.values("authorization") == [b"Bearer ours"]


def test_dropped_headers_do_not_pass() -> None:
    headers = [("Cookie", "a=b"), ("X-A", "1"), ("X-B", "2")]
    request = shaken(headers=headers, drop_request_headers=["COOKIE", "x-a"])
    assert names(request) == sorted([*COMPUTED, *HANDSHAKE, b"x-b"])


def test_only_allowed_headers_pass_and_those_of_the_handshake() -> None:
    headers = [("Cookie", "a=b"), ("X-A", "1"), ("X-B", "2")]
    request = shaken(
        headers=headers,
        subprotocols=["chat"],
        allow_request_headers=["x-A"],
        extra_request_headers={"X-C": "3"},
    )
    expected = [*COMPUTED, *HANDSHAKE, b"sec-websocket-protocol", b"x-a", b"x-c"]
    assert names(request) == sorted(expected)


def test_no_cookie_is_remembered() -> None:
    accept = Accept(echo, headers=[("Set-Cookie", "session=alice; Path=/")])
    with Upstream(accept) as upstream, relayed(upstream.url) as front:
        for _ in range(2):
            with WebSocketClient(front.port) as client:
                client.open()
                client.finish_close()
        assert [request.values("cookie") for request in upstream.requests] == [[], []]
