"""Forks with a relay in hand: `python -m tests.programs.forking <scenario> <upstream's URL>`.

Each scenario prints, line by line, what parent and child were answered.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

import uvicorn

from asgi_relay import ASGITransport, Relay
from tests.support.direct import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.asgi import Message, Receive, Scope, Send

PATIENCE = 60


def say(*words: object) -> None:
    # One write a line, as several processes share the stream.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def ask(relay: Relay, target: str = "/") -> str:
    call = await Call(target=target)(relay)
    return f"{call.status} {call.body.decode()}"


def get(relay: Relay, target: str = "/") -> str:
    return asyncio.run(ask(relay, target))


def in_child(work: Callable[[], None], *, at_once: bool = False) -> int:
    """Fork and do something there; `at_once` ends it without the interpreter's own end."""
    pid = os.fork()
    if pid == 0:
        # A child that hangs is a failure with a traceback, and not one that outlives the test.
        signal.alarm(PATIENCE)
        try:
            work()
        finally:
            if at_once:
                os._exit(0)
        sys.exit(0)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child_uses(relay: Relay) -> None:
    say("parent", get(relay, "/parent-1"))
    pid = in_child(lambda: say("child", get(relay, "/child-1"), get(relay, "/child-2")))
    say("status", status_of(pid))
    say("parent", get(relay, "/parent-2"))


def grandchild_uses(relay: Relay) -> None:
    say("parent", get(relay))

    def child() -> None:
        say("child", get(relay))
        say("status", status_of(in_child(lambda: say("grandchild", get(relay)))))
        say("child", get(relay))

    say("status", status_of(in_child(child)))
    say("parent", get(relay))


def child_ends_the_relay(relay: Relay) -> None:
    say("parent", get(relay, "/parent-1"))
    say("status", status_of(in_child(lambda: asyncio.run(relay.shutdown()))))
    say("parent", get(relay, "/parent-2"))


def child_does_nothing(relay: Relay) -> None:
    say("parent", get(relay, "/parent-1"))
    say("status", status_of(in_child(lambda: None)))
    say("parent", get(relay, "/parent-2"))


def fork_on_a_running_loop(relay: Relay) -> None:
    async def parent() -> None:
        say("parent", await ask(relay, "/parent-1"))
        stream = Call(target="/stream")
        streaming = asyncio.ensure_future(stream(relay))
        await stream.until(lambda: bool(stream.sent))
        pid = in_child(lambda: say("child", get(relay, "/child")), at_once=True)
        say("status", await asyncio.to_thread(status_of, pid))
        say("parent", await ask(relay, "/parent-2"))
        # Only now does the upstream go on with the stream.
        await ask(relay, "/go-on")
        await streaming
        say("stream", stream.status, stream.body.decode())

    asyncio.run(parent())


def fork_while_a_thread_asks(relay: Relay) -> None:
    # First, as Python's import locks do not survive a fork in the middle of an import.
    say("parent", get(relay))
    done, busy = threading.Event(), threading.Event()

    async def keep_asking() -> None:
        while not done.is_set():
            await asyncio.gather(*(ask(relay, "/busy") for _ in range(8)))
            busy.set()

    thread = threading.Thread(target=lambda: asyncio.run(keep_asking()))
    thread.start()
    busy.wait()
    statuses = {
        status_of(in_child(lambda: say("child", get(relay)), at_once=True)) for _ in range(8)
    }
    done.set()
    thread.join()
    say("statuses", statuses)
    say("parent", get(relay))


def fork_in_an_app(_: Relay) -> None:
    """An app that is asked in memory forks while it answers."""
    head: Message = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        pid = os.fork()
        if pid == 0:
            signal.alarm(PATIENCE)
            try:
                await send(head)
            except ValueError as error:
                say("child", error)
            os._exit(0)
        say("status", await asyncio.to_thread(status_of, pid))
        await send(head)
        await send({"type": "http.response.body", "body": b"ok"})

    say("parent", get(Relay("http://app", transport=ASGITransport(app=app))))


def processes(relay: Relay) -> None:
    say("parent", get(relay))
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=lambda: say("child", get(relay))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    say("statuses", [worker.exitcode for worker in workers])
    say("parent", get(relay))


def preload(relay: Relay) -> None:
    """As gunicorn with `--preload`: the app is there, and was used, before the workers are."""
    say("parent", get(relay))
    listener = socket.create_server(("127.0.0.1", 0))

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"x-worker", str(os.getpid()).encode())]
        await relay(scope, receive, send)

    def work() -> None:
        signal.alarm(0)
        config = uvicorn.Config(app, lifespan="on", log_level="error")
        uvicorn.Server(config).run(sockets=[listener])

    workers = [in_child(work) for _ in range(2)]
    say("port", listener.getsockname()[1], *workers)
    sys.stdin.readline()
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    say("statuses", [status_of(pid) for pid in workers])
    say("parent", get(relay))


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        child_uses,
        grandchild_uses,
        child_ends_the_relay,
        child_does_nothing,
        fork_on_a_running_loop,
        fork_while_a_thread_asks,
        fork_in_an_app,
        processes,
        preload,
    )
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Relay(sys.argv[2]))
