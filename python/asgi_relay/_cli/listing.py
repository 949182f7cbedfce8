"""A configuration as tables: where it listens, which requests go where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._engine import Configuration
    from .screen import Screen

ANY = "any"
TITLES = ("host", "path", "methods", "to", "weight", "balance", "state")
# What a path has as it is (RFC 3986 §3.3), beside what `quote` never encodes.
_IN_A_PATH: Final = "/!$&'()*+,;=:@"


class Listener(NamedTuple):
    """An address to listen on, as the engine tells it."""

    address: str
    tls: bool
    redirect: int | None
    proxy_protocol: bool

    @property
    def url(self) -> str:
        """The address as one would ask for it."""
        if self.address.startswith("unix:"):
            return self.address
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def notes(self) -> str:
        """What is special about it."""
        notes = []
        if self.address.startswith("unix:") and self.tls:
            notes.append("TLS")
        if self.redirect is not None:
            # 0 is whichever port the system will choose.
            port = f", port {self.redirect}" if self.redirect else ""
            notes.append(f"redirects to https{port}")
        if self.proxy_protocol:
            notes.append("PROXY protocol")
        return ", ".join(notes)


class Route(NamedTuple):
    """A route, as the engine tells it."""

    hosts: list[str]
    path: str
    methods: list[str]
    targets: list[tuple[str, int]]
    policy: str
    strip_prefix: bool

    def arrival(self, target: str) -> str:
        """Where a request for the path itself arrives."""
        # Of the root nothing is cut off, as every path begins with it.
        cut = self.strip_prefix and self.path != "/"
        url = target if cut else target + quote(self.path, _IN_A_PATH)
        return url if "/" in url.partition("://")[2] else f"{url}/"

    def rows(self, states: Sequence[str]) -> list[tuple[str, ...]]:
        """A row for each target; what the route says of itself stands in the first."""
        own = (", ".join(self.hosts) or ANY, self.path, ", ".join(self.methods) or ANY)
        several = len(self.targets) > 1
        weighted = any(weight != 1 for _, weight in self.targets)
        rows: list[tuple[str, ...]] = []
        for number, (url, weight) in enumerate(self.targets):
            rows.append(
                (
                    *(own if number == 0 else ("", "", "")),
                    self.arrival(url),
                    str(weight) if weighted else "",
                    self.policy if several and number == 0 else "",
                    states[number] if states else "",
                )
            )
        return rows


def listeners(configuration: Configuration) -> list[Listener]:
    """Where it listens, in the file's order."""
    return [Listener(*parts) for parts in configuration.listeners]


def bound_to(listeners: Sequence[Listener], addresses: Sequence[str]) -> list[Listener]:
    """The listeners of a start with the addresses in the same order, ports that were free found."""
    bound = [
        listener._replace(address=address)
        for listener, address in zip(listeners, addresses, strict=True)
    ]
    secure = (one for one in bound if one.tls and not one.address.startswith("unix:"))
    port = next((int(one.address.rpartition(":")[2]) for one in secure), None)
    return [one._replace(redirect=port) if one.redirect == 0 else one for one in bound]


def show_routes(
    screen: Screen, configuration: Configuration, states: Sequence[Sequence[str]] = ()
) -> None:
    """Print the routes as a table; `states` has a text for each target of each route."""
    rows: list[tuple[str, ...]] = []
    for number, parts in enumerate(configuration.routes):
        rows += Route(*parts).rows(states[number] if states else ())
    screen.table(TITLES, rows, usual=ANY)


def counted(number: int, thing: str) -> str:
    """`1 route`, `2 routes`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
