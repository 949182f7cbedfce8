"""The cookie that brings a client back to its target, and what it cannot be made to do."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, StickyCookie

from .support import scripts
from .support.fleet import ask, asked, balanced, relay_to, state_of, upstreams
from .support.front import Front
from .support.upstream import refusing
from .support.waiting import wait_until
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from .support.client import Response
    from .support.wire import Headers

in_turn: dict[str, Any] = {"balance": "round_robin"}
pinned: dict[str, Any] = {**in_turn, "sticky": StickyCookie()}


def given_cookie(headers: Headers, name: str = "relay") -> tuple[str, list[str]] | None:
    """The value of the cookie that a response sets, and its attributes; None if it sets none."""
    found = [
        value.decode() for key, value in headers
        if key.lower() == b"set-cookie" and value.startswith(name.encode() + b"=")
    ]  # fmt: skip
    if not found:
        return None
    (line,) = found
    pair, *attributes = line.split("; ")
    return pair.partition("=")[2], attributes


def cookie_of(response: Response, name: str = "relay") -> str:
    given = given_cookie(response.headers, name)
    assert given is not None, "no cookie was set"
    return given[0]


def with_cookie(text: str) -> dict[str, Any]:
    return {"headers": [("Cookie", text)]}


def follow(front: Front, text: str, count: int = 6) -> set[bytes]:
    """Who answers those who send this Cookie."""
    return {front.fetch(**with_cookie(text)).body for _ in range(count)}


# -- its life --------------------------------------------------------------------------------------


def test_a_client_that_sends_it_comes_to_the_same_target() -> None:
    with upstreams("a", "b", "c") as three, balanced(*three, **pinned) as front:
        for _ in range(6):
            first = front.fetch()
            assert follow(front, f"relay={cookie_of(first)}") == {first.body}


def test_it_is_set_once() -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        value = cookie_of(front.fetch())
        again = front.fetch(**with_cookie(f"relay={value}"))
    assert again.values("set-cookie") == []


def test_each_target_has_its_own_and_always_the_same() -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        values = {
            (response.body, cookie_of(response)) for response in [front.fetch() for _ in "1234"]
        }
    assert len(values) == 2


def test_its_attributes_by_default() -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        given = given_cookie(front.fetch().headers)
    assert given is not None
    assert {one.lower() for one in given[1]} == {"path=/", "httponly", "samesite=lax"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_age": 3600}, {"path=/", "httponly", "samesite=lax", "max-age=3600"}),
        ({"max_age": 3600.0}, {"path=/", "httponly", "samesite=lax", "max-age=3600"}),
        ({"path": "/app"}, {"path=/app", "httponly", "samesite=lax"}),
        ({"same_site": "strict"}, {"path=/", "httponly", "samesite=strict"}),
        ({"secure": True}, {"path=/", "httponly", "samesite=lax", "secure"}),
        ({"same_site": "none", "secure": True}, {"path=/", "httponly", "samesite=none", "secure"}),
    ],
    ids=["max-age", "float", "path", "same-site", "secure", "none"],
)
def test_its_attributes_as_asked_for(settings: dict[str, Any], expected: set[str]) -> None:
    sticky = StickyCookie("pin", **settings)
    with upstreams("a", "b") as two, balanced(*two, sticky=sticky) as front:
        given = given_cookie(front.fetch().headers, "pin")
    assert given is not None
    assert {one.lower() for one in given[1]} == expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "secure", "marked"),
    [("http", None, False), ("https", None, True), ("https", False, False), ("http", True, True)],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_is_as_secure_as_the_clients_connection(
    scheme: str, secure: bool | None, marked: bool
) -> None:
    with upstreams("a", "b") as two:
        async with relay_to(*two, sticky=StickyCookie(secure=secure)) as relay:
            call = await ask(relay, extra={"scheme": scheme})
    given = given_cookie(call.response_headers)
    assert given is not None
    assert ("secure" in {one.lower() for one in given[1]}) is marked


def test_its_value_says_nothing_about_the_target() -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        value = cookie_of(front.fetch())
    assert re.fullmatch(r"[A-Za-z0-9]{20,64}", value)
    for one in two:
        assert str(one.port) not in value


def test_one_target_alone_sets_it_too() -> None:
    """A second one may join later, and then its clients know where they are at home."""
    with upstreams("a", "b") as (a, b), balanced(a, **pinned) as front:
        value = cookie_of(front.fetch())
        front.relay.targets.add(b.url)
        assert follow(front, f"relay={value}") == {b"a"}


def test_the_upstreams_cookies_arrive_beside_it() -> None:
    script = scripts.answer(headers=[("Set-Cookie", "a=1; Path=/x"), ("Set-Cookie", "b=2")])
    with upstreams(script) as (a,), balanced(a, **pinned) as front:
        response = front.fetch()
    lines = response.values("set-cookie")
    assert [line for line in lines if not line.startswith(b"relay=")] == [b"a=1; Path=/x", b"b=2"]
    assert len(lines) == 3


def test_headers_that_do_not_pass_are_the_upstreams() -> None:
    script = scripts.answer(headers=[("Set-Cookie", "a=1")])
    settings = {**pinned, "drop_response_headers": ["Set-Cookie"]}
    with upstreams(script) as (a,), balanced(a, **settings) as front:
        (line,) = front.fetch().values("set-cookie")
    assert line.startswith(b"relay=")


# -- what goes upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("relay={}", []),
        ("relay={}; a=1", [b"a=1"]),
        ("a=1; relay={}; b=2", [b"a=1; b=2"]),
        ("a=1;relay={}", [b"a=1"]),
        ("a=1; relayed=2; xrelay=3; relay={}", [b"a=1; relayed=2; xrelay=3"]),
        ('a="1"; relay={}; b=x=y', [b'a="1"; b=x=y']),
        ("relay=forged; a=1", [b"a=1"]),
        ("a=1; b=2", [b"a=1; b=2"]),
    ],
)
def test_it_is_not_sent_upstream(sent: str, expected: list[bytes]) -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        value = cookie_of(front.fetch())
        front.fetch("/second", **with_cookie(sent.format(value)))
        (second,) = [one for up in two for one in asked(up) if one.target == b"/second"]
    assert second.values("cookie") == expected


def test_other_headers_of_cookies_stay() -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        value = cookie_of(front.fetch())
        headers = [("Cookie", "a=1"), ("Cookie", f"relay={value}"), ("Cookie", "b=2")]
        front.fetch("/second", headers=headers)
        (second,) = [one for up in two for one in asked(up) if one.target == b"/second"]
    assert b"; ".join(second.values("cookie")) == b"a=1; b=2"


# -- falling back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drain", "remove"])
def test_a_target_that_is_out_is_replaced_and_the_cookie_too(how: str) -> None:
    with upstreams("a", "b") as (a, b), balanced(a, b, **pinned) as front:
        value = next(cookie_of(r) for r in iter(front.fetch, None) if r.body == b"a")
        getattr(front.relay.targets, how)(a.url)
        response = front.fetch(**with_cookie(f"relay={value}"))
        assert response.body == b"b"
        assert follow(front, f"relay={cookie_of(response)}") == {b"b"}


def test_a_target_that_is_unhealthy_is_replaced() -> None:
    status = [200]

    def failing(exchange: Any) -> None:
        exchange.respond(status[0], body=b"a")

    check = HealthCheck(interval=0.05, fall=1)
    with (
        upstreams(failing, "b") as (a, b),
        balanced(a, b, **pinned, health_check=check) as front,
    ):
        value = next(cookie_of(r) for r in iter(front.fetch, None) if r.body == b"a")
        status[0] = 503
        wait_until(lambda: state_of(front.relay, a) == "unhealthy", "the check")
        assert follow(front, f"relay={value}") == {b"b"}
        # It is back, and the clients that still have its cookie are.
        status[0] = 200
        wait_until(lambda: state_of(front.relay, a) == "healthy", "the check")
        assert follow(front, f"relay={value}") == {b"a"}


def test_a_retry_that_went_elsewhere_sets_the_cookie_of_who_answered() -> None:
    with refusing() as url, upstreams("b") as (b,):
        settings = {**pinned, "max_retries": 1, "passive_health": None}
        with balanced(url, b, **settings) as front:
            values = {cookie_of(front.fetch()) for _ in range(4)}
            (value,) = values
            assert front.fetch(**with_cookie(f"relay={value}")).values("set-cookie") == []


# -- forging ---------------------------------------------------------------------------------------


def forged(url: str, secret: str = "") -> list[str]:
    """What somebody who knows the target's URL could make of it."""
    digest = hmac.new(secret.encode(), url.encode(), hashlib.sha256).digest()
    plain = hashlib.sha256(url.encode()).digest()
    return [one.hex() for whole in (digest, plain) for one in (whole, whole[:16])]


