"""Clients that ask one relay without end, with no server between, and what they were answered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .direct import Call
from .fleet import until
from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from asgi_relay import Relay


@dataclass(frozen=True)
class Answer:
    """What one client got; the status is 0 where the app raised after its response's beginning."""

    status: int
    body: str
    target: str
    began: float
    ended: float


class Load:
    """Clients that ask without end: `async with Load(relay) as load: await load.more(100)`.

    What they were answered is in `answers`, in the order of the ends.
    """

    def __init__(
        self, relay: Relay, clients: int = 8, method: str = "GET", pause: float = 0.002
    ) -> None:
        self.answers: list[Answer] = []
        self._relay = relay
        self._clients = clients
        self._method = method
        self._pause = pause
        self._leaving = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [
            asyncio.get_running_loop().create_task(self._client(number))
            for number in range(self._clients)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        # Each finishes the request that it is at, so that none is lost without an answer.
        self._leaving = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE)

    async def more(self, count: int) -> None:
        """Wait until there are so many more answers than now."""
        wanted = len(self.answers) + count
        await self.until(lambda: len(self.answers) >= wanted, f"{count} more answers")

    async def until(self, condition: Callable[[], bool], wanted: str) -> None:
        """Wait for something, while the clients go on."""
        await until(lambda: condition() or any(task.done() for task in self._tasks), wanted)
        for task in self._tasks:
            if task.done():
                task.result()

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def bodies(self, since: int = 0) -> Counter[str]:
        """Who answered, from the answer of that number on."""
        return Counter(answer.body for answer in self.answers[since:])

    @property
    def bad(self) -> list[Answer]:
        """The answers that are not 200."""
        return [answer for answer in self.answers if answer.status != 200]

    async def _client(self, number: int) -> None:
        turn = 0
        while not self._leaving:
            turn += 1
            call = Call(
                self._method, f"/{number}-{turn}", pieces=[b"body"] * (self._method == "POST")
            )
            began = time.monotonic()
            status, body = 0, ""
            with contextlib.suppress(Exception):
                await call(self._relay)
                status, body = call.status, call.body.decode()
            self.answers.append(Answer(status, body, call.target, began, time.monotonic()))
            await asyncio.sleep(self._pause)
