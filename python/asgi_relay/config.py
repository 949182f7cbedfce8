"""How long things may take, and how many connections there may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final


class _Default:
    """Stands for a value that was not given."""

    def __repr__(self) -> str:
        return "<default>"


_DEFAULT: Final[Any] = _Default()
# Ten years: longer than anyone waits, and short enough to be added to any clock.
_LONGEST: Final = 315_360_000
_MOST: Final = 2**31 - 1
_DEFAULTS: Final = {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 10.0}


class Timeout:
    """How long an exchange may stand still. All values in seconds; `None` is for ever.

    connect: until connected, with resolving and TLS (default 5).
    read: between octets of the response, and from the end of the request to its head (default 10).
    write: between octets of the request that the upstream takes (default 10).
    pool: until a connection comes free (default 10).

    `Timeout(3)` sets all four; keywords set single ones beside the defaults, or beside the value.
    Raises `TypeError` for what is no number and `ValueError` for what is negative or not finite.
    """

    __slots__ = ("connect", "pool", "read", "write")

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None

    def __init__(
        self,
        timeout: float | None = _DEFAULT,
        *,
        connect: float | None = _DEFAULT,
        read: float | None = _DEFAULT,
        write: float | None = _DEFAULT,
        pool: float | None = _DEFAULT,
    ) -> None:
        given = {"connect": connect, "read": read, "write": write, "pool": pool}
        for name, value in given.items():
            default = _DEFAULTS[name] if timeout is _DEFAULT else timeout
            chosen = default if value is _DEFAULT else value
            object.__setattr__(self, name, seconds(f"timeout.{name}", chosen))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Timeout does not change; make a new one to set {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are made anew, as no attribute can be set.
        return partial(Timeout, **{name: getattr(self, name) for name in _DEFAULTS}), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and self.as_tuple() == other.as_tuple()

    def __hash__(self) -> int:
        return hash(self.as_tuple())

    def __repr__(self) -> str:
        connect, read, write, pool = self.as_tuple()
        if connect == read == write == pool:
            return f"Timeout({connect})"
        return f"Timeout(connect={connect}, read={read}, write={write}, pool={pool})"

    def as_tuple(self) -> tuple[float | None, float | None, float | None, float | None]:
        """`(connect, read, write, pool)`."""
        return self.connect, self.read, self.write, self.pool


@dataclass(frozen=True)
class Limits:
    """How many connections a Relay has. `None` is any number, or for ever.

    max_connections: in use at once (default 100); a request beyond them waits for `timeout.pool`.
    max_keepalive_connections: idle ones that are kept (default 20); beyond them a connection waits
        at most 0.1 s for a next request.
    keepalive_expiry: seconds for which an idle one is kept (default 5).

    Raises `TypeError` for what is no number and `ValueError` for what is negative.
    """

    max_connections: int | None = 100
    max_keepalive_connections: int | None = 20
    keepalive_expiry: float | None = 5.0

    def __post_init__(self) -> None:
        most = count("limits.max_connections", self.max_connections)
        if most == 0:
            raise ValueError("limits.max_connections: 0 would let no request through")
        count("limits.max_keepalive_connections", self.max_keepalive_connections)
        seconds("limits.keepalive_expiry", self.keepalive_expiry)

    def as_tuple(self) -> tuple[int | None, int | None, float | None]:
        """`(max_connections, max_keepalive_connections, keepalive_expiry)`."""
        return self.max_connections, self.max_keepalive_connections, self.keepalive_expiry


def seconds(parameter: str, value: object) -> float | None:
    """A time from `parameter`, checked."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{parameter}: {value!r} is not a number of seconds or None")
    if not 0 <= value <= _LONGEST:
        raise ValueError(f"{parameter}: {value!r} is not allowed; 0 to {_LONGEST} seconds, or None")
    return float(value)


def count(parameter: str, value: object) -> int | None:
    """A number of things from `parameter`, checked."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{parameter}: {value!r} is not a whole number or None")
    if not 0 <= value <= _MOST:
        raise ValueError(f"{parameter}: {value!r} is not allowed; 0 to {_MOST}, or None")
    return value


def timeout_from(value: object) -> Timeout:
    """The `timeout` parameter: a number, `None`, or any object with the four attributes."""
    if isinstance(value, Timeout):
        return value
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return Timeout(seconds("timeout", value))
    try:
        parts = {name: getattr(value, name) for name in _DEFAULTS}
    except AttributeError:
        raise TypeError(
            f"timeout: {value!r} is neither seconds, None, a Timeout, nor an object with "
            "connect, read, write and pool"
        ) from None
    return Timeout(**parts)


def limits_from(value: object) -> Limits:
    """The `limits` parameter: `Limits` or any object with its attributes."""
    if isinstance(value, Limits):
        return value
    names = ("max_connections", "max_keepalive_connections", "keepalive_expiry")
    try:
        parts = {name: getattr(value, name) for name in names}
    except AttributeError:
        raise TypeError(
            f"limits: {value!r} is neither Limits nor an object with {', '.join(names)}"
        ) from None
    return Limits(**parts)
