"""Several upstreams: what they are, how one of them is chosen, and when one is left out.

All of it only configures and tells; the choosing and the checking are the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from ._parameters import (
    flag,
    header_values,
    number,
    optional_age,
    optional_object,
    optional_size,
    share,
    statuses,
    text,
    token,
    whole_number,
    without_user_information,
)

if TYPE_CHECKING:
    from .relay import Relay

State = Literal["healthy", "unhealthy", "ejected", "draining"]

_LONGEST_EJECTION: Final = 300.0
_EXPECTED: Final = range(200, 400)
# What a request target can carry: the engine's own rule, for those that are made before a Relay is.
_PATH: Final = re.compile(r"[^\x00-\x20\x7f#]{1,65534}")
_SAME_SITE: Final = ("strict", "lax", "none")


@dataclass(frozen=True)
class HealthCheck:
    """How a target is asked whether it is well, over connections that no limit counts.

    path: asked of each target, behind the path of its URL (without `upstream_prefix`).
    interval: seconds from the end of one check to the next (default 10).
    timeout: seconds for the whole of one check (default 5).
    method: `"HEAD"` or `"GET"`.
    headers: sent beside Host and User-Agent.
    expected_statuses: answers that are a good sign (default 200 to 399).
    rise, fall: good signs in a row that make a target healthy (1), bad ones that make it unhealthy
        (2). The very first answer decides alone.
    jitter: the share of itself by which an interval may be shorter or longer (0.1), so that many
        relays do not ask in step.

    Raises `TypeError` or `ValueError` with the parameter's name.
    """

    path: str = field(default="/", repr=False)
    _: KW_ONLY
    interval: float = 10.0
    timeout: float = 5.0
    method: str = "HEAD"
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    expected_statuses: Iterable[int] = _EXPECTED
    rise: int = 1
    fall: int = 2
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not text("health_check.path", self.path).startswith("/"):
            raise ValueError(f"health_check.path: {_shown(self.path)!r} does not begin with '/'")
        if not _PATH.fullmatch(self.path):
            refused = "it has white space, a '#' or a control character, or is too long"
            raise ValueError(f"health_check.path: {refused}")
        _more_than_none("health_check.interval", self.interval)
        _more_than_none("health_check.timeout", self.timeout)
        if self.method not in {"HEAD", "GET"}:
            raise ValueError(f"health_check.method: {self.method!r} is not 'HEAD' or 'GET'")
        headers = dict(header_values("health_check.headers", self.headers))
        expected = tuple(statuses("health_check.expected_statuses", self.expected_statuses))
        # Not what somebody may change or use up meanwhile.
        object.__setattr__(self, "headers", headers or None)
        if not isinstance(self.expected_statuses, range):
            object.__setattr__(self, "expected_statuses", expected)
        if not expected:
            raise ValueError("health_check.expected_statuses: none would ever be healthy")
        for name in ("rise", "fall"):
            whole_number(f"health_check.{name}", getattr(self, name), least=1)
        share("health_check.jitter", self.jitter)

    def _parts(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "interval": self.interval,
            "timeout": self.timeout,
            "method": self.method,
            "headers": header_values("health_check.headers", self.headers),
            "expected_statuses": statuses("health_check.expected_statuses", self.expected_statuses),
            "rise": self.rise,
            "fall": self.fall,
            "jitter": self.jitter,
        }


@dataclass(frozen=True)
class PassiveHealth:
    """When a target is ejected for how it answers (outlier ejection).

    A failure is an answer of 5xx, or none: refused, timed out, broken off, malformed.

    consecutive_failures: so many in a row eject (default 5); `None` never.
    failure_rate: this share of the answers of 10 s, if those are at least 10 (default 0.5);
        `None` never.
    eject_time: seconds of the first ejection (default 10); each further one is twice as long, and
        none is longer than 300. After it, one request at a time tries the target; one that is
        answered well brings it back.
    max_ejected: the share of all targets that may be ejected at once (default 0.5): with several
        targets at least one, and never the only one. Where no other is left, ejected ones are
        tried after all.

    Raises `TypeError` or `ValueError` with the parameter's name.
    """

    _: KW_ONLY
    consecutive_failures: int | None = 5
    failure_rate: float | None = 0.5
    eject_time: float = 10.0
    max_ejected: float = 0.5

    def __post_init__(self) -> None:
        optional_size("passive_health.consecutive_failures", self.consecutive_failures)
        if self.failure_rate is not None:
            _more_than_none("passive_health.failure_rate", self.failure_rate)
            share("passive_health.failure_rate", self.failure_rate)
        _more_than_none("passive_health.eject_time", self.eject_time)
        if self.eject_time > _LONGEST_EJECTION:
            raise ValueError(
                f"passive_health.eject_time: {self.eject_time!r} is not allowed; at most 300"
            )
        share("passive_health.max_ejected", self.max_ejected)

    def _parts(self) -> tuple[int | None, float | None, float, float]:
        return (
            self.consecutive_failures,
            self.failure_rate,
            self.eject_time,
            self.max_ejected,
        )


@dataclass(frozen=True)
class Target:
    """One upstream among several.

    url: as `target_base_url` of a `Relay`.
    weight: its share beside the others' (default 1); 0 gives it no new requests.
    max_in_flight: exchanges and WebSockets at once; `None` is the Relay's `max_in_flight`.
    health_check: `None` is the Relay's.

    Raises `TypeError` or `ValueError` with the parameter's name.
    """

    url: str
    _: KW_ONLY
    weight: int = 1
    max_in_flight: int | None = None
    health_check: HealthCheck | None = None

    def __post_init__(self) -> None:
        text("target.url", self.url)
        whole_number("target.weight", self.weight)
        optional_size("target.max_in_flight", self.max_in_flight)
        optional_object("target.health_check", self.health_check, HealthCheck)

    def __repr__(self) -> str:
        url = _shown(self.url)
        others = (f"weight={self.weight}", f"max_in_flight={self.max_in_flight}")
        return f"Target({url!r}, {', '.join(others)}, health_check={self.health_check!r})"


@dataclass(frozen=True)
class ConsistentHash:
    """Requests with the same key go to the same target for as long as it is there.

    Exactly one of `header` (a request header's name), `cookie` (a cookie's name) and
    `client_address=True`. A target that has 1.25 times the average in flight is passed over, and a
    request without a key goes anywhere. Raises `TypeError` or `ValueError`.
    """

    _: KW_ONLY
    header: str | None = None
    cookie: str | None = None
    client_address: bool = False

    def __post_init__(self) -> None:
        flag("balance.client_address", self.client_address)
        if self.header is not None:
            token("balance.header", self.header)
        if self.cookie is not None:
            token("balance.cookie", self.cookie)
        given = (self.header is not None, self.cookie is not None, self.client_address)
        if sum(given) != 1:
            raise ValueError(
                "balance: a ConsistentHash takes exactly one of header, cookie and client_address"
            )

    def _parts(self) -> tuple[str, str]:
        if self.header is not None:
            return "header", self.header
        if self.cookie is not None:
            return "cookie", self.cookie
        return "client_address", ""


@dataclass(frozen=True)
class StickyCookie:
    """A cookie that brings a client back to its target, while that is healthy and has room.

    Its value stands for the target's URL and does not tell it; it is HttpOnly and not sent
    upstream.

    name: its name.
    secret: signs it (HMAC-SHA256), so that nobody can make one up; the same for all processes.
        Without it, who knows a target's URL can.
    max_age: whole seconds; `None` is as long as the browser runs.
    path: where the browser sends it.
    same_site: `"strict"`, `"lax"` or `"none"`.
    secure: `None` is as the client's connection is.

    Raises `TypeError` or `ValueError` with the parameter's name.
    """

    name: str = "relay"
    _: KW_ONLY
    secret: str | bytes | None = field(default=None, repr=False)
    max_age: float | None = None
    path: str = "/"
    same_site: str = "lax"
    secure: bool | None = None

    def __post_init__(self) -> None:
        token("sticky.name", self.name)
        if self.secret is not None and not isinstance(self.secret, str | bytes):
            kind = type(self.secret).__name__
            raise TypeError(f"sticky.secret: a {kind} is not a str, bytes or None")
        if isinstance(self.secret, str):
            text("sticky.secret", self.secret)
        optional_age("sticky.max_age", self.max_age)
        path = text("sticky.path", self.path)
        if not path.startswith("/") or not path.isascii() or not path.isprintable() or ";" in path:
            raise ValueError(f"sticky.path: {path!r} is not the path of a cookie")
        if self.same_site not in _SAME_SITE:
            raise ValueError(
                f"sticky.same_site: {self.same_site!r} is not allowed; {', '.join(_SAME_SITE)}"
            )
        if self.secure is not None:
            flag("sticky.secure", self.secure)

    def _parts(self) -> dict[str, Any]:
        secret = self.secret or b""
        return {
            "name": self.name,
            "secret": secret.encode() if isinstance(secret, str) else secret,
            "max_age": self.max_age,
            "path": self.path,
            "same_site": self.same_site,
            "secure": self.secure,
        }


@dataclass(frozen=True)
class TargetChange:
    """A target's state has changed: what `on_target_change` is called with."""

    url: str
    before: State
    after: State


