"""Checks of the constructor's parameters: a wrong one is named before any request comes."""

from __future__ import annotations

import base64
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from . import exceptions
from .exceptions import NetworkError, RelayError

# Every exception that stands for one kind of failure, by the engine's name for it.
KINDS: dict[str, type[RelayError]] = {
    name: getattr(exceptions, name)
    for name in (
        "NameResolutionError", "ConnectError", "TLSError", "ConnectTimeout", "ReadTimeout",
        "WriteTimeout", "PoolTimeout", "ReadError", "WriteError", "RemoteProtocolError",
        "TooManyRedirects", "RelayError",
    )
}  # fmt: skip


# An int may be larger than any float.
_ENDLESS = 1e18
# As many of anything as the engine counts.
_MOST = 2**31 - 1

# Whose exceptions of the same names mean the same.
LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "asgi_relay"})


def text(parameter: str, value: object) -> str:
    """A str of whole characters. The value is not repeated in an error: a URL may hold a secret."""
    if not isinstance(value, str):
        raise TypeError(f"{parameter}: a {type(value).__name__} is not a str")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{parameter}: it has lone surrogates, which are no characters")
    return value


def flag(parameter: str, value: object) -> bool:
    """A bool; nothing else stands for one."""
    if not isinstance(value, bool):
        raise TypeError(f"{parameter}: {value!r} is not a bool")
    return value


def optional_object(parameter: str, value: object, kind: type) -> None:
    """An object of this kind, or `None`."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{parameter}: a {type(value).__name__} is not a {kind.__name__} or None")


def optional_callable(parameter: str, value: object) -> None:
    """Something to call, or `None`."""
    if value is not None and not callable(value):
        raise TypeError(f"{parameter}: {value!r} is not callable or None")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{parameter}: {value!r} is a coroutine function, which nobody would await")


def optional_logger(value: object) -> None:
    """The `logger` parameter: something that takes lines, or `None`."""
    if value is not None and not hasattr(value, "info"):
        raise TypeError(f"logger: {value!r} is not a logging.Logger or None")


def whole_number(parameter: str, value: object, least: int = 0) -> int:
    """An int of at least so many."""
    found = _int(parameter, value)
    if not least <= found <= _MOST:
        raise ValueError(f"{parameter}: {value!r} is not allowed; {least} to {_MOST}")
    return found


def _int(parameter: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{parameter}: {value!r} is not an int")
    return value


def number(parameter: str, value: object) -> float:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{parameter}: {value!r} is not a number")
    if not 0 <= value < _ENDLESS:
        raise ValueError(f"{parameter}: {value!r} is not allowed; a finite number, 0 or more")
    return float(value)


def share(parameter: str, value: object) -> float:
    """A number from 0 to 1."""
    found = number(parameter, value)
    if found > 1:
        raise ValueError(f"{parameter}: {value!r} is not allowed; 0 to 1")
    return found


def token(parameter: str, value: object) -> str:
    """The name of a header or a cookie (RFC 9110 §5.6.2)."""
    name = text(parameter, value)
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{parameter}: {name!r} is not a name (RFC 9110 §5.6.2)")
    return name


def optional_time(parameter: str, value: object) -> float | None:
    """Seconds, more than none; `None` is for ever."""
    if value is None:
        return None
    seconds = number(parameter, value)
    if seconds == 0:
        raise ValueError(f"{parameter}: {value!r} is not allowed; more than 0, or None")
    return seconds


def optional_size(parameter: str, value: object) -> int | None:
    """Octets, at least one; `None` is any number."""
    if value is None:
        return None
    found = _int(parameter, value)
    if not 1 <= found <= _MOST:
        raise ValueError(f"{parameter}: {value!r} is not allowed; 1 to {_MOST}, or None")
    return found


def optional_age(parameter: str, value: object) -> float | None:
    """Whole seconds, at least one; `None` is for ever."""
    seconds = optional_time(parameter, value)
    if seconds is not None and not seconds.is_integer():
        raise ValueError(f"{parameter}: {value!r} is not allowed; whole seconds, or None")
    return seconds


def names(parameter: str, value: object) -> list[str]:
    """Header names or URLs; a single str is a mistake, as it would be taken letter by letter."""
    return [
        text(f"{parameter}[{index}]", item) for index, item in enumerate(_items(parameter, value))
    ]


def optional_names(parameter: str, value: object) -> list[str] | None:
    """Header names, or `None`."""
    return None if value is None else names(parameter, value)


def header_values(parameter: str, value: object) -> list[tuple[str, str]]:
    """A mapping of str to str. A value is never repeated in an error: it may be a secret."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise TypeError(f"{parameter}: a {type(value).__name__} is not a mapping of str to str")
    for name, item in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{parameter}: the name {name!r} is not a str")
        if not isinstance(item, str):
            hint = " (an environment variable that is not set?)" if item is None else ""
            found = "None" if item is None else f"a {type(item).__name__}"
            raise TypeError(f"{parameter}: the value of {name!r} is {found}, not a str{hint}")
        text(parameter, name + item)
    return list(value.items())


