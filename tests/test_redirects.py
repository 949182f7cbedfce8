"""Redirects: passed on as they are, or followed as httpx follows them where that is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from .support import scripts
from .support.front import Front, relayed
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Exchange, Script

REDIRECTS = [301, 302, 303, 307, 308]


def to(location: str | bytes, status: int = 302, *more: tuple[str, str]) -> Script:
    return scripts.answer(status, [("Location", location), *more], b"moved")


def found(exchange: Exchange) -> None:
    """Answer with what came: method, target, Content-Type and body."""
    exchange.read_body()
    request = exchange.request
    kind = request.value("content-type") or b"-"
    parts = [request.method, request.target, kind, request.body]
    body = b"|".join(parts)
    exchange.respond(headers=[("X-Seen", body[:1000])], body=body)


def follow(script: Script, target: str = "/start", **request: Any) -> bytes:
    """What comes back at the end."""
    with following(scripts.by_path({b"/start": script, b"/next": found})) as (_, front):
        response = front.fetch(target, **request)
        assert response.status == 200
        return response.value("x-seen") or b""


@contextlib.contextmanager
def following(script: Script, **settings: Any) -> Iterator[tuple[Upstream, Front]]:
    """An upstream, and a relay that follows its redirects."""
    with (
        Upstream(script) as upstream,
        relayed(upstream.url, follow_redirects=True, **settings) as front,
    ):
        yield upstream, front


# -- by default ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*REDIRECTS, 300, 304])
def test_by_default_a_redirect_is_passed_on_whole(status: int) -> None:
    location = "http://internal.test:8000/next?x=%2F#there"
    with Upstream(to(location, status)) as upstream, relayed(upstream.url) as front:
        response = front.fetch()
        assert response.status == status
        assert response.value("location") == location.encode()
        assert response.body == (b"" if status == 304 else b"moved")
        assert len(upstream.requests) == 1


# -- where to --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", REDIRECTS)
def test_each_redirect_is_followed(status: int) -> None:
    assert follow(to("/next", status)) == b"GET|/next|-|"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/next", b"/next"),
        ("next", b"/next"),
        ("./next", b"/next"),
        ("/next?x=%2F&y", b"/next?x=%2F&y"),
        ("/next#there", b"/next"),
        ("/a/../next", b"/next"),
    ],
)
def test_a_location_is_relative_to_what_was_asked_for(location: str, target: bytes) -> None:
    assert follow(to(location)) == b"GET|%s|-|" % target


def test_a_location_without_a_path_keeps_it() -> None:
    script = scripts.in_turn(to("?again"), found)
    assert follow(script) == b"GET|/start?again|-|"


def test_octets_of_a_location_stay_encoded() -> None:
    routes = {b"/start": to("/a%2Fb%20c"), b"/a%2Fb%20c": found}
    with following(scripts.by_path(routes)) as (_, front):
        assert front.fetch("/start").body == b"GET|/a%2Fb%20c|-|"


@pytest.mark.parametrize("kind", ["absolute", "scheme-relative"])
def test_a_redirect_leads_to_another_origin(kind: str) -> None:
    with Upstream(found) as other:
        location = f"{other.url}/next" if kind == "absolute" else f"//{other.authority}/next"
        with following(to(location)) as (_, front):
            assert front.fetch().body == b"GET|/next|-|"
        assert other.requests[0].value("host") == other.authority.encode()


def test_a_chain_is_followed_and_its_steps_are_not_seen() -> None:
    routes = {
        b"/start": to("/a", 301, ("Set-Cookie", "step=1"), ("X-Step", "1")),
        b"/a": to("/b", 307),
        b"/b": to("/next", 308),
        b"/next": scripts.ok,
    }
    with following(scripts.by_path(routes)) as (upstream, front):
        response = front.fetch("/start")
        assert [request.value("cookie") for request in upstream.requests] == [None] * 4
    assert (response.status, response.body) == (200, b"ok")
    assert (response.value("set-cookie"), response.value("x-step")) == (None, None)


def count_to(number: int) -> Script:
    """So many redirects, and then an answer."""

    def script(exchange: Exchange) -> None:
        at = int(exchange.request.target[1:] or b"0")
        if at < number:
            exchange.respond(302, [("Location", f"/{at + 1}")])
        else:
            exchange.respond(body=b"the end")

    return script


def test_twenty_redirects_are_followed() -> None:
    with following(count_to(20)) as (_, front):
        assert front.fetch().body == b"the end"


def test_more_than_twenty_redirects_are_a_502() -> None:
    with following(count_to(21)) as (upstream, front):
        response = front.fetch()
        assert len(upstream.requests) == 21
    assert response.status == 502
    assert response.body.startswith(b"Upstream error: ")
    assert b"TooManyRedirects" in response.body


@pytest.mark.parametrize(
    "location",
    [
        "ftp://other.test/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http://:80/x",
        "http://a b/",
        b"http://\xff/",
    ],
)
def test_a_redirect_that_cannot_be_followed_is_passed_on(location: str | bytes) -> None:
    with following(to(location)) as (upstream, front):
        response = front.fetch()
        assert len(upstream.requests) == 1
    assert (response.status, response.body) == (302, b"moved")


@pytest.mark.parametrize(
    "script",
    [
        scripts.answer(302, body=b"nowhere"),
        scripts.answer(300, [("Location", "/next")], b"nowhere"),
        scripts.answer(201, [("Location", "/next")], b"nowhere"),
        scripts.answer(305, [("Location", "/next")], b"nowhere"),
    ],
    ids=["no-location", "300", "201", "305"],
)
def test_what_is_no_redirect_is_passed_on(script: Script) -> None:
    with Upstream(script) as upstream, relayed(upstream.url, follow_redirects=True) as front:
        assert front.fetch().body == b"nowhere"


# -- methods and bodies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method", "after"),
    [
        (301, "POST", b"GET"),
        (301, "PUT", b"PUT"),
        (302, "POST", b"GET"),
        (302, "PUT", b"GET"),
        (303, "POST", b"GET"),
        (303, "PUT", b"GET"),
        (303, "DELETE", b"GET"),
        (307, "POST", b"POST"),
        (307, "PATCH", b"PATCH"),
        (308, "POST", b"POST"),
        (308, "DELETE", b"DELETE"),
    ],
)
def test_the_method_and_the_body_after_a_redirect(status: int, method: str, after: bytes) -> None:
    headers = [("Content-Type", "text/x")]
    seen = follow(to("/next", status), method=method, headers=headers, body=b"body")
    same = method.encode() == after
    assert seen == (b"%s|/next|text/x|body" % after if same else b"GET|/next|-|")


@pytest.mark.parametrize("status", REDIRECTS)
def test_head_stays_head(status: int) -> None:
    assert follow(to("/next", status), method="HEAD") == b"HEAD|/next|-|"


def test_a_request_that_becomes_a_get_has_no_body_headers() -> None:
    script = scripts.in_turn(to("/next", 303), scripts.ok)
    with following(script) as (upstream, front), front.client() as client:
        client.start("POST", chunked=True)
        client.send_chunks([b"x" * 1000])
        assert client.read().body == b"ok"
        second = upstream.requests[1]
    assert second.raw.endswith(b"\r\n\r\n")
    assert second.values("content-length") + second.values("transfer-encoding") == []


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_is_replayed_whole_behind_a_307(chunked: bool) -> None:
    body = b"".join(b"%07d\n" % number for number in range(20_000))
    script = scripts.in_turn(to("/next", 307), scripts.echo)
    with following(script) as (upstream, front), front.client() as client:
        if chunked:
            client.start("POST", chunked=True)
            client.send_chunks([body[:70_000], body[70_000:]])
        else:
            client.start("POST", length=len(body))
            client.send(body)
        assert client.read().body == body
        assert upstream.requests[1].value("content-length") == (
            None if chunked else str(len(body)).encode()
        )


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_that_cannot_be_replayed_makes_the_redirect_the_answer(status: int) -> None:
    with following(to("/next", status)) as (upstream, front):
        response = front.fetch(method="POST", body=b"x" * 1_000_000)
        assert len(upstream.requests) == 1
    assert (response.status, response.value("location")) == (status, b"/next")


# -- what goes along -------------------------------------------------------------------------------

CREDENTIALS = [("Authorization", "Bearer secret"), ("Cookie", "session=secret")]


def test_credentials_go_along_within_the_origin() -> None:
    settings = {"follow_redirects": True, "extra_request_headers": {"X-Key": "secret"}}
    with Upstream(scripts.in_turn(to("/next"), scripts.ok)) as upstream:
        with relayed(upstream.url, **settings) as front:
            front.fetch(headers=CREDENTIALS)
        second = upstream.requests[1]
    assert second.value("authorization") == b"Bearer secret"
    assert second.value("cookie") == b"session=secret"
    assert second.value("x-key") == b"secret"


@pytest.mark.parametrize("status", REDIRECTS)
def test_no_credentials_go_to_another_origin(status: int) -> None:
    settings = {
        "follow_redirects": True,
        "extra_request_headers": {"X-Key": "secret", "X-Forwarded-Host": "secret"},
    }
    with Upstream(scripts.ok) as other, Upstream(to(f"{other.url}/next", status)) as upstream:
        with relayed(upstream.url, **settings) as front:
            front.fetch(headers=[*CREDENTIALS, ("X-Harmless", "1")])
        request = other.requests[0]
    assert b"secret" not in request.raw
    assert request.value("x-harmless") == b"1"
    assert request.value("host") == other.authority.encode()


def test_user_information_of_the_target_does_not_go_to_another_origin() -> None:
    with Upstream(scripts.ok) as other, Upstream(to(f"{other.url}/next")) as upstream:
        url = upstream.url.replace("http://", "http://user:secret@")
        with relayed(url, follow_redirects=True) as front:
            front.fetch()
        assert upstream.requests[0].value("authorization") is not None
        assert other.requests[0].value("authorization") is None


def test_credentials_do_not_come_back_with_a_redirect_to_the_first_origin() -> None:
    with Upstream(scripts.ok) as other:
        script = scripts.in_turn(to(f"{other.url}/there"), scripts.ok)
        with following(script) as (upstream, front):
            other.script = to(f"{upstream.url}/back")
            front.fetch(headers=CREDENTIALS)
        assert b"secret" not in upstream.requests[1].raw


def test_preserve_host_ends_with_the_origin() -> None:
    with Upstream(scripts.ok) as other:
        with following(to(f"{other.url}/next"), preserve_host=True) as (upstream, front):
            front.fetch(host="relay.test")
        assert upstream.requests[0].value("host") == b"relay.test"
        assert other.requests[0].value("host") == other.authority.encode()


# -- together with retries -------------------------------------------------------------------------


def test_a_redirect_may_lead_to_a_retry_and_a_retry_to_a_redirect() -> None:
    routes = {
        b"/start": scripts.in_turn(scripts.answer(503), to("/next")),
        b"/next": scripts.in_turn(scripts.answer(503), scripts.ok),
    }
    settings = {"follow_redirects": True, "max_retries": 2, "retry_backoff_factor": 0}
    with Upstream(scripts.by_path(routes)) as upstream:
        with relayed(upstream.url, **settings) as front:
            assert front.fetch("/start").body == b"ok"
        assert [request.target for request in upstream.requests] == [
            b"/start", b"/start", b"/next", b"/next",
        ]  # fmt: skip


def test_a_failure_behind_a_redirect_is_a_502() -> None:
    with following(scripts.in_turn(to("/next"), scripts.say(b"?\r\n\r\n"))) as (_, front):
        assert front.fetch().status == 502
