"""Clients that ask again and again, each on one connection, while something happens to a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .client import Client, TruncatedError
from .waiting import PATIENCE

if TYPE_CHECKING:
    from types import TracebackType

CLIENTS = 4


class Askers:
    """`with Askers(port) as askers:`; they ask until they are told that the connection closes.

    `answers` has the bodies of all answers, `lost` what befell requests that got none: a request
    is lost even if the server closes the connection while it is under way.
    """

    def __init__(self, port: int, target: str = "/") -> None:
        self.answers: list[bytes] = []
        self.statuses: set[int] = set()
        self.lost: list[Exception] = []
        self._target = target
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self._clients = [Client(port) for _ in range(CLIENTS)]
        self._threads = [
            threading.Thread(target=self._ask, args=(client,)) for client in self._clients
        ]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self.join()
        for client in self._clients:
            client.close()

    def _ask(self, client: Client) -> None:
        while not self._leaving.is_set():
            try:
                response = client.request(target=self._target)
            except (OSError, TruncatedError) as error:
                self.lost.append(error)
                return
            with self._changed:
                self.answers.append(response.body)
                self.statuses.add(response.status)
                self._changed.notify_all()
            if response.value("connection") == b"close":
                return

    def wait_answers(self, count: int, body: bytes | None = None) -> None:
        """Wait for so many more answers, or for so many more with this body."""

        def given() -> int:
            return len(self.answers) if body is None else self.answers.count(body)

        with self._changed:
            goal = given() + count
            if not self._changed.wait_for(lambda: given() >= goal, PATIENCE):
                raise AssertionError(f"{len(self.answers)} answers, lost: {self.lost}")

    def join(self) -> None:
        """Wait until all have stopped asking."""
        for thread in self._threads:
            thread.join(PATIENCE)