def statuses(parameter: str, value: object) -> list[int]:
    """HTTP statuses."""
    found = []
    for item in _items(parameter, value):
        status = _int(parameter, item)
        if not 200 <= status <= 599:
            raise ValueError(f"{parameter}: {status} is not a final HTTP status; 200 to 599")
        found.append(int(status))
    return found


def exception_kinds(parameter: str, value: object) -> list[str]:
    """The kinds of failure that exception classes stand for.

    Ours, or httpx's and httpx2's of the same name; a base class stands for its subclasses.
    """
    items = [value] if inspect.isclass(value) else _items(parameter, value)
    kinds: dict[str, None] = {}
    for item in items:
        if not (inspect.isclass(item) and issubclass(item, BaseException)):
            raise TypeError(f"{parameter}: {item!r} is not an exception class")
        ours: type[BaseException] = item
        if item.__module__.partition(".")[0] in LIBRARIES:
            aliases = {"HTTPError": "TransportError", "RequestError": "TransportError"}
            ours = getattr(exceptions, aliases.get(item.__name__, item.__name__), item)
        # The builtin ones stand for a failure of the network in any other client.
        bases = (ours, NetworkError) if ours in {OSError, ConnectionError} else (ours,)
        covered = [name for name, kind in KINDS.items() if issubclass(kind, bases)]
        if not covered:
            raise ValueError(
                f"{parameter}: {item.__module__}.{item.__qualname__} is never raised by an "
                f"exchange; allowed are {', '.join(KINDS)}, their bases, and httpx's of these names"
            )
        kinds.update(dict.fromkeys(covered))
    return list(kinds)


def _items(parameter: str, value: object) -> list[Any]:
    if isinstance(value, str | bytes):
        # It may be a URL with a secret.
        raise TypeError(f"{parameter}: a {type(value).__name__} is not a list")
    if not isinstance(value, Iterable):
        raise TypeError(f"{parameter}: {value!r} is not a list")
    return list(value)


def trust(value: object) -> tuple[bool, str | None]:
    """The `verify` parameter: whether to verify, and whose certificates beside the platform's."""
    if isinstance(value, bool):
        return value, None
    if isinstance(value, str | os.PathLike):
        return True, _file("verify", value)
    raise TypeError(
        f"verify: a {type(value).__name__} is not allowed; True, False, or the path of a PEM file "
        "or folder of certificate authorities (an ssl.SSLContext cannot be handed to Rust)"
    )


def client_certificate(value: object) -> tuple[str, str] | None:
    """The `cert` parameter: a PEM file with both, or `(certificate, key)`."""
    if value is None:
        return None
    parts = list(value) if isinstance(value, tuple | list) else [value, value]
    if len(parts) == 3 and parts[2] is not None:
        raise ValueError("cert: encrypted keys are not supported; decrypt it with `openssl pkey`")
    if len(parts) not in {2, 3}:
        raise ValueError("cert: expected a path, or a pair of paths (certificate, key)")
    return _file("cert", parts[0]), _file("cert", parts[1])


def _file(parameter: str, value: object) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{parameter}: a {type(value).__name__} is not a path")
    path = os.fsdecode(value)
    if not os.path.exists(path):
        raise ValueError(f"{parameter}: {path!r} does not exist")
    return path


def without_user_information(url: str) -> tuple[str, str | None]:
    """A URL without its `user:password@`, and these as a Basic `Authorization` (RFC 7617)."""
    scheme, separator, rest = url.partition("://")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    information, at, host = authority.rpartition("@")
    if not at:
        return url, None
    user, _, password = information.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    credentials = "Basic " + base64.b64encode(pair).decode("ascii")
    return f"{scheme}{separator}{host}{rest[len(authority) :]}", credentials