def test_two_relays_with_one_secret_know_each_others_cookies() -> None:
    settings = {**in_turn, "sticky": StickyCookie(secret="s3cret")}
    with upstreams("a", "b") as two:
        with balanced(*two, **settings) as front:
            first = front.fetch()
        with balanced(*two[::-1], **settings) as front:
            assert follow(front, f"relay={cookie_of(first)}") == {first.body}


@pytest.mark.parametrize("other", [None, "0ther"])
def test_a_cookie_of_another_secret_is_none(other: str | None) -> None:
    with upstreams("a", "b") as two:
        with balanced(*two, **in_turn, sticky=StickyCookie(secret=other)) as front:
            value = cookie_of(front.fetch())
        with balanced(*two, **in_turn, sticky=StickyCookie(secret="s3cret")) as front:
            assert follow(front, f"relay={value}") == {b"a", b"b"}
            assert cookie_of(front.fetch(**with_cookie(f"relay={value}"))) != value


def test_a_signed_cookie_cannot_be_made_without_the_secret() -> None:
    with (
        upstreams("a", "b") as two,
        balanced(*two, **in_turn, sticky=StickyCookie(secret="s3cret")) as front,
    ):
        for value in [one for up in two for one in forged(up.url)]:
            assert follow(front, f"relay={value}", 2) == {b"a", b"b"}


