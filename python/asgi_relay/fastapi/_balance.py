"""`LoadBalancer`: one of several upstreams for each request, in turn or the fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.websockets import WebSocket

from .._parameters import whole_number
from .._websocket import refuse
from ..relay import Relay
from ._errors import failure
from ._health import REQUEST_TIMEOUT, HealthChecker
from ._proxy import HANDSHAKE_TIMEOUT, ask, carried, connecting, relayed
from ._relays import named, relays_of, with_scheme
from ._response import RelayedResponse
from ._scope import Headers

_NOBODY = "Service Unavailable: no upstream is healthy and has requests left"


class LoadBalancer:
    """Passes requests on to one of several upstreams.

    servers: URLs, which take turns; or a `HealthChecker`, of whose healthy targets the fastest is
        taken, by what its checks and the requests themselves have shown.

    An upstream that no connection leads to costs a request nothing: it goes to another one. One
    that keeps failing is left out for a while (see `PassiveHealth`). Raises `TypeError` or
    `ValueError` for upstreams that are no URLs, are there twice in another spelling, or mix http
    with https; one that is listed repeatedly has as many turns.
    """

    def __init__(self, servers: Sequence[str] | HealthChecker) -> None:
        self._checker = servers if isinstance(servers, HealthChecker) else None
        self._servers = _listed(servers) if self._checker is None else []
        self._hosts = tuple(dict.fromkeys(self._servers))
        self._index = 0
        self._urls: dict[str, str] = {}
        if self._hosts:
            # A server that is repeated is one target.
            names = {
                f"target_base_url[{index}]": f"servers[{self._servers.index(host)}]"
                for index, host in enumerate(self._hosts)
            }
            with named({**names, "target_base_url": "servers"}):
                relay = Relay(self._hosts)
            # As the engine spells them.
            self._urls = dict(zip(self._hosts, relay.targets, strict=True))
        self._max_requests: int | None = None
        self._counts: dict[str, int] = {}
        self._round = 0

    @property
    def max_requests(self) -> int | None:
        """Requests for each target between two checks; `None` is any number.

        It is for a `HealthChecker` without limits of its own, and means nothing for a list.
        """
        self._require_common()
        return self._max_requests

    @max_requests.setter
    def max_requests(self, value: int | None) -> None:
        self._require_common()
        self._max_requests = None if value is None else whole_number("max_requests", value)

    def _require_common(self) -> None:
        if self._checker is not None and self._checker.is_personalized:
            raise RuntimeError("max_requests: each target of the checker has its own")

    def peek(self) -> str | None:
        """The upstream that would be next; `None` where there is none."""
        if self._checker is not None:
            return self._checker.relay.pick(self._used_up(self._checker))
        return self._servers[self._index] if self._servers else None

    def get(self) -> str | None:
        """The next upstream, which counts as a request to it; `None` where there is none."""
        server = self.peek()
        if server is not None:
            self._count(server)
        return server

    def _count(self, server: str) -> None:
        if self._checker is not None:
            self._counts[server] = self._counts.get(server, 0) + 1
        else:
            self._index = (self._index + 1) % len(self._servers)

    def _used_up(self, checker: HealthChecker) -> list[str]:
        """The targets that have had all their requests of this interval."""
        if checker.round != self._round:
            self._round = checker.round
            self._counts.clear()
        return [
            url
            for url in checker.targets
            if (limit := self._limit(checker, url)) is not None
            and self._counts.get(url, 0) >= limit
        ]

    def _limit(self, checker: HealthChecker, url: str) -> int | None:
        if checker.is_personalized:
            limit: int | None = checker.target_configs[url].get("maxrequests")
            return limit
        return self._max_requests

    def get_all(self) -> list[str]:
        """All upstreams, healthy or not."""
        return list(self._servers if self._checker is None else self._checker.targets)

    def set_index(self, index: int) -> None:
        """Let the upstream of this index be next.

        Raises `IndexError` where there is none, and `RuntimeError` with a `HealthChecker`.
        """
        if self._checker is not None:
            raise RuntimeError("set_index: a HealthChecker's targets have no turns")
        if not 0 <= index < max(1, len(self._servers)):
            raise IndexError(f"index: {index!r} is out of range")
        self._index = index

    async def proxy_pass(  # noqa: PLR0917 - the arguments are fastapi-reverse-proxy's
        self,
        req: Request,
        path: str | None = None,
        timeout: Any = REQUEST_TIMEOUT,
        forward_query: bool = True,
        additional_headers: Headers | None = None,
        override_headers: Headers | None = None,
        override_body: bytes | str | list[Any] | dict[str, Any] | None = None,
        method: str | None = None,
    ) -> RelayedResponse:
        """Pass a request on to the next upstream; as `proxy_pass`, which explains the arguments.

        It has no `override_host`, and the request is called `req`, as with fastapi-reverse-proxy.
        Raises `HTTPException` with 503 where none is healthy, or all have had their requests.
        """
        asked = ask(
            req,
            path=path,
            forward_query=forward_query,
            additional=additional_headers,
            override=override_headers,
            override_body=override_body,
            method=method,
        )
        chosen = await self._choose(req.scope, timeout)
        if chosen is None:
            raise failure(503, _NOBODY)
        relay, prefer = chosen
        return await relayed(req, relay, asked, prefer)

    async def proxy_pass_websocket(  # noqa: PLR0917 - as above
        self,
        websocket: WebSocket,
        path: str | None = None,
        subprotocols: Sequence[str] | None = None,
        forward_query: bool = True,
        additional_headers: Headers | None = None,
        override_headers: Headers | None = None,
    ) -> None:
        """Carry a WebSocket to the next upstream and back; as `proxy_pass_websocket`.

        It has no `timeout`: 10 s, and with a `HealthChecker` 60 s for the answer.
        Where there is none, the client is refused with 503.
        """
        handshake = connecting(
            websocket,
            path=path,
            subprotocols=subprotocols,
            forward_query=forward_query,
            additional=additional_headers,
            override=override_headers,
        )
        timeout = HANDSHAKE_TIMEOUT if self._checker is None else REQUEST_TIMEOUT
        chosen = await self._choose(websocket.scope, timeout)
        if chosen is None:
            await websocket.receive()
            await refuse(handshake.scope, websocket.send, 503, _NOBODY)
            return
        relay, prefer = chosen
        await carried(websocket, relay, handshake, prefer)

    async def _choose(self, scope: Any, timeout: Any) -> tuple[Relay, str | None] | None:
        """The relay for a request, and the target that it should prefer."""
        checker = self._checker
        if checker is None:
            server = self.get()
            if server is None:
                return None
            return relays_of(scope).find(self._hosts, timeout), self._urls[server]
        if not checker.running:
            await checker.start()
        usual = timeout == REQUEST_TIMEOUT
        if usual and not checker.is_personalized and self._max_requests is None:
            return checker.relay, None
        target = self.get()
        if target is None:
            return None
        if usual:
            return checker.relay, target
        return checker.relay_for(target, timeout), target


def _listed(servers: Any) -> list[str]:
    if isinstance(servers, str) or not isinstance(servers, Sequence):
        raise TypeError(f"servers: a {type(servers).__name__} is not a list or a HealthChecker")
    return [with_scheme(server, f"servers[{index}]") for index, server in enumerate(servers)]
