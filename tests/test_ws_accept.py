"""The upstream's 101 on its way to the client: its choice of subprotocol, its headers, its faults.

What goes up is in test_ws_handshake, any other answer is in test_ws_refusals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .support import frames, wire
from .support.frames import BINARY, TEXT
from .support.front import relayed
from .support.session import Session, given
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo, through

if TYPE_CHECKING:
    from .support.client import Response
    from .support.exchange import Exchange


def accepted(accept: Accept, *subprotocols: str, **settings: Any) -> Session:
    """What the server is told of the upstream's 101."""
    with Upstream(accept) as upstream:
        session = given(Session(subprotocols=subprotocols), upstream.url, **settings)
    assert session.sent[0]["type"] == "websocket.accept"
    return session


def seen(accept: Accept, *subprotocols: str, **settings: Any) -> Response:
    """What a client sees of it, through a server."""
    with (
        Upstream(accept) as upstream,
        relayed(upstream.url, **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.open(subprotocols=subprotocols)
        client.finish_close()
        return response


# -- the subprotocol -------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["a", "b", "c", None])
def test_the_upstream_s_choice_is_the_client_s(choice: str | None) -> None:
    accept = Accept(echo, subprotocol=choice)
    assert accepted(accept, "a", "b", "c").sent[0].get("subprotocol") == choice
    response = seen(accept, "a", "b", "c")
    assert response.value("sec-websocket-protocol") == (choice.encode() if choice else None)


def test_fastapi_reverse_proxy_defect_a_client_without_subprotocols_is_welcome() -> None:
    """It refuses every client that offers none."""
    response = seen(Accept(echo))
    assert response.values("sec-websocket-protocol") == []


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], b"a"),
        (["a", "b"], b"c"),
        (["a", "b"], b"A"),
        (["a", "b"], b"a, b"),
        (["a", "b"], b""),
        (["ab"], b"a"),
    ],
)
def test_a_choice_that_was_not_offered_is_a_502(offered: list[str], chosen: bytes) -> None:
    assert_no_handshake(Accept(echo, subprotocol=chosen), *offered)


def test_two_choices_are_a_502() -> None:
    accept = Accept(echo, subprotocol="a", headers=[("Sec-WebSocket-Protocol", "b")])
    assert_no_handshake(accept, "a", "b")


# -- its headers -----------------------------------------------------------------------------------


def test_the_headers_of_the_101_pass() -> None:
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("X-Session", "1"),
        ("Set-Cookie", "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/"),
        ("x-session", "2"),
        ("Set-Cookie", "b=2; Domain=up.test; HttpOnly"),
        ("X-Octets", b"\xe2\x82\xac \xff"),
    ]
    expected = {
        "x-session": [b"1", b"2"],
        "set-cookie": [
            b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/",
            b"b=2; Domain=up.test; HttpOnly",
        ],
        "x-octets": [b"\xe2\x82\xac \xff"],
    }
    accept = Accept(echo, headers=headers)
    session, response = accepted(accept), seen(accept)
    for name, lines in expected.items():
        assert session.response_values(name) == lines
        if name != "x-octets":  # uvicorn decodes them and encodes them anew
            assert response.values(name) == lines


def test_cookies_are_rewritten_by_the_policy() -> None:
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Domain=up.test; Path=/")]
    asked: list[str] = []

    def rewrite(domain: str) -> str | None:
        asked.append(domain)
        return "relay.test" if domain else None

    session = accepted(Accept(echo, headers=headers), rewrite_set_cookie_domain=rewrite)
    assert session.response_values("set-cookie") == [b"a=1", b"b=2; Domain=relay.test; Path=/"]
    assert asked == ["", "up.test"]


def test_what_belongs_to_the_upstream_s_hop_stays_there() -> None:
    headers = [("Keep-Alive", "timeout=5"), ("Proxy-Authenticate", "Basic"), ("X-Hop", "1")]
    accept = Accept(
        echo, subprotocol="a", headers=[*headers, ("X-A", "1")], connection=b"X-Hop, Upgrade"
    )
    found = {name for name, _ in accepted(accept, "a").response_headers}
    assert found - {b"date"} == {b"x-a"}


def test_the_accept_that_the_client_gets_is_its_own_server_s() -> None:
    response = seen(Accept(echo))
    # `open` has checked that it belongs to the client's key.
    assert len(response.values("sec-websocket-accept")) == 1
    assert len(response.values("upgrade")) == 1


def test_dropped_headers_do_not_pass() -> None:
    accept = Accept(echo, headers=[("X-A", "1"), ("Set-Cookie", "a=1"), ("X-B", "2")])
    session = accepted(accept, drop_response_headers=["x-A", "Set-Cookie"])
    assert wire.values(session.response_headers, "x-b") == [b"2"]
    assert session.response_values("x-a") + session.response_values("set-cookie") == []