@pytest.mark.parametrize(
    "text",
    ["relay=", "relay", "relay=;", "relay=0", f"relay={'f' * 5000}", 'relay="', "relay=\xff\xfe"],
    ids=ascii,
)
def test_nonsense_is_no_cookie(text: str) -> None:
    with upstreams("a", "b") as two, balanced(*two, **pinned) as front:
        response = front.fetch(**with_cookie(text))
        assert response.status == 200
        assert follow(front, f"relay={cookie_of(response)}") == {response.body}


# -- WebSockets ------------------------------------------------------------------------------------


def test_a_web_socket_is_pinned_too() -> None:
    with (
        upstreams(Accept(echo), Accept(echo)) as two,
        balanced(*two, **pinned) as front,
    ):
        with WebSocketClient(front.port) as client:
            response = client.open("/first")
            value = cookie_of(response)
            client.finish_close()
        for _ in range(4):
            with WebSocketClient(front.port) as client:
                again = client.open("/again", [("Cookie", f"a=1; relay={value}")])
                assert again.values("set-cookie") == []
                client.finish_close()
    (home,) = [one for one in two if one.requests]
    assert [one.target for one in home.requests] == [b"/first"] + [b"/again"] * 4
    assert [one.values("cookie") for one in home.requests[1:]] == [[b"a=1"]] * 4


def test_a_handshake_that_is_refused_sets_it_too() -> None:
    with (
        upstreams(scripts.answer(403), scripts.answer(403)) as two,
        balanced(*two, **pinned) as front,
        WebSocketClient(front.port) as client,
    ):
        response = client.shake()
    assert response.status == 403
    assert cookie_of(response)
