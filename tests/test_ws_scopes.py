"""Scopes and first messages that not every server gives, and some that none should."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from asgi_relay import Relay

from .support.front import relayed
from .support.session import Session, given
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo

OPTIONAL = [
    "asgi",
    "client",
    "extensions",
    "http_version",
    "query_string",
    "raw_path",
    "root_path",
    "scheme",
    "server",
    "subprotocols",
]


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_scope_may_leave_out_what_is_optional(name: str) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session("/x", extra={name: None}), upstream.url)
        assert upstream.requests[0].target == b"/x"
    assert session.types == ["websocket.accept"]


@pytest.mark.parametrize(
    "extra",
    [
        {"client": ["192.0.2.7", 50007]},
        {"client": ("192.0.2.7", "50007")},
        {"extensions": None},
        {"subprotocols": ()},
        {"headers": ((b"host", b"relay.test"),)},
        {"headers": [[b"host", b"relay.test"]]},
        {"headers": [(b"Host", b"relay.test"), (b"X-Mixed-Case", b"1")]},
        {"http_version": "2"},
        {"path": "/x", "raw_path": b""},
    ],
    ids=str,
)
def test_servers_differ_in_their_types(extra: dict[str, Any]) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session("/x", extra=extra), upstream.url)
        assert upstream.requests[0].value("x-forwarded-for") == b"192.0.2.7"
    assert session.types == ["websocket.accept"]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a\r\nb", b"x")],
        [(b"a b", b"x")],
        [(b"", b"x")],
        [(b"a", b"x\r\nb: c")],
        [(b"a", b"x\0")],
        [(b"host", b"a"), (b"host", b"b")],
    ],
    ids=str,
)
def test_headers_that_no_client_may_send_are_a_400(headers: list[tuple[bytes, bytes]]) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session(headers=headers), upstream.url)
        assert upstream.connections == []
    assert session.status == 400


# -- subprotocols ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "offered"),
    [([""], []), (["", ""], []), (["a", "", "b"], [b"a, b"]), (["", "a"], [b"a"])],
)
def test_empty_names_are_not_offered(names: list[str], offered: list[bytes]) -> None:
    with Upstream(Accept(echo)) as upstream:
        session = given(Session(subprotocols=names), upstream.url)
        assert upstream.requests[0].values("sec-websocket-protocol") == offered
    assert session.types == ["websocket.accept"]


def test_an_empty_name_in_a_client_s_offer_is_not_offered() -> None:
    with (
        Upstream(Accept(echo)) as upstream,
        relayed(upstream.url) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open("/", [("Sec-WebSocket-Protocol", "a,,b")])
        client.finish_close()
        assert upstream.requests[0].values("sec-websocket-protocol") == [b"a, b"]


def test_very_many_names_are_offered_in_their_order() -> None:
    names = [f"p{number}" for number in range(1000)]
    with Upstream(Accept(echo, subprotocol="p999")) as upstream:
        session = given(Session(subprotocols=names), upstream.url)
        assert upstream.requests[0].value("sec-websocket-protocol") == ", ".join(names).encode()
    assert session.sent[0]["subprotocol"] == "p999"


# -- first messages --------------------------------------------------------------------------------


def test_a_client_that_has_left_already_never_reaches_the_upstream() -> None:
    gone = {"type": "websocket.disconnect", "code": 1006}
    with Upstream(Accept(echo)) as upstream:

        async def run() -> Session:
            async with Relay(upstream.url) as relay, Session(first=gone).run(relay) as session:
                await session.ended()
            return session

        session = anyio.run(run)
        assert upstream.connections == []
    assert session.sent == []


@pytest.mark.parametrize("both", [{"text": "x", "bytes": None}, {"text": None, "bytes": b"x"}])
def test_a_message_may_have_both_keys(both: dict[str, Any]) -> None:
    """As hypercorn's have."""
    with Upstream(Accept(echo)) as upstream:

        async def run() -> None:
            async with Relay(upstream.url) as relay, Session().run(relay) as session:
                await session.accepted()
                session.arrive({"type": "websocket.receive", **both})
                assert await session.message() == (both["text"] or both["bytes"])
                session.leave(1000)

        anyio.run(run)


@pytest.mark.parametrize("octets", [bytearray(b"x"), memoryview(b"x")], ids=["bytearray", "view"])
def test_octets_of_other_types_are_octets(octets: Any) -> None:
    with Upstream(Accept(echo)) as upstream:

        async def run() -> None:
            async with Relay(upstream.url) as relay, Session().run(relay) as session:
                await session.accepted()
                session.arrive({"type": "websocket.receive", "bytes": octets})
                assert await session.message() == b"x"
                session.leave(1000)

        anyio.run(run)
