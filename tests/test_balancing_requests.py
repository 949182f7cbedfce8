"""What goes to the target that was chosen: its own Host, its own path, over its own connections."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import ASGITransport, Limits, Relay

from .support import scripts
from .support.direct import Call
from .support.fleet import answers, balanced, status_of, upstreams
from .support.waiting import wait_until

if TYPE_CHECKING:
    from .support.asgi import Receive, Scope, Send
    from .support.exchange import Exchange

in_turn: dict[str, Any] = {"balance": "round_robin"}


def test_each_target_has_its_own_host_and_base_path() -> None:
    with upstreams("a", "b") as (a, b):
        several = [f"{a.url}/one/", f"{b.url}/two%2Fthree"]
        with balanced(*several, **in_turn, upstream_prefix="/api") as front:
            for _ in range(2):
                front.fetch("/x%2Fy?q=1", host="client.test")
    (to_a,), (to_b,) = a.requests, b.requests
    assert to_a.target == b"/one/api/x%2Fy?q=1"
    assert to_b.target == b"/two%2Fthree/api/x%2Fy?q=1"
    assert to_a.values("host") == [a.authority.encode()]
    assert to_b.values("host") == [b.authority.encode()]
    assert to_a.values("x-forwarded-host") == to_b.values("x-forwarded-host") == [b"client.test"]


def test_a_host_that_is_preserved_is_the_clients_everywhere() -> None:
    with (
        upstreams("a", "b") as two,
        balanced(*two, **in_turn, preserve_host=True) as front,
    ):
        for _ in range(2):
            front.fetch(host="client.test")
    assert [one.requests[0].values("host") for one in two] == [[b"client.test"]] * 2


def test_targets_on_one_server_differ_by_their_paths() -> None:
    with (
        upstreams("both") as (both,),
        balanced(f"{both.url}/a", f"{both.url}/b", **in_turn) as front,
    ):
        for _ in range(4):
            front.fetch("/x")
        assert len(front.relay.status()["targets"]) == 2
    assert Counter(one.target for one in both.requests) == {b"/a/x": 2, b"/b/x": 2}


@pytest.mark.anyio
@pytest.mark.parametrize("first", ["bare", "based"])
async def test_the_mount_itself_is_each_targets_base_path(first: str) -> None:
    """With a slash at its end where the client sent one, whichever target comes first."""
    with upstreams("bare", "based") as (bare, based):
        several = [bare.url, f"{based.url}/base"]
        async with Relay(several[:: 1 if first == "bare" else -1], **in_turn) as relay:
            for target in ("/proxy", "/proxy", "/proxy/", "/proxy/"):
                await Call(target=target, root_path="/proxy")(relay)
    assert [request.target for request in bare.requests] == [b"/", b"/"]
    assert [request.target for request in based.requests] == [b"/base", b"/base/"]


def test_user_information_goes_to_each() -> None:
    with (
        upstreams("a", "b") as two,
        balanced(*(one.url.replace("://", "://u:s3cret@") for one in two), **in_turn) as front,
    ):
        for _ in range(2):
            front.fetch()
        assert "s3cret" not in repr(front.relay.status())
    assert [one.requests[0].values("authorization") for one in two] == [[b"Basic dTpzM2NyZXQ="]] * 2


@pytest.mark.parametrize("climbing", ["/../x", "/%2e%2e/x"])
def test_nobody_is_asked_for_a_path_that_climbs(climbing: str) -> None:
    with (
        upstreams("a", "b") as two,
        balanced(f"{two[0].url}/a", f"{two[1].url}/b") as front,
    ):
        assert front.fetch(climbing).status == 400
        assert all(one["requests"] == 0 for one in front.relay.status()["targets"].values())


def test_limits_hold_for_each_target() -> None:
    """One that hangs takes its own connections, and not those of the others."""
    limits = Limits(max_connections=1)
    with (
        upstreams(scripts.hang, "b") as (hanging, b),
        balanced(hanging, b, **in_turn, limits=limits) as front,
        contextlib.ExitStack() as clients,
    ):

        def begun() -> int:
            return sum(one["requests"] for one in front.relay.status()["targets"].values())

        # Until one request has the only connection of the one that hangs, and one waits for it.
        while status_of(front.relay, hanging)["in_flight"] < 2:
            before = begun()
            clients.enter_context(front.client()).start()
            wait_until(lambda before=before: begun() > before, "the choice")  # type: ignore[misc]
        assert front.fetch().body == b"b"
        assert len(hanging.connections) == 1


def test_a_client_that_comes_again_is_not_kept_at_one_target() -> None:
    with (
        upstreams("a", "b") as two,
        balanced(*two, **in_turn) as front,
        front.client() as client,
    ):
        said = [client.request().body for _ in range(6)]
    assert Counter(said) == {b"a": 3, b"b": 3}


def test_connections_to_each_are_kept() -> None:
    with upstreams("a", "b") as two:
        with balanced(*two, **in_turn) as front:
            for _ in range(10):
                front.fetch()
        assert [len(one.connections) for one in two] == [1, 1]


def test_an_upload_arrives_whole_wherever_it_goes() -> None:
    body = bytes(range(256)) * 4000
    with upstreams(scripts.echo, scripts.echo) as two:
        with balanced(*two, **in_turn) as front:
            for _ in range(2):
                assert front.fetch(method="POST", body=body).body == body
        assert [one.requests[0].body for one in two] == [body, body]


def test_a_redirect_is_followed_from_the_target_that_sent_it() -> None:
    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.target == b"/base/start":
            exchange.respond(302, [("Location", "/there")])
        else:
            exchange.respond(body=exchange.request.connection.upstream.authority.encode())

    with upstreams(script, script) as two:
        bases = [f"{one.url}/base" for one in two]
        with balanced(*bases, **in_turn, follow_redirects=True) as front:
            said = {front.fetch("/start").body for _ in range(4)}
            assert [one["in_flight"] for one in front.relay.status()["targets"].values()] == [0, 0]
    assert said == {one.authority.encode() for one in two}
    for one in two:
        assert [request.target for request in one.requests] == [b"/base/start", b"/there"] * 2


@pytest.mark.anyio
async def test_upstreams_in_this_process_take_turns_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        host = dict(scope["headers"])[b"host"]
        await send({"type": "http.response.body", "body": host + scope["raw_path"]})

    several = ["http://a.test/x", "http://b.test/y"]
    async with Relay(several, **in_turn, transport=ASGITransport(app)) as relay:
        said = Counter(await answers(relay, 4))
        counts = [one["requests"] for one in relay.status()["targets"].values()]
    assert said == {"a.test/x/": 2, "b.test/y/": 2}
    assert counts == [2, 2]
