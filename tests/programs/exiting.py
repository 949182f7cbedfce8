"""Ends with streams open: `python -m tests.programs.exiting <scenario> <upstream's URL>`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import trio

from asgi_relay import Relay
from tests.support.direct import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STREAMS = 5

# Development mode also reports callbacks that took long, which only tells how busy the machine is.
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing "))


async def opened(relay: Relay) -> list[asyncio.Task[Call]]:
    """Streams that have begun and will not end."""
    calls = [Call(target="/stream") for _ in range(STREAMS)]
    tasks = [asyncio.ensure_future(call(relay)) for call in calls]
    for call in calls:
        await has_begun(call)
    return tasks


async def has_begun(call: Call) -> None:
    await call.until(lambda: bool(call.sent))


def loop_ends(relay: Relay) -> None:
    async def main() -> None:
        await opened(relay)

    asyncio.run(main())


def trio_loop_ends(relay: Relay) -> None:
    async def main() -> None:
        calls = [Call(target="/stream") for _ in range(STREAMS)]
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call, relay)
            for call in calls:
                await has_begun(call)
            nursery.cancel_scope.cancel()

    trio.run(main)


def program_exits_on_the_loop(relay: Relay) -> None:
    async def main() -> None:
        await opened(relay)
        sys.exit(0)

    asyncio.run(main())


def after_a_good_end(relay: Relay) -> None:
    async def main() -> None:
        tasks = await opened(relay)
        await relay.shutdown()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def relay_that_was_only_made(relay: Relay) -> None:
    assert "not started" in repr(relay)


def relay_that_was_started_and_forgotten(relay: Relay) -> None:
    asyncio.run(relay.startup())


def loop_in_a_daemon_thread(relay: Relay) -> None:
    """The interpreter ends while another thread runs the loop with the streams."""
    ready = threading.Event()

    async def main() -> None:
        tasks = await opened(relay)
        ready.set()
        await asyncio.gather(*tasks)

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    ready.wait(10)


def busy_loop_in_a_daemon_thread(relay: Relay) -> None:
    """As above, and answers keep coming for the loop while the interpreter ends."""
    ready = threading.Event()

    async def ask() -> None:
        while True:
            await Call()(relay)
            ready.set()

    async def main() -> None:
        await asyncio.gather(*(ask() for _ in range(20)))

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    ready.wait(10)


def signal_of_the_terminal(relay: Relay) -> None:
    # Whoever runs the tests as a background job of a shell has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def main() -> None:
        await opened(relay)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(10)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)


def exit_without_an_end(relay: Relay) -> None:
    async def main() -> None:
        await opened(relay)
        os._exit(0)

    asyncio.run(main())


SCENARIOS: dict[str, Callable[[Relay], Awaitable[None] | None]] = {
    scenario.__name__: scenario
    for scenario in (
        loop_ends,
        trio_loop_ends,
        program_exits_on_the_loop,
        after_a_good_end,
        relay_that_was_only_made,
        relay_that_was_started_and_forgotten,
        loop_in_a_daemon_thread,
        busy_loop_in_a_daemon_thread,
        signal_of_the_terminal,
        exit_without_an_end,
    )
}

# Global, as the relays of apps are: it lives until the interpreter's very end.
relay = Relay(sys.argv[2], shutdown_grace=0)

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](relay)
    sys.stdout.write("the end\n")
