"""Upstreams in this process, by our transport, httpx's, httpx2's and anybody's: all the same."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest

from asgi_relay import ASGITransport, Relay, Timeout

from .support import asgi
from .support.direct import Call
from .support.tidy import Tidy

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support.asgi import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio

URL = "http://app.test:8000/base"


class Handmade:
    """What the documents call any object with httpx's `handle_async_request`."""

    def __init__(self, app: ASGIApp) -> None:
        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=True)

    async def handle_async_request(self, request: Any) -> Any:
        return await self._inner.handle_async_request(request)


TRANSPORTS: dict[str, Callable[[ASGIApp], Any]] = {
    "ours": ASGITransport,
    "httpx": lambda app: httpx.ASGITransport(app=app),
    "httpx2": lambda app: httpx2.ASGITransport(app=app),
    "handmade": Handmade,
}


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def relay_to(app: ASGIApp, kind: str, **parameters: Any) -> Relay:
    return Relay(URL, transport=TRANSPORTS[kind](app), **parameters)


def answering(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asgi.respond(send, body, status, headers)

    return app


async def ask(relay: Relay, *arguments: Any, **more: Any) -> Call:
    async with relay:
        return await Call(*arguments, **more)(relay)


async def test_the_app_gets_what_an_upstream_gets(kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((dict(scope), await asgi.read_body(receive)))
        await asgi.respond(send, b"ok")

    headers = [
        (b"host", b"client.test"),
        (b"content-length", b"4"),
        (b"x-two", b"1"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"gone"),
        (b"x-two", b"2"),
        (b"x-octets", b"\xe2\x82\xac"),
    ]
    await ask(relay_to(app, kind), "PUT", "/a%2Fb//c?x=%2F&y", headers, [b"bo", b"dy"])
    [(scope, body)] = seen
    assert body == b"body"
    assert (scope["type"], scope["method"], scope["scheme"]) == ("http", "PUT", "http")
    assert scope["raw_path"] == b"/base/a%2Fb//c"
    assert scope["path"] == "/base/a/b//c"
    assert scope["query_string"] == b"x=%2F&y"
    # Nothing is added by the way, and nothing of it is lost.
    assert sorted(scope["headers"]) == [
        (b"content-length", b"4"),
        (b"host", b"app.test:8000"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-host", b"client.test"),
        (b"x-forwarded-proto", b"http"),
        (b"x-octets", b"\xe2\x82\xac"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]


async def test_its_answer_arrives_as_it_is(kind: str) -> None:
    headers = [
        (b"x-one", b"1"),
        (b"set-cookie", b"a=1; Path=/"),
        (b"set-cookie", b"b=2"),
        (b"content-encoding", b"gzip"),
        (b"x-octets", b"\xff\xfe"),
    ]
    call = await ask(relay_to(answering(418, b"no gzip at all", *headers), kind))
    assert (call.status, call.body, call.ended) == (418, b"no gzip at all", True)
    assert call.response_headers == [*headers, (b"content-length", b"14")]


async def test_policies_hold_as_for_any_upstream(kind: str) -> None:
    headers = [
        (b"set-cookie", b"a=1; Domain=app.test; Secure"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"gone"),
        (b"x-secret", b"gone"),
    ]
    relay = relay_to(
        answering(200, b"", *headers),
        kind,
        rewrite_set_cookie_domain=lambda domain: "" if domain == "app.test" else None,
        drop_response_headers=["X-Secret"],
    )
    call = await ask(relay)
    assert call.response_headers == [(b"set-cookie", b"a=1; Secure"), (b"content-length", b"0")]


async def test_large_bodies_arrive_whole_both_ways(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asgi.respond(send, await asgi.read_body(receive))

    pieces = [bytes([number]) * 100_000 for number in range(30)]
    headers = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
    call = await ask(relay_to(app, kind), "POST", "/", headers, pieces)
    assert call.body == b"".join(pieces)
    assert call.ended


async def test_to_head_there_is_a_length_and_no_body(kind: str) -> None:
    call = await ask(relay_to(answering(200, b"never shown"), kind), "HEAD")
    assert (call.status, call.body, call.ended) == (200, b"", True)
    assert call.response_values("content-length") == [b"11"]


@pytest.mark.parametrize("body", [b"", b"never shown"])
@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(kind: str, status: int, body: bytes) -> None:
    call = await ask(relay_to(answering(status, body), kind))
    assert (call.status, call.body, call.ended) == (status, b"", True)


async def test_many_at_once(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.lowlevel.checkpoint()
        await asgi.respond(send, scope["path"].encode())

    calls = [Call(target=f"/{number}") for number in range(50)]
    async with relay_to(app, kind) as relay, anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call, relay)
    assert [call.body for call in calls] == [b"/base/%d" % number for number in range(50)]


async def test_a_retryable_status_is_retried_with_the_whole_body(kind: str) -> None:
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await asgi.read_body(receive))
        await asgi.respond(send, b"%d" % len(bodies), 503 if len(bodies) < 3 else 200)

    relay = relay_to(app, kind, max_retries=2, retry_backoff_factor=0)
    headers = [(b"host", b"h"), (b"transfer-encoding", b"chunked")]
    call = await ask(relay, "PUT", "/", headers, [b"all ", b"of ", b"it"])
    assert (call.status, call.body) == (200, b"3")
    assert bodies == [b"all of it"] * 3


async def test_the_last_answer_arrives_when_retries_are_used_up(kind: str) -> None:
    app = answering(503, b"busy", (b"retry-after", b"7"))
    call = await ask(relay_to(app, kind, max_retries=1, retry_backoff_factor=0))
    assert (call.status, call.body) == (503, b"busy")
    assert call.response_values("retry-after") == [b"7"]


async def test_an_app_that_does_not_answer_in_time_is_a_504(kind: str) -> None:
    tidy = await Tidy.look_around()
    begun, cancelled = list[str](), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(kind)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(kind)
            raise

    call = await ask(relay_to(app, kind, timeout=Timeout(read=0.1)))
    assert (call.status, call.body) == (504, b"Gateway Timeout")
    # On a busy machine it may be too late for the call before that has begun.
    assert cancelled == begun
    await tidy.check()


async def test_an_app_that_raises_before_its_answer_is_a_502(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("a secret of the inside")

    call = await ask(relay_to(app, kind))
    assert call.status == 502
    assert call.body.startswith(b"Upstream error")
    assert b"secret" not in call.body
    # For whoever has to mend the app, there is a traceback.
    [record] = caplog.records
    assert record.name == "asgi_relay"
    assert "a secret of the inside" in caplog.text


async def test_an_app_that_ends_without_an_answer_is_a_502(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    call = await ask(relay_to(app, kind))
    assert call.status == 502
    assert call.body.startswith(b"Upstream error")


async def test_a_framing_that_means_nothing_here_does_not_cross(kind: str) -> None:
    app = answering(200, b"hello", (b"transfer-encoding", b"chunked"))
    call = await ask(relay_to(app, kind))
    assert call.response_headers == [(b"content-length", b"5")]
    assert call.body == b"hello"


async def test_a_header_with_a_line_break_never_crosses(kind: str) -> None:
    app = answering(200, b"ok", (b"x-name", b"value\r\nset-cookie: stolen=1"))
    call = await ask(relay_to(app, kind))
    assert call.status == 502
    assert not call.response_values("set-cookie")


async def test_relays_may_be_chained(kind: str) -> None:
    inner = Relay("http://last.test", transport=ASGITransport(answering(200, b"the last")))
    outer = relay_to(inner, kind)
    call = await ask(outer)
    assert (call.status, call.body) == (200, b"the last")
    await inner.shutdown()


async def test_a_request_in_flight_is_cut_by_the_end_of_the_relay(kind: str) -> None:
    tidy = await Tidy.look_around()
    begun = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await anyio.sleep_forever()

    relay = relay_to(app, kind, shutdown_grace=0)
    call = Call()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, relay)
        await begun.wait()
        await relay.shutdown()
    assert call.status == 502
    await tidy.check()


def test_httpx_is_never_imported_for_what_needs_none_of_it() -> None:
    program = """
import asyncio, sys
from asgi_relay import ASGITransport, ConnectError, Relay, Timeout

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

async def main():
    sent = []
    async def receive(): return {"type": "http.request", "body": b"x", "more_body": False}
    async def send(message): sent.append(message)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"1")]}
    relay = Relay("http://h", transport=ASGITransport(app), retry_exceptions=(ConnectError,))
    async with relay:
        await relay(scope, receive, send)
    assert sent[0]["status"] == 200, sent

asyncio.run(main())
print(sorted(name for name in sys.modules if name.split(".")[0] in {"httpx", "httpx2", "anyio"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
