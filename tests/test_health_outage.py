"""No healthy target, and its end: what clients get, and who is told of the changes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, TargetChange

from .support import scripts
from .support.fleet import (
    answers,
    ask,
    balanced,
    fleet,
    relay_to,
    state_of,
    until,
    upstreams,
)
from .support.session import Session
from .support.upstream import refusing
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from .support.exchange import Exchange

pytestmark = pytest.mark.anyio
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# The first probe decides: one that is well must not be taken for one that hangs.
checked: dict[str, Any] = {"health_check": HealthCheck(interval=0.05, timeout=10)}


# -- nobody is healthy -----------------------------------------------------------------------------


async def test_without_a_healthy_target_it_is_a_503() -> None:
    with refusing() as one, refusing() as other:
        async with relay_to(one, other, **checked) as relay:
            call = await ask(relay, "/secret?key=s3cret")
    assert call.status == 503
    assert call.body.startswith(b"Service Unavailable: ")
    assert call.response_values("content-type")[0].startswith(b"text/plain")
    for url in (one, other):
        assert url.rpartition(":")[2].encode() not in call.body
    assert b"s3cret" not in call.body


@asyncio_only
async def test_it_is_answered_at_once_and_not_retried() -> None:
    with refusing() as url:
        settings = {**checked, "max_retries": 5, "retry_backoff_factor": 10}
        async with relay_to(url, **settings) as relay:
            begin = time.monotonic()
            for _ in range(20):
                assert (await ask(relay, method="POST", pieces=[b"body"])).status == 503
            assert time.monotonic() - begin < 5


async def test_a_web_socket_is_refused_likewise() -> None:
    with refusing() as url:
        async with relay_to(url, **checked) as relay:
            async with Session("/x").run(relay) as session:
                pass
            # A server that cannot pass an answer on closes before it accepts.
            async with Session("/x", extensions=None).run(relay) as closed:
                pass
    assert session.types[0] == "websocket.http.response.start"
    assert session.sent[0]["status"] == 503
    body = b"".join(message.get("body", b"") for message in session.sent[1:])
    assert body.startswith(b"Service Unavailable: ")
    assert closed.types == ["websocket.close"]


def test_web_sockets_go_to_those_that_are_healthy() -> None:
    def script(exchange: Exchange) -> None:
        probe = exchange.request.method == b"HEAD"
        (scripts.ok if probe else accept)(exchange)

    accept = Accept(echo)
    with (
        refusing() as url,
        upstreams(script) as (b,),
        balanced(url, b, balance="round_robin", **checked) as front,
    ):
        for _ in range(4):
            with WebSocketClient(front.port) as client:
                client.open()
                client.send_text("hello")
                assert client.receive_message() == "hello"
                client.finish_close()


@asyncio_only
async def test_all_of_them_come_back_after_an_outage() -> None:
    with fleet("a", "b") as two:
        settings = {**checked, "balance": "round_robin"}
        async with relay_to(*two, **settings) as relay:
            for one in two:
                one.kill()
            await until(lambda: {state_of(relay, one) for one in two} == {"unhealthy"}, "the end")
            assert (await ask(relay)).status == 503
            for one in two:
                one.start()
            await until(lambda: {state_of(relay, one) for one in two} == {"healthy"}, "the start")
            assert sorted(await answers(relay, 4)) == ["a", "a", "b", "b"]


# -- who is told -----------------------------------------------------------------------------------


async def test_changes_are_told_on_the_loops_thread() -> None:
    changes: list[tuple[TargetChange, int]] = []
    status = [200]

    def failing(exchange: Any) -> None:
        exchange.respond(status[0], body=b"a")

    def changed(change: TargetChange) -> None:
        changes.append((change, threading.get_ident()))

    def told() -> list[tuple[str, str]]:
        return [(change.before, change.after) for change, _ in changes]

    settings = {"health_check": HealthCheck(interval=0.05, fall=1), "on_target_change": changed}
    with upstreams(failing) as (a,):
        async with relay_to(a, **settings) as relay:
            await until(lambda: state_of(relay, a) == "healthy", "the check")
            status[0] = 500
            await until(lambda: ("healthy", "unhealthy") in told(), "the fall")
            status[0] = 200
            await until(lambda: told()[-1] == ("unhealthy", "healthy"), "the rise")
            relay.targets.drain(a.url)
            await until(lambda: told()[-1] == ("healthy", "draining"), "the drain")
    assert {change.url for change, _ in changes} == {a.url}
    assert {thread for _, thread in changes} == {threading.get_ident()}
    # Each begins where the one before it ended.
    for (_, after), (before, _) in zip(told(), told()[1:], strict=False):
        assert after == before


@asyncio_only
async def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def changed(change: TargetChange) -> None:
        raise RuntimeError("not my day")

    with fleet("a", "b") as (a, b):
        async with relay_to(a, b, **checked, on_target_change=changed) as relay:
            a.kill()
            await until(lambda: state_of(relay, a) == "unhealthy", "the fall")
            assert await answers(relay, 4) == ["b"] * 4
    # It is not lost, either.
    assert "not my day" in caplog.text
