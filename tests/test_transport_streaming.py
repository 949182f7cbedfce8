"""An upstream in this process streams, waits and is left like one behind a socket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import ASGITransport, Relay, Timeout
from asgi_relay._loop import parked

from .support.conversation import silence
from .support.direct import Call
from .support.kernel import wait_still
from .support.waiting import AT_ONCE, PATIENCE

if TYPE_CHECKING:
    from asgi_relay import _engine
    from asgi_relay._loop import Port

    from .support.asgi import ASGIApp, Message, Receive, Scope, Send

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("anyio_backend")]

MIB = 1024 * 1024
MUCH = 16 * MIB
PIECE = bytes(65536)
CHUNKED = [(b"host", b"relay.test"), (b"transfer-encoding", b"chunked")]


def relay_to(app: ASGIApp) -> Relay:
    # No timeout ends what is to end by itself.
    return Relay("http://inside", transport=ASGITransport(app), timeout=Timeout(60))


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def test_events_arrive_as_they_are_sent() -> None:
    arrived = anyio.Event()

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send_body(send, b"data: 1\n\n")
        await arrived.wait()
        await send_body(send, b"data: 2\n\n", more=False)

    async def send(message: Message) -> None:
        if message.get("body") == b"data: 1\n\n":
            arrived.set()

    async with relay_to(upstream) as relay:
        with anyio.fail_after(PATIENCE):
            await relay(Call().scope(), silence, send)


async def test_a_conversation_goes_both_ways_at_once() -> None:
    to_client, from_client = anyio.create_memory_object_stream[bytes](1)
    lines = [b"ping", b"pong"]

    async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        while (message := await receive())["more_body"]:
            await send_body(send, message["body"])
        await send_body(send, b"", more=False)

    async def receive() -> Message:
        if len(lines) < 2:
            assert await from_client.receive() == b"ping"
        return {"type": "http.request", "body": lines.pop(0), "more_body": bool(lines)}

    async def send(message: Message) -> None:
        if message.get("body"):
            await to_client.send(message["body"])

    with to_client, from_client:
        async with relay_to(mirror) as relay:
            with anyio.fail_after(PATIENCE):
                await relay(Call("POST", headers=CHUNKED).scope(), receive, send)


async def test_a_client_that_does_not_read_stops_the_upstream() -> None:
    sent = taken = 0
    go_on = anyio.Event()

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send)
        while sent < MUCH:
            await send_body(send, PIECE)
            sent += len(PIECE)
        await send_body(send, b"", more=False)

    async def send(message: Message) -> None:
        nonlocal taken
        await go_on.wait()
        taken += len(message.get("body", b""))

    async with relay_to(upstream) as relay, anyio.create_task_group() as group:
        group.start_soon(relay, Call().scope(), silence, send)
        assert await anyio.to_thread.run_sync(wait_still, lambda: sent) <= MIB
        go_on.set()
    assert taken == MUCH


async def test_an_upstream_that_does_not_read_stops_the_client() -> None:
    given = taken = 0
    go_on = anyio.Event()

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await go_on.wait()
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]
        await start(send)
        await send_body(send, b"", more=False)

    async def receive() -> Message:
        nonlocal given
        given += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": given < MUCH}

    async def send(message: Message) -> None:
        pass

    async with relay_to(upstream) as relay, anyio.create_task_group() as group:
        group.start_soon(relay, Call("POST", headers=CHUNKED).scope(), receive, send)
        assert await anyio.to_thread.run_sync(wait_still, lambda: given) <= MIB
        go_on.set()
    assert taken == MUCH


@pytest.mark.parametrize("phase", ["waiting for the head", "idle stream"])
async def test_a_client_that_leaves_ends_the_call_of_the_upstream(phase: str) -> None:
    call = Call()
    left_at = ended_at = 0.0

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal left_at, ended_at
        if phase == "idle stream":
            await start(send)
            await send_body(send, b"data: 1\n\n")
        left_at = time.monotonic()
        call.leave.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended_at = time.monotonic()

    async with relay_to(upstream) as relay:
        await call(relay)
        assert 0 < ended_at - left_at < AT_ONCE
        assert not call.ended


async def test_an_upload_that_its_client_leaves_is_never_complete() -> None:
    seen: list[Message] = []
    pieces = [b"half"]

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        while not seen or seen[-1].get("more_body"):
            seen.append(await receive())

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async with relay_to(upstream) as relay:
        await relay(Call("POST", headers=CHUNKED).scope(), receive, send)
    assert not [message for message in seen if message.get("more_body") is False]


async def unused(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError


class Hurried(ASGITransport):
    """Gives up waiting for the body just as it comes, and goes on waiting to send."""

    def __init__(self) -> None:
        super().__init__(unused)
        self.waits = anyio.Event()

    async def serve(self, call: _engine.Call, port: Port) -> None:
        while call.take() is None:
            await parked(call, call.park, port)
        reader = port.create_waiter()
        key = call.park(reader)
        assert key is not None
        self.waits.set()
        await reader
        call.respond(200, [])
        while True:
            while call.push(bytes(1 << 16)):
                pass
            writer = port.create_waiter()
            # There is room again where the engine has taken something meanwhile.
            if call.park_writer(writer) is not None:
                break
        # As whoever is cancelled does, who cannot know that the engine has let go of the key.
        call.unpark(key)
        await writer
        call.finish()


async def test_one_that_gives_up_waiting_takes_nobody_else_along() -> None:
    transport = Hurried()
    messages = iter([b"first", b"second"])
    sent = 0

    async def receive() -> Message:
        piece = next(messages, None)
        if piece is None:
            return await silence()
        if piece == b"second":
            await transport.waits.wait()
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Message) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    scope = Call("POST", headers=CHUNKED).scope()
    async with Relay("http://app", transport=transport) as relay:
        with anyio.fail_after(PATIENCE):
            await relay(scope, receive, send)
    assert sent >= 1 << 17
