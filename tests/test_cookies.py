"""Cookies: none is remembered, each line stays a line, and only the Domain is ever rewritten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asgi_relay import Relay

from .support import scripts
from .support.client import fetch
from .support.direct import Call
from .support.front import called, relayed
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Serve
    from .support.exchange import Exchange, Script


def rewritten(line: bytes, rewrite: Callable[[str], str | None] | None) -> bytes:
    """What becomes of one Set-Cookie line."""
    with Upstream(scripts.answer(headers=[("Set-Cookie", line)])) as upstream:
        call = called(Call(), upstream.url, rewrite_set_cookie_domain=rewrite)
    (value,) = call.response_values("set-cookie")
    return value


# -- nothing is remembered -------------------------------------------------------------------------


def test_lilya_defect_the_cookie_of_one_user_is_not_sent_for_another() -> None:
    """Lilya and fastapi-reverse-proxy share one cookie jar among all their clients."""

    def login(exchange: Exchange) -> None:
        exchange.respond(headers=[("Set-Cookie", "session=alice; Path=/; HttpOnly")])

    with Upstream(login) as upstream, relayed(upstream.url) as front:
        with front.client() as alice:
            assert alice.request("POST", "/login").values("set-cookie") == [
                b"session=alice; Path=/; HttpOnly"
            ]
            alice.request("GET", "/me")
        front.fetch("/me")
        front.fetch("/me", headers=[("Cookie", "session=bob")])
        assert [request.values("cookie") for request in upstream.requests] == [
            [],
            [],
            [],
            [b"session=bob"],
        ]


def test_no_cookie_is_remembered_between_tries_or_redirects() -> None:
    script = scripts.in_turn(
        scripts.answer(503, [("Set-Cookie", "a=1")]),
        scripts.answer(302, [("Set-Cookie", "b=2"), ("Location", "/next")]),
        scripts.ok,
    )
    settings = {"max_retries": 1, "retry_backoff_factor": 0, "follow_redirects": True}
    with Upstream(script) as upstream, relayed(upstream.url, **settings) as front:
        assert front.fetch().body == b"ok"
        assert [request.values("cookie") for request in upstream.requests] == [[], [], []]


def test_the_client_s_cookies_pass_as_they_are() -> None:
    cookies = [b'a=b; c="d e"; a=f', b"=nameless; \xe2\x82\xac=\xff"]
    with Upstream(scripts.ok) as upstream, relayed(upstream.url) as front:
        front.fetch(headers=[("Cookie", cookie) for cookie in cookies])
        assert upstream.requests[0].values("cookie") == cookies


def test_the_crumbs_of_an_http_2_cookie_become_one_line() -> None:
    """RFC 9113 §8.2.3."""
    crumbs = [(b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    with Upstream(scripts.ok) as upstream:
        called(Call(headers=crumbs, extra={"http_version": "2"}), upstream.url)
        assert upstream.requests[0].values("cookie") == [b"a=1; b=2; c=3"]


# -- each line stays a line ------------------------------------------------------------------------


def test_lilya_defect_set_cookie_lines_stay_separate_on_every_server(server: Serve) -> None:
    """Lilya joins them with a comma, and PyServe keeps the last one alone."""
    lines = [
        b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/",
        b"b=2, 3; Secure",
        b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/",
        b"c=\xe2\x82\xac",
    ]
    with Upstream(scripts.answer(headers=[("Set-Cookie", line) for line in lines])) as upstream:
        port = server(Relay(upstream.url)).port
        assert fetch(port).values("set-cookie") == lines
        rewriting = Relay(upstream.url, rewrite_set_cookie_domain=lambda _: "x.test")
        expected = [line + b"; Domain=x.test" for line in lines]
        assert fetch(server(rewriting).port).values("set-cookie") == expected


# -- the Domain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (b"a=b; Domain=x.test", b"a=b"),
        (b"a=b; Domain=x.test; Path=/; Secure", b"a=b; Path=/; Secure"),
        (b"a=b; Path=/; domain=.x.test", b"a=b; Path=/"),
        (b"a=b;DOMAIN=x.test;Path=/", b"a=b;Path=/"),
        (b"a=b; Domain = x.test ; Path=/", b"a=b; Path=/"),
        (b"a=b; Domain=; Path=/", b"a=b; Path=/"),
        (b"a=b; Domain; Path=/", b"a=b; Path=/"),
        (b"a=b; Domain=x.test; Domain=y.test", b"a=b"),
        (b"a=b; Path=/", b"a=b; Path=/"),
        (b"domain=b; Path=/", b"domain=b; Path=/"),
        (b"a=domain=x; Path=/domain=y", b"a=domain=x; Path=/domain=y"),
        (b'a="x; Domain=x.test', b'a="x'),
        (b"\xff=\xe2\x82\xac; Domain=x.test; \xfe", b"\xff=\xe2\x82\xac; \xfe"),
    ],
)
def test_an_empty_string_drops_the_attribute_alone(line: bytes, after: bytes) -> None:
    assert rewritten(line, lambda _: "") == after


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (b"a=b; Domain=x.test", b"a=b; Domain=new.test"),
        (b"a=b; Domain=x.test; Path=/; Secure", b"a=b; Domain=new.test; Path=/; Secure"),
        (b"a=b; path=/; domain=.x.test", b"a=b; path=/; domain=new.test"),
        (b"a=b;DOMAIN=x.test;Path=/", b"a=b;DOMAIN=new.test;Path=/"),
        (b"a=b", b"a=b; Domain=new.test"),
        (b"a=b; Secure", b"a=b; Secure; Domain=new.test"),
        (b"a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Domain=x.test; SameSite=Lax",
         b"a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Domain=new.test; SameSite=Lax"),
    ],
)  # fmt: skip
def test_a_string_sets_the_attribute_and_leaves_all_else(line: bytes, after: bytes) -> None:
    assert rewritten(line, lambda _: "new.test") == after


@pytest.mark.parametrize(
    "line",
    [
        b"a=b; Domain=x.test; Path=/",
        b"a=b;;  ;Domain = x.test ;",
        b"a=b",
        b"",
        b"\xff; DOMAIN=\xfe",
    ],
)
def test_none_leaves_the_cookie_octet_by_octet(line: bytes) -> None:
    assert rewritten(line, lambda _: None) == line
    assert rewritten(line, None) == line


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"a=b; Domain=x.test; Path=/", "x.test"),
        (b"a=b; domain=.X.Test", ".X.Test"),
        (b"a=b; Domain = x.test ", "x.test"),
        (b"a=b; Domain=x.test; Domain=y.test", "y.test"),  # RFC 6265 §5.3: the last one counts
        (b"a=b; Path=/", ""),
        (b"domain=b", ""),
    ],
)
def test_the_callback_is_given_the_domain(line: bytes, seen: str) -> None:
    given: list[str] = []
    rewritten(line, given.append)
    assert given == [seen]


def test_the_callback_decides_for_each_cookie() -> None:
    def rewrite(domain: str) -> str | None:
        return {"internal.test": "", "x.test": "y.test"}.get(domain)

    lines = [b"a=1; Domain=internal.test", b"b=2; Domain=x.test", b"c=3; Domain=other.test", b"d=4"]
    script = scripts.answer(headers=[("Set-Cookie", line) for line in lines])
    with (
        Upstream(script) as upstream,
        relayed(upstream.url, rewrite_set_cookie_domain=rewrite) as front,
    ):
        response = front.fetch()
    assert response.values("set-cookie") == [
        b"a=1",
        b"b=2; Domain=y.test",
        b"c=3; Domain=other.test",
        b"d=4",
    ]


@pytest.mark.parametrize(
    "script",
    [
        scripts.answer(302, [("Set-Cookie", "a=b; Domain=x.test"), ("Location", "/")]),
        scripts.answer(503, [("Set-Cookie", "a=b; Domain=x.test")]),
        scripts.say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
            b"Set-Cookie: a=b; Domain=x.test\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ),
    ],
    ids=["redirect", "unavailable", "chunked"],
)
def test_the_callback_runs_for_every_kind_of_answer(script: Script) -> None:
    with (
        Upstream(script) as upstream,
        relayed(upstream.url, rewrite_set_cookie_domain=lambda _: "") as front,
    ):
        assert front.fetch().value("set-cookie") == b"a=b"


def test_the_callback_sees_no_other_header() -> None:
    headers = [("Set-Cookie2", "a=b; Domain=x.test"), ("X-Cookie", "a=b; Domain=x.test")]
    with Upstream(scripts.answer(headers=headers)) as upstream:
        call = called(Call(), upstream.url, rewrite_set_cookie_domain=lambda _: "")
    assert call.response_values("set-cookie2") == [b"a=b; Domain=x.test"]
    assert call.response_values("x-cookie") == [b"a=b; Domain=x.test"]