class TargetStatus(TypedDict):
    """What is known of one target.

    latency_ms: a moving average of the time to the first octet of an answer; `None` before one.
    in_flight: exchanges and WebSockets at the moment.
    requests, failures: those that it was given, and those that it failed or answered with 5xx.
    last_error: what was wrong last, with a request or a check.
    """

    state: State
    latency_ms: float | None
    in_flight: int
    requests: int
    failures: int
    last_error: str | None


class RelayStatus(TypedDict):
    """What is known of a Relay: its targets by their URLs."""

    targets: dict[str, TargetStatus]


class TargetSet:
    """The targets of a Relay, to be changed while it runs. Iterates over their URLs."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def add(self, target: str | Target) -> None:
        """Take a target in; one that is draining comes back with the new values.

        Raises `ValueError` for one that is there, or that the constructor would refuse.
        """
        self._relay._add_target(target)

    def drain(self, url: str) -> None:
        """Give a target no new requests; those in flight go on. Raises `KeyError`."""
        self._relay._engine.drain_target(_bare(url))

    def remove(self, url: str) -> None:
        """Take a target out; what it has in flight ends there. Raises `KeyError`."""
        self._relay._engine.remove_target(_bare(url))

    def __iter__(self) -> Iterator[str]:
        return iter(self._relay._engine.status())

    def __len__(self) -> int:
        return len(self._relay._engine.status())

    def __contains__(self, url: object) -> bool:
        return isinstance(url, str) and self._relay._engine.has_target(_bare(url))

    def __repr__(self) -> str:
        return f"<targets {', '.join(self)}>"


def _bare(url: str) -> str:
    return without_user_information(text("url", url))[0]


def _shown(url: str) -> str:
    """A URL or a path without what may be secret: user information, a query."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    shown = without_user_information(bare)[0]
    # Without a scheme it is no URL, and what stands before an @ may be a password all the same.
    shown = shown if "://" in shown else shown.rpartition("@")[2]
    # A password with a "/", "?" or "#" that is not encoded ends where its "@" is.
    if "@" in shown or "@" in url[len(bare) :]:
        shown = shown.partition("://")[0] + "://…"
    return shown if bare == url else f"{shown}?…"


def _more_than_none(parameter: str, value: object) -> None:
    if number(parameter, value) == 0:
        raise ValueError(f"{parameter}: 0 is not allowed; more than 0")
