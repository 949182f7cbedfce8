"""Upstreams that fail as they are told, and relays that eject them for it."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Any

from asgi_relay import PassiveHealth

from .client import Client, TruncatedError
from .fleet import state_of
from .waiting import wait_until

if TYPE_CHECKING:
    from .exchange import Exchange
    from .front import Front
    from .upstream import Upstream

in_turn: dict[str, Any] = {"balance": "round_robin"}
for_long: dict[str, Any] = {"eject_time": 60}


def by_failures(count: int = 3, **settings: Any) -> dict[str, Any]:
    """Ejected after so many in a row, and for no other reason."""
    passive = PassiveHealth(
        consecutive_failures=count, **{"failure_rate": None, **for_long, **settings}
    )
    return {**in_turn, "passive_health": passive}


class Fickle:
    """A script whose status is what the test sets it to, and which answers with its name."""

    def __init__(self, name: str = "a", status: int = 200) -> None:
        self.name = name
        self.status = status

    def __call__(self, exchange: Exchange) -> None:
        exchange.read_body()
        exchange.respond(self.status, body=self.name.encode())


def ask_until_ejected(front: Front, upstream: Upstream | str, most: int = 40) -> int:
    """How many requests the relay got before this target was out."""
    for number in range(most):
        if state_of(front.relay, upstream) == "ejected":
            return number
        with contextlib.suppress(TruncatedError):
            front.fetch()
    raise AssertionError(f"not ejected after {most} requests")


def begin_trial(front: Front, upstream: Upstream, stack: contextlib.ExitStack) -> Client:
    """Ask until one request is a trial that hangs there; the client that waits for its answer."""
    seen = len(upstream.requests)
    while True:
        client = stack.enter_context(front.client())
        client.start()
        wait_until(
            lambda client=client: len(upstream.requests) > seen or is_answered(client),  # type: ignore[misc]
            "an answer or the trial",
        )
        if len(upstream.requests) > seen:
            return client
        client.close()


def is_answered(client: Client) -> bool:
    return bool(select.select([client.sock], [], [], 0)[0])
