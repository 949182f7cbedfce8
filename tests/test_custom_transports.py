"""Any object with httpx's `handle_async_request`: what it gets, and what its failures become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest

from asgi_relay import ConnectError, ReadError, Relay, RelayError

from .support.direct import Call
from .support.tidy import Tidy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.anyio


class Transport(httpx.AsyncBaseTransport):
    """Answers with what a function makes of the request."""

    def __init__(self, handler: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> None:
        self.requests: list[httpx.Request] = []
        self._handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self._handler(request)


class Body(httpx.AsyncByteStream):
    """A body of pieces that may end in an error, and that knows whether it was closed."""

    def __init__(self, *pieces: bytes, error: Exception | None = None, stall: bool = False) -> None:
        self.closed = 0
        self._pieces, self._error, self._stall = pieces, error, stall

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._stall:
            await anyio.sleep_forever()
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.closed += 1


def raising(*errors: Exception) -> Transport:
    """Fails with each of the errors, and then answers."""
    left = list(errors)

    async def handler(request: httpx.Request) -> httpx.Response:
        if left:
            raise left.pop(0)
        return httpx.Response(200, stream=Body(b"at last"))

    return Transport(handler)


def streaming(body: Body) -> Transport:
    async def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=body)

    return Transport(handler)


async def ask(transport: Any, call: Call | None = None, **parameters: Any) -> Call:
    async with Relay("http://app.test/base", transport=transport, **parameters) as relay:
        return await (call or Call())(relay)


async def test_it_is_given_a_request_of_httpx() -> None:
    bodies: list[bytes] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(await request.aread())
        return httpx.Response(201, headers={"X-Made": "yes"}, stream=Body(b"made"))

    transport = Transport(handler)
    headers = [(b"host", b"h"), (b"content-length", b"4"), (b"x-name", b"value")]
    call = await ask(transport, Call("POST", "/a%2Fb?c=%2F", headers, [b"bo", b"dy"]))
    [request] = transport.requests
    assert (request.method, str(request.url)) == ("POST", "http://app.test/base/a%2Fb?c=%2F")
    # What a URL object might change is here as it was.
    assert request.extensions["target"] == b"/base/a%2Fb?c=%2F"
    assert request.headers["x-name"] == "value"
    assert request.headers["host"] == "app.test"
    assert bodies == [b"body"]
    assert (call.status, call.body, call.ended) == (201, b"made", True)
    assert call.response_values("x-made") == [b"yes"]


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_it_is_given_its_own_librarys_request(library: Any) -> None:
    class Own(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            assert isinstance(request, library.Request)
            return library.Response(200, content=b"ok")

    assert (await ask(Own())).body == b"ok"


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("ConnectError", 502, b"ConnectError"),
        ("ReadError", 502, b"ReadError"),
        ("WriteError", 502, b"WriteError"),
        ("RemoteProtocolError", 502, b"RemoteProtocolError"),
        ("ConnectTimeout", 504, b"Gateway Timeout"),
        ("ReadTimeout", 504, b"Gateway Timeout"),
        ("WriteTimeout", 504, b"Gateway Timeout"),
        ("PoolTimeout", 504, b"Gateway Timeout"),
        ("CloseError", 502, b"Upstream error"),
        ("UnsupportedProtocol", 502, b"Upstream error"),
    ],
)
async def test_its_errors_are_answered_as_an_upstreams(
    library: Any, name: str, status: int, words: bytes
) -> None:
    call = await ask(raising(getattr(library, name)("10.0.0.7 said no")))
    assert call.status == status
    assert words in call.body
    assert b"10.0.0.7" not in call.body


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), ReadError("x"), TimeoutError()])
async def test_other_errors_are_answered_too(error: Exception) -> None:
    call = await ask(raising(error))
    assert call.status == 502
    assert call.body.startswith(b"Upstream error")


@pytest.mark.parametrize(
    ("error", "chosen"),
    [
        (httpx.ConnectError("x"), (ConnectError,)),
        (httpx2.ConnectError("x"), (ConnectError,)),
        (httpx.ReadTimeout("x"), (httpx.TimeoutException,)),
        (httpx2.ReadTimeout("x"), (httpx.ReadTimeout,)),
        (httpx.RemoteProtocolError("x"), (httpx.TransportError,)),
    ],
)
async def test_its_errors_are_retried_by_either_name(error: Exception, chosen: Any) -> None:
    transport = raising(error, error)
    call = await ask(transport, max_retries=2, retry_backoff_factor=0, retry_exceptions=chosen)
    assert (call.status, call.body) == (200, b"at last")
    assert len(transport.requests) == 3


async def test_errors_that_were_not_chosen_are_not_retried() -> None:
    transport = raising(httpx.ReadError("x"))
    call = await ask(transport, max_retries=2, retry_backoff_factor=0)
    assert call.status == 502
    assert len(transport.requests) == 1


async def test_a_post_is_not_repeated_after_its_transport_saw_it() -> None:
    transport = raising(httpx.ReadTimeout("x"))
    call = Call("POST", headers=[(b"content-length", b"1")], pieces=[b"x"])
    await ask(transport, call, max_retries=2, retry_backoff_factor=0)
    assert call.status == 504
    assert len(transport.requests) == 1


@pytest.mark.parametrize(
    "error", [httpx.ReadError("x"), httpx2.RemoteProtocolError("x"), ValueError("x")]
)
async def test_a_body_that_fails_is_cut_where_the_client_can_see_it(error: Exception) -> None:
    body = Body(b"half", error=error)
    call = Call()
    with pytest.raises(RelayError):
        await ask(streaming(body), call)
    assert (call.status, call.body, call.ended) == (200, b"half", False)
    assert body.closed


async def test_a_response_is_closed_after_its_last_piece() -> None:
    body = Body(b"one ", b"", b"two")
    call = await ask(streaming(body))
    assert (call.body, call.ended) == (b"one two", True)
    assert body.closed


async def test_a_response_is_closed_when_its_client_leaves() -> None:
    tidy = await Tidy.look_around()
    body = Body(b"first", stall=True)
    call, transport = Call(), streaming(body)
    async with (
        Relay("http://app.test", transport=transport) as relay,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(call, relay)
        await call.until(lambda: call.body == b"first")
        call.leave.set()
    assert body.closed
    assert not call.ended
    # Whoever keeps a request keeps what its body hangs on.
    transport.requests.clear()
    await tidy.check()


async def test_a_failed_answer_is_closed_before_the_retry() -> None:
    bodies = [Body(b"busy"), Body(b"fine")]
    left = list(bodies)

    async def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if len(left) == 2 else 200, stream=left.pop(0))

    call = await ask(Transport(handler), max_retries=1, retry_backoff_factor=0)
    assert (call.status, call.body) == (200, b"fine")
    assert [body.closed > 0 for body in bodies] == [True, True]


async def test_redirects_are_followed_through_it() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/base/":
            return httpx.Response(302, headers={"Location": "/there?x=y"}, stream=Body())
        return httpx.Response(200, stream=Body(bytes(request.url.raw_path)))

    call = await ask(Transport(handler), follow_redirects=True)
    assert (call.status, call.body) == (200, b"/there?x=y")


async def test_what_is_no_response_is_a_502() -> None:
    async def handler(request: httpx.Request) -> Any:
        return None

    call = await ask(Transport(handler))
    assert call.status == 502
