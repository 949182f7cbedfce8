"""The relays that `proxy_pass` goes through: one for each upstream, and whose they are."""

from __future__ import annotations

import re
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import anyio

from .._pump import Scope
from ..config import Timeout, timeout_from
from ..exceptions import ConnectError, ConnectTimeout
from ..relay import Relay
from ._response import UNBUFFERED
from ._scope import host_of

# Upstreams whose relays are kept, the most recently used ones.
_MOST: Final = 256
# Targets that are tried after the first, where no connection leads there.
_MOST_OTHERS: Final = 3
_STATE: Final = "asgi_relay"
# `uri-host [ ":" port ]` (RFC 9110 §7.2).
_HOST: Final = re.compile(r"[\w.~%!$&'()*+,;=:\[\]-]*", re.ASCII)

# Host, timeout, and what of the Host header: the upstream's authority, the client's own, another.
Key = tuple[str | tuple[str, ...], Timeout | float | None, str | bool | None]


class Relays:
    """A table of relays. One that falls out of it lives on for as long as something uses it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        self._relays: OrderedDict[Key, Relay] = OrderedDict()
        self._alive: weakref.WeakSet[Relay] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._relays)

    def find(
        self, host: str | tuple[str, ...], timeout: Any, sent_host: str | bool | None = None
    ) -> Relay:
        """The relay for an upstream, or for several; made where there is none yet."""
        if timeout is not None and not isinstance(timeout, float | int):
            timeout = timeout_from(timeout)
        key = host, timeout, sent_host
        if not isinstance(host, str | tuple):
            raise TypeError(f"host: a {type(host).__name__} is not a str")
        try:
            relay = self._relays[key]
            self._relays.move_to_end(key)
        except KeyError:
            relay = self._add(key)
        return relay

    def _add(self, key: Key) -> Relay:
        host, timeout, sent_host = key
        settings = {**relay_settings(self._settings), "timeout": timeout_from(timeout)}
        if sent_host is True:
            settings["preserve_host"] = True
        elif sent_host:
            extra = settings.get("extra_request_headers", {})
            settings["extra_request_headers"] = {**extra, "host": sent_host}
        with named({"target_base_url": "host"}):
            if isinstance(host, tuple):
                relay = Relay(host, **balanced(settings, len(host), "round_robin"))
            else:
                relay = Relay(with_scheme(host), **settings)
        self._relays[key] = relay
        self._alive.add(relay)
        while len(self._relays) > _MOST:
            self._relays.popitem(last=False)
        return relay

    async def shutdown(self) -> None:
        """Shut down all that are alive; whoever is asked next is made anew."""
        relays = list(self._alive)
        self._relays.clear()
        async with anyio.create_task_group() as tasks:
            for relay in relays:
                tasks.start_soon(relay.shutdown)


@contextmanager
def named(names: Mapping[str, str]) -> Iterator[None]:
    """Have errors begin with the caller's own names for the parameters of a relay."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        for name, own in names.items():
            if message.startswith(name):
                raise type(error)(own + message.removeprefix(name)) from None
        raise


def with_scheme(host: str, parameter: str = "host") -> str:
    """A URL, which `http://` may be left out of."""
    if not isinstance(host, str):
        raise TypeError(f"{parameter}: a {type(host).__name__} is not a str")
    return host if "://" in host else f"http://{host}"


def relay_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a relay whose responses get a line of ours."""
    dropped = settings.get("drop_response_headers", ())
    return {**settings, "drop_response_headers": [*dropped, UNBUFFERED[0].decode()]}


def balanced(settings: Mapping[str, Any], targets: int, balance: str) -> dict[str, Any]:
    """Settings for several targets: one that no connection leads to is not the only one tried."""
    retries: dict[str, Any] = {
        "max_retries": min(targets - 1, _MOST_OTHERS),
        "retry_statuses": (),
        "retry_exceptions": (ConnectError, ConnectTimeout),
    }
    if "max_retries" in settings:
        retries = {}
    return {"balance": balance, **retries, **settings}


def sent_host(scope: Scope, override_host: str | None) -> str | bool | None:
    """`True` for the client's own Host: it needs no relay for each that clients may think of."""
    if override_host is None:
        return None
    if not isinstance(override_host, str):
        raise TypeError(f"override_host: a {type(override_host).__name__} is not a str or None")
    clients = host_of(scope["headers"])
    if clients == override_host.encode("latin-1", "replace"):
        return True
    if not _HOST.fullmatch(override_host):
        raise ValueError(f"override_host: {override_host!r} is not a host")
    return override_host


class Proxy:
    """Keeps the connections to upstreams for as long as an app runs.

    `async with Proxy(app):` in the lifespan. `proxy_pass` finds it through the request's app, and
    without one uses connections that nothing shuts down before the process ends. An app that is
    mounted in another one needs a Proxy of its own.

    settings: parameters of `asgi_relay.Relay` for all upstreams (`limits`, `verify`, `logger`, …),
        but for `timeout`, which `proxy_pass` has. A wrong one raises `TypeError` or `ValueError`.
    """

    def __init__(self, app: Any, **settings: Any) -> None:
        if "timeout" in settings:
            raise TypeError("timeout: it is a parameter of proxy_pass")
        Relay("http://localhost", **settings)
        self._app = app
        self.relays = Relays(settings)
        setattr(app.state, _STATE, self)

    async def close(self) -> None:
        """Finish the requests in flight within `shutdown_grace`, close everything. Idempotent."""
        if getattr(self._app.state, _STATE, None) is self:
            delattr(self._app.state, _STATE)
        await self.relays.shutdown()

    async def __aenter__(self) -> Proxy:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


unowned = Relays({})


def relays_of(scope: Scope) -> Relays:
    """Those of the request's app, or those that are nobody's."""
    app = scope.get("app")
    proxy = None if app is None else getattr(app.state, _STATE, None)
    return unowned if proxy is None else proxy.relays


async def create_httpx_client(app: Any) -> None:
    """As `Proxy(app)`; the name is fastapi-reverse-proxy's, and there is no httpx here."""
    Proxy(app)


async def close_httpx_client(app: Any) -> None:
    """Close what `create_httpx_client` or `Proxy` has opened for the app."""
    proxy = getattr(app.state, _STATE, None)
    if proxy is not None:
        await proxy.close()
