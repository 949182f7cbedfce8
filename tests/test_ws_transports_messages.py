"""Messages and ends of WebSockets whose upstreams are in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from .support.in_process import WebSocketApp, echo, opened, relay_to, until_disconnect
from .support.session import Session
from .support.tidy import Tidy
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support.asgi import Message, Receive, Send

pytestmark = pytest.mark.anyio


# -- messages ------------------------------------------------------------------------------------


async def test_messages_of_each_kind_and_size() -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536, 10_000_000]
    messages: list[str | bytes] = ["é€😀\0", b"\xff\xfe"]
    messages += [unit * size for size in sizes for unit in ("x", b"\xff")]
    async with opened(relay_to(WebSocketApp(echo))) as session:
        for message in messages:
            session.say(message)
            assert (await session.message() == message) is True
        session.leave(1000)


async def test_thousands_each_way_at_once_arrive_in_order() -> None:
    count = 2000

    async def talk(receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_disconnect, receive, send)
            for number in range(count):
                await send({"type": "websocket.send", "text": f"down {number}"})

    app = WebSocketApp(talk)
    async with opened(relay_to(app)) as session:
        session.say(*(f"up {number}" for number in range(count)))
        await session.until(lambda: len(session.messages) == count)
        session.leave(1000)
    assert session.messages == [f"down {number}" for number in range(count)]
    texts = [message["text"] for message in app.received[1:-1]]
    assert texts == [f"up {number}" for number in range(count)]


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_a_client_that_does_not_read_stops_the_app(size: int) -> None:
    sent = 0

    async def talk(receive: Receive, send: Send) -> None:
        nonlocal sent
        for number in range(6_000_000 // size):
            await send({"type": "websocket.send", "bytes": number.to_bytes(4, "big") * (size // 4)})
            sent += 1

    async with opened(relay_to(WebSocketApp(talk))) as session:
        await session.accepted()
        session.stop_reading()
        await still(lambda: sent)
        assert sent * size <= 1_000_000
        session.go_on_reading()
        assert await session.closed() == (1011, "")
    numbers = [int.from_bytes(message[:4], "big") for message in session.messages]  # type: ignore[arg-type]
    assert numbers == list(range(6_000_000 // size))


async def test_a_client_that_leaves_while_the_app_sends() -> None:
    tidy = await Tidy.look_around()

    async def talk(receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_disconnect, receive, send)
            # Nobody takes them any more, and so none of them waits.
            for _ in range(200):
                await send({"type": "websocket.send", "bytes": bytes(100_000)})

    app = WebSocketApp(talk)
    async with opened(relay_to(app)) as session:
        await session.accepted()
        session.stop_reading()
        session.leave(1006)
    assert app.gone.is_set()
    await tidy.check()


async def test_an_app_that_does_not_read_stops_the_client() -> None:
    given, size, count = 0, 100_000, 60
    go_on = anyio.Event()

    async def talk(receive: Receive, send: Send) -> None:
        await go_on.wait()
        await until_disconnect(receive, send)

    async def receive() -> Message:
        nonlocal given
        given += 1
        if given == 1:
            return {"type": "websocket.connect"}
        if given == count + 2:
            return {"type": "websocket.disconnect", "code": 1000}
        return {"type": "websocket.receive", "bytes": bytes(size)}

    async def send(message: Message) -> None:
        pass

    app = WebSocketApp(talk)
    async with relay_to(app) as relay, anyio.create_task_group() as tasks:
        tasks.start_soon(relay, Session().scope, receive, send)
        await still(lambda: given)
        assert given * size <= 1_000_000
        go_on.set()
    assert len(app.received) == count + 2


async def still(measure: Callable[[], int]) -> None:
    """Wait until something has begun and has not changed for many turns of the loop."""
    value, turns = 0, 0
    with anyio.fail_after(PATIENCE):
        while turns < 20 or not value:
            await anyio.sleep(0.005)
            turns = turns + 1 if measure() == value else 0
            value = measure()


# -- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({}, (1000, "")),
        ({"code": 1001, "reason": "bye"}, (1001, "bye")),
        ({"code": 4999, "reason": "é" * 61}, (4999, "é" * 61)),
        ({"code": 3000, "reason": None}, (3000, "")),
    ],
)
async def test_the_app_closes(said: Any, heard: tuple[int, str]) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", **said})

    app = WebSocketApp(talk)
    async with opened(relay_to(app)) as session:
        assert await session.message() == "last"
        assert await session.closed() == heard
    assert app.gone.is_set()


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
async def test_an_app_that_ends_without_a_close_is_a_1011(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "last"})
        if fails:
            raise LookupError("a secret of the inside")

    async with opened(relay_to(WebSocketApp(talk))) as session:
        assert await session.message() == "last"
        code, reason = await session.closed()
    assert code == 1011
    assert "secret" not in reason
    assert ("a secret of the inside" in caplog.text) is fails


@pytest.mark.parametrize(
    ("leave", "heard"),
    [
        ((1000, "bye"), (1000, "bye")),
        ((4999, "é" * 61), (4999, "é" * 61)),
        ((1005, ""), (1000, "")),
        ((1006, ""), (1001, "")),
    ],
)
async def test_the_client_leaves(leave: Any, heard: tuple[int, str]) -> None:
    tidy = await Tidy.look_around()
    app = WebSocketApp()
    async with opened(relay_to(app)) as session:
        await session.accepted()
        session.say("last")
        session.leave(*leave)
    assert [message["type"] for message in app.received] == [
        "websocket.connect",
        "websocket.receive",
        "websocket.disconnect",
    ]
    assert (app.received[-1]["code"], app.received[-1].get("reason")) == heard
    assert app.gone.is_set()
    await tidy.check()


async def test_the_end_of_the_relay_closes_both_sides() -> None:
    tidy = await Tidy.look_around()
    app = WebSocketApp()
    relay = relay_to(app, shutdown_grace=0)
    async with opened(relay) as session:
        await session.accepted()
        await relay.shutdown()
        assert (await session.closed())[0] == 1001
    assert app.gone.is_set()
    await tidy.check()


async def test_too_large_a_message_of_the_app_ends_it() -> None:
    async def talk(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "x" * 1001})
        await until_disconnect(receive, send)

    app = WebSocketApp(talk)
    async with opened(relay_to(app, ws_max_message_size=1000)) as session:
        assert (await session.closed())[0] == 1011
    assert session.messages == []
    assert app.received[-1]["code"] == 1009