def test_only_allowed_headers_pass() -> None:
    accept = Accept(echo, subprotocol="a", headers=[("X-A", "1"), ("X-B", "2")])
    session = accepted(accept, "a", allow_response_headers=["X-A"])
    assert {name for name, _ in session.response_headers} - {b"date"} == {b"x-a"}
    assert session.sent[0]["subprotocol"] == "a"


# -- 101s that are good, and others ----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"connection": b"keep-alive, Upgrade"},
        {"connection": b"UPGRADE"},
        {"connection": b"keep-alive ,upgrade"},
        {"connection": b"keep-alive", "headers": [("Connection", "upgrade")]},
        {"upgrade": b"WebSocket"},
        {"status": b"101 Web Socket Protocol Handshake"},
        {"status": b"101 "},
    ],
    ids=str,
)
def test_pyserve_defect_any_good_101_is_one(options: dict[str, Any]) -> None:
    """PyServe does not recognise `Connection: keep-alive, Upgrade`."""
    with through(Accept(echo, **options)) as ends:
        ends.client.send_text("hello")
        assert ends.client.receive_message() == "hello"


def assert_no_handshake(accept: Accept, *subprotocols: str) -> None:
    """The client gets a 502, and the upstream's connection is closed."""
    with (
        Upstream(accept) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.shake(subprotocols=subprotocols)
        assert response.status == 502
        assert response.value("content-type") == b"text/plain; charset=utf-8"
        assert response.body.startswith(b"Upstream error: ")
        assert response.body.endswith(b"(RemoteProtocolError)")
        assert b"127.0.0.1" not in response.body
        upstream.connections[0].wait_done()
        assert front.raised == []


@pytest.mark.parametrize(
    "options",
    [
        {"accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
        {"accept": b""},
        {"accept": None},
        {"accept": lambda key: key},
        {"accept": lambda key: frames.accept_key(key).swapcase()},
        {"accept": lambda key: frames.accept_key(key) + b"="},
        {"headers": [("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]},
        {"upgrade": None},
        {"upgrade": b"h2c"},
        {"upgrade": b"websockets"},
        {"connection": None},
        {"connection": b"keep-alive"},
        {"connection": b"Upgrades"},
        {"headers": [("Sec-WebSocket-Extensions", "permessage-deflate")]},
        {"headers": [("Sec-WebSocket-Extensions", "x-own; a=b")]},
    ],
    ids=lambda options: ascii(options).partition(" at 0x")[0],
)
def test_a_101_that_is_no_websocket_s_is_a_502(options: dict[str, Any]) -> None:
    assert_no_handshake(Accept(echo, **options))


def test_an_extension_that_the_client_has_offered_is_one_that_we_have_not() -> None:
    accept = Accept(echo, headers=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    with (
        Upstream(accept) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
        assert client.shake("/", offer).status == 502


def test_interim_answers_come_before_the_101() -> None:
    accept = Accept(echo)

    def hint(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        accept(exchange)

    with (
        Upstream(hint) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.open()
        client.send_text("hello")
        assert client.receive_message() == "hello"
        assert response.values("link") == []
        client.finish_close()


# -- the first words -------------------------------------------------------------------------------


def test_what_comes_in_the_segment_of_the_101_is_not_lost() -> None:
    first = frames.encode(TEXT, b"first") + frames.encode(BINARY, b"second")
    with through(Accept(followed_by=first)) as ends:
        assert ends.client.receive_message() == "first"
        assert ends.client.receive_message() == b"second"
        ends.peer.send_text("third")
        assert ends.client.receive_message() == "third"


def test_half_a_frame_in_the_segment_of_the_101_is_not_lost() -> None:
    first = frames.encode(TEXT, b"first")
    with through(Accept(followed_by=first[:3])) as ends:
        ends.peer.send(first[3:])
        assert ends.client.receive_message() == "first"


def test_much_in_the_segment_of_the_101_is_not_lost() -> None:
    octets = [b"%d" % number * 100 for number in range(500)]
    first = b"".join(frames.encode(BINARY, message) for message in octets)
    with through(Accept(followed_by=first)) as ends:
        assert [ends.client.receive_message() for _ in octets] == octets


def test_a_101_and_its_end_in_one_segment() -> None:
    said = frames.encode(TEXT, b"bye") + frames.encode(
        frames.CLOSE, frames.close_payload(4001, "so soon")
    )
    with through(Accept(followed_by=said)) as ends:
        assert ends.client.receive_message() == "bye"
        assert ends.client.answer_close() == (4001, "so soon")
        assert ends.peer.expect_close()[0] == 4001
