"""The tests' servers, frameworks and processes run an app that does next to nothing."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from .support import apps, asgi
from .support.client import TruncatedError, fetch
from .support.direct import Call
from .support.processes import run_process
from .support.servers import SERVERS, serve

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve
    from .support.asgi import Message, Receive, Scope, Send
    from .support.authority import Authority
    from .support.leaks import Leaks


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app that answers with the path it was given, its root and the body."""
    if scope["type"] == "lifespan":
        await asgi.answer_lifespan(receive, send)
        return
    body = await asgi.read_body(receive)
    seen = [scope["raw_path"], scope.get("root_path", "").encode(), scope["query_string"], body]
    await asgi.respond(send, b" ".join(seen))


def test_each_server_serves(server: Serve) -> None:
    running = server(echo)
    assert fetch(running.port, "/a%2Fb?c", method="POST", body=b"d").body == b"/a%2Fb  c d"


def test_each_server_runs_the_lifespan(server: Serve) -> None:
    events: list[str] = []

    async def note() -> None:
        events.append("hook")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await asgi.answer_lifespan(receive, send, note, note)
        else:
            await echo(scope, receive, send)

    running = server(app)
    fetch(running.port)
    assert events == ["hook"]


def test_each_server_speaks_tls(server: Serve, authority: Authority) -> None:
    running = server(echo, certificate=authority.certificate("127.0.0.1"))
    assert running.url.startswith("https:")
    assert fetch(running.port, "/t", tls=authority.client()).body == b"/t   "


def test_each_server_shows_a_cut_answer(server: Serve) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await asgi.answer_lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise RuntimeError("the app ends here")

    with pytest.raises(TruncatedError) as cut:
        fetch(server(app).port)
    assert cut.value.after == 4


def test_a_server_that_cannot_start_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        message: Message = {"type": "lifespan.startup.failed", "message": "no"}
        await send(message)

    with pytest.raises((SystemExit, AssertionError)), serve(app):
        pass


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "granian"])
def test_a_server_leaves_nothing_behind(kind: str, leaks: Leaks) -> None:
    with serve(echo, kind) as running:
        fetch(running.port)
    leaks.settle()  # uvloop opens a pipe for its first loop and keeps it
    with serve(echo, kind) as running:
        fetch(running.port)


def test_each_framework_mounts(framework: str) -> None:
    hooks: list[str] = []

    async def note() -> None:
        hooks.append("hook")

    app = apps.mount(framework, "/auth", echo, note, note)
    with serve(app) as running:
        assert fetch(running.port, "/auth/a%2Fb?c").body.split(b" ")[0] == b"/auth/a%2Fb"
        assert hooks == ["hook"]
    assert hooks == ["hook", "hook"]


def test_each_framework_mounts_in_a_mount(framework: str) -> None:
    with serve(apps.mount(framework, ("/outer", "/auth"), echo)) as running:
        assert fetch(running.port, "/outer/auth/x").body.startswith(b"/outer/auth/x ")
        assert fetch(running.port, "/auth/x").status == 404 or framework == "plain"


def test_a_server_as_a_process(tmp_path: Path) -> None:
    arguments = ["-m", "uvicorn", "tests.test_support_servers:echo", "--port", "{port}"]
    with run_process(arguments, tmp_path / "log") as process:
        assert fetch(process.port, "/p").body == b"/p   "
        assert process.stop() == -signal.SIGTERM  # it raises the signal again when it is done
        assert "Application shutdown complete" in process.output


@pytest.mark.anyio
async def test_a_call_without_a_server(anyio_backend: object) -> None:
    call = await Call("POST", "/a%2Fb?c", pieces=[b"d", b"e"], root_path="/root")(echo)
    assert (call.status, call.body, call.ended) == (200, b"/a%2Fb /root c de", True)
    assert call.received == 2
    assert call.response_values("content-length") == [b"17"]


@pytest.mark.anyio
async def test_a_call_whose_client_leaves(anyio_backend: object) -> None:
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        messages.append(await receive())
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        messages.append(await receive())

    call = Call()
    async with anyio.create_task_group() as group:
        group.start_soon(call, app)
        await call.until(lambda: call.body == b"a")
        call.leave.set()
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]
    assert not call.ended
