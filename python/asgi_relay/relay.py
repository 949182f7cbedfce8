"""`Relay`, the ASGI app: checks its parameters, lives and dies with its loops, runs exchanges."""

from __future__ import annotations

import logging
import os
from asyncio.events import _get_running_loop
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from . import _engine
from ._lifespan import answer_lifespan
from ._loop import Port, current_port, over
from ._parameters import (
    client_certificate,
    exception_kinds,
    flag,
    header_values,
    names,
    number,
    optional_callable,
    optional_logger,
    optional_names,
    optional_size,
    optional_time,
    statuses,
    text,
    trust,
    whole_number,
    without_user_information,
)
from ._pump import COMPLETE, FAILED, Pump, Receive, Scope, Send, send_text
from ._targets import (
    balancing_settings,
    target_from,
    target_parts,
    targets_from,
    with_credentials,
)
from ._watching import Watch
from ._websocket import WebSocketPump, refuse
from .balancing import (
    ConsistentHash,
    HealthCheck,
    PassiveHealth,
    RelayStatus,
    StickyCookie,
    Target,
    TargetChange,
    TargetSet,
)
from .config import Limits, Timeout, limits_from, timeout_from
from .exceptions import ConnectError, ReadTimeout
from .transports import caller_for

_NO_HEADERS: Final[Mapping[str, str]] = {}
_SHOWN_TARGETS: Final = 3


class Relay:
    """An ASGI app that passes requests on to an upstream.

    Mount it (`Include("/auth", app=Relay("http://auth-service:8000"))`), or serve it as it is.
    What the client asks for below the mount is asked of `target_base_url` + `upstream_prefix`,
    octets unchanged.

    A wrong parameter raises `TypeError` or `ValueError` with its name, here and not later.

    target_base_url: `http://`, `https://` (`ws`, `wss` are taken as these), or
        `http+unix://%2Frun%2Fapp.sock` for a Unix socket; its path is kept. User information in
        it is sent as Basic `Authorization` (RFC 7617). A list of URLs or `Target`s is balanced
        over.
    upstream_prefix: put between the base path and the client's path.
    preserve_host: send the client's Host instead of the target's authority.
    rewrite_set_cookie_domain: called with each cookie's Domain (`""` for none); `""` drops the
        attribute, another str sets it, `None` leaves the cookie octet by octet.
    timeout: seconds, `None`, `Timeout`, or any object with its four attributes.
    limits: `Limits`, or any object with its attributes; they hold for each target.
    follow_redirects: follow up to 20 instead of passing them on. Credentials and
        `extra_request_headers` do not go to another origin; cookies on the way are forgotten.
    extra_request_headers: sent upstream in place of the client's of the same names.
    drop_request_headers, drop_response_headers: names that do not pass. The headers that the
        relay computes (X-Forwarded-For and the like) are computed afterwards.
    allow_request_headers, allow_response_headers: where given, only these pass, beside the
        computed ones and the framing.
    transport: an upstream in this process: `ASGITransport`, or any object with httpx's
        `handle_async_request`.
    max_retries: tries after the first; with a target that was not tried, where there is one.
    retry_backoff_factor: `factor * 2**(n-1)` seconds before retry n, unless another target is
        tried.
    retry_statuses: answers that are worth another try.
    retry_exceptions: failures that are worth another try, as classes of this package or httpx's
        of the same names; a base class stands for its subclasses.
    retry_non_idempotent: retry POST and PATCH, too, after the upstream may have seen them
        (RFC 9110 §9.2.2). A failure to connect is retried for every method.
    verify: check the upstream's certificate against the platform's authorities (`True`), those in
        a PEM file or folder (its path), or not at all (`False`).
    cert: client certificate: the path of a PEM file with certificate and key, or a pair of paths.
    shutdown_grace: seconds that `shutdown()` leaves to requests in flight.
    ws_ping_interval: after so many seconds of silence a WebSocket upstream is asked for a sign of
        life (RFC 6455 §5.5.2), and after each that follow; `None` never asks.
    ws_ping_timeout: seconds that it may stay silent after it was asked first; then the client gets
        1011.
    ws_idle_timeout: seconds without a message either way after which a WebSocket is closed.
    ws_max_message_size: octets of one WebSocket message; whoever sends a larger one gets 1009.
    balance: `"p2c"` (the better of two by what they have in flight), `"round_robin"`,
        `"weighted_round_robin"`, `"random"`, `"least_connections"`, `"least_latency"`, or a
        `ConsistentHash`.
    sticky: a `StickyCookie` that brings a client back to its target.
    health_check: how targets are asked whether they are well; `None` does not ask.
    passive_health: when a target is ejected for how it answers; `None` never.
    max_in_flight: exchanges and WebSockets at once with each target; `None` is any number.
    queue_timeout: seconds that a request waits where all targets are full; then 503.
    retry_budget: retries for each request, on average, beside a reserve of 10 that refills by one
        a second; `None` does not count them.
    dns_refresh: seconds after which the targets' names are resolved again into one target per
        address; `None` leaves a name to each new connection.
    on_target_change: called with a `TargetChange`, on the loop's thread.
    logger: gets one INFO line per event; no line carries a secret.
    """

    def __init__(
        self,
        target_base_url: str | Target | Iterable[str | Target],
        *,
        upstream_prefix: str = "/",
        preserve_host: bool = False,
        rewrite_set_cookie_domain: Callable[[str], str | None] | None = None,
        timeout: Any = Timeout(),  # noqa: B008 - it does not change
        limits: Any = Limits(),  # noqa: B008 - it does not change
        follow_redirects: bool = False,
        extra_request_headers: Mapping[str, str] = _NO_HEADERS,
        drop_request_headers: Iterable[str] = (),
        drop_response_headers: Iterable[str] = (),
        allow_request_headers: Iterable[str] | None = None,
        allow_response_headers: Iterable[str] | None = None,
        transport: Any = None,
        max_retries: int = 0,
        retry_backoff_factor: float = 0.2,
        retry_statuses: Iterable[int] = (502, 503, 504),
        retry_exceptions: Iterable[type[BaseException]] = (ConnectError, ReadTimeout),
        retry_non_idempotent: bool = False,
        verify: bool | str | os.PathLike[str] = True,
        cert: str | os.PathLike[str] | tuple[Any, ...] | None = None,
        shutdown_grace: float = 5.0,
        ws_ping_interval: float | None = 20.0,
        ws_ping_timeout: float | None = 20.0,
        ws_idle_timeout: float | None = None,
        ws_max_message_size: int | None = None,
        balance: str | ConsistentHash = "p2c",
        sticky: StickyCookie | None = None,
        health_check: HealthCheck | None = None,
        passive_health: PassiveHealth | None = PassiveHealth(),  # noqa: B008 - it does not change
        max_in_flight: int | None = None,
        queue_timeout: float = 1.0,
        retry_budget: float | None = 0.2,
        dns_refresh: float | None = None,
        on_target_change: Callable[[TargetChange], object] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        optional_callable("rewrite_set_cookie_domain", rewrite_set_cookie_domain)
        optional_callable("on_target_change", on_target_change)
        optional_logger(logger)
        targets = targets_from(target_base_url)
        first = next(iter(targets.values()))
        credentials = without_user_information(first.url)[1]
        headers = header_values("extra_request_headers", extra_request_headers)
        in_memory = transport is not None
        verified, authorities = trust(verify)
        settings = {
            "targets": [
                target_parts(name, target, credentials, in_memory)
                for name, target in targets.items()
            ],
            **balancing_settings(
                balance=balance,
                sticky=sticky,
                health_check=health_check,
                passive_health=passive_health,
                max_in_flight=max_in_flight,
                queue_timeout=queue_timeout,
                retry_budget=retry_budget,
                dns_refresh=dns_refresh,
                credentials=credentials,
                in_memory=in_memory,
            ),
            "upstream_prefix": text("upstream_prefix", upstream_prefix),
            "preserve_host": flag("preserve_host", preserve_host),
            "timeout": timeout_from(timeout).as_tuple(),
            "limits": limits_from(limits).as_tuple(),
            "follow_redirects": flag("follow_redirects", follow_redirects),
            "extra_request_headers": with_credentials(headers, credentials),
            "drop_request_headers": names("drop_request_headers", drop_request_headers),
            "drop_response_headers": names("drop_response_headers", drop_response_headers),
            "allow_request_headers": optional_names("allow_request_headers", allow_request_headers),
            "allow_response_headers": optional_names(
                "allow_response_headers", allow_response_headers
            ),
            "in_memory": in_memory,
            "max_retries": whole_number("max_retries", max_retries),
            "retry_backoff_factor": number("retry_backoff_factor", retry_backoff_factor),
            "retry_statuses": statuses("retry_statuses", retry_statuses),
            "retry_exceptions": exception_kinds("retry_exceptions", retry_exceptions),
            "retry_non_idempotent": flag("retry_non_idempotent", retry_non_idempotent),
            "verify": verified,
            "authorities": authorities,
            "cert": client_certificate(cert),
            "web_sockets": (
                optional_time("ws_ping_interval", ws_ping_interval),
                optional_time("ws_ping_timeout", ws_ping_timeout),
                optional_time("ws_idle_timeout", ws_idle_timeout),
                optional_size("ws_max_message_size", ws_max_message_size),
            ),
            "report": logger is not None,
        }
        self._caller = None if transport is None else caller_for(transport)
        self._rewrite = rewrite_set_cookie_domain
        self._grace = number("shutdown_grace", shutdown_grace)
        self._watch = Watch(on_target_change, logger)
        self._logger = logger
        self._port: Port | None = None
        self._drains = 0
        self._credentials = credentials
        self._max_retries = max_retries
        self._engine = _engine.Relay(settings)

    def __repr__(self) -> str:
        state = "running" if self._engine.running else "not started"
        urls = self._engine.targets
        more = len(urls) - _SHOWN_TARGETS
        targets = ", ".join(urls[:_SHOWN_TARGETS]) + (f" and {more} more" if more > 0 else "")
        return f"<Relay to {targets}, {self._max_retries} retries, {state}>"

    @property
    def targets(self) -> TargetSet:
        """The targets, to be changed while the relay runs."""
        return TargetSet(self)

    def status(self) -> RelayStatus:
        """How the targets are, as plain data; from any thread. Counts begin with each start."""
        return {"targets": self._engine.status()}

    def pick(self, without: Iterable[str] = ()) -> str | None:
        """The URL of a target that a request could be given now, if there is one.

        None of those `without`. Round robin goes on by one with it; else nothing changes. Raises
        `TypeError` for a `without` that is no list of str.
        """
        return self._engine.pick(names("without", without))

    async def check_targets(self) -> None:
        """Ask all targets with a `health_check` how they are, now, and wait for the answers."""
        port = self._attach()
        await over(self._engine.check_targets(port.engine), port)

    async def startup(self) -> None:
        """Start the engine, and wait for the first `health_check` of each target.

        Idempotent; a request on a relay that was not started does it, too.
        """
        port = self._attach()
        self._watch.on(port, self._engine)
        self._engine.startup()
        await over(self._engine.first_round(port.engine), port)

    async def shutdown(self) -> None:
        """Finish the requests in flight within `shutdown_grace`, close everything.

        Idempotent, and safe from another loop than that of `startup`. The relay can be started
        again.
        """
        port = self._attach()
        drain = self._engine.shutdown(port.engine, self._grace)
        self._drains += 1
        try:
            await over(drain, port)
        finally:
            self._drains -= 1
            if drain is not None:
                drain.finish()
            self._detach(port)

    async def __aenter__(self) -> Relay:
        try:
            await self.startup()
        except BaseException:
            # Nobody will leave what nobody has entered.
            await self.shutdown()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: `http` and `websocket` are relayed, `lifespan` is answered."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        port = self._current_port()
        try:
            exchange = self._engine.start(scope, port.engine)
        except _engine.BadRequest as error:
            await send_text(send, 400, str(error))
            return
        pump, complete = None, False
        try:
            plan = exchange.body_plan
            if plan:
                pump = self._pump(exchange, port, receive)
                await pump.begin(plan)
            port.flush_soon()
            while True:
                waiter = port.create_waiter()
                if exchange.park(waiter):
                    await waiter
                taken = exchange.take(self._rewrite)
                if taken is None:
                    continue
                status, headers, body, flags = taken
                if flags > COMPLETE:
                    pump = pump or self._pump(exchange, port, receive)
                    if not pump.heed(flags):
                        return
                    if flags & FAILED and not status:
                        raise pump.failure()
                if status:
                    break
            await send({"type": "http.response.start", "status": status, "headers": headers})
            if complete := flags & COMPLETE != 0:
                await send({"type": "http.response.body", "body": body, "more_body": False})
                return
            pump = pump or self._pump(exchange, port, receive)
            pump.keep(body, flags)
            # Not to be kept through the waits for what comes behind it.
            del taken, headers, body
            await pump.pass_on(send)
        except GeneratorExit:
            # Closed from outside, as by a loop's end: there is nobody to wait for anything.
            exchange.abort()
            if pump is not None:
                pump.drop()
            pump, complete = None, True
            raise
        finally:
            if pump is not None:
                pump.complete = pump.complete or complete
                await pump.close()
            elif not complete:
                exchange.abort()

    def _pump(self, exchange: _engine.Exchange, port: Port, receive: Receive) -> Pump:
        return Pump(exchange, port, receive, self._logger, self._caller)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await answer_lifespan(self, receive, send)
        else:
            raise ValueError(f"a Relay does not know {scope['type']!r} scopes")

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send, *asked: Any) -> None:
        if (await receive())["type"] == "websocket.disconnect":
            return
        port = self._current_port()
        try:
            web_socket = self._engine.connect(scope, port.engine, *asked)
        except _engine.BadRequest as error:
            await refuse(scope, send, 400, str(error))
            return
        ends = (port, receive, self._logger, self._caller)
        await WebSocketPump(web_socket, scope, send, self._rewrite, *ends).run()

    def _current_port(self) -> Port:
        """The running loop's port, which is mostly that of the request before."""
        port = self._port
        if port is None or (port.loop is not _get_running_loop() and not port.is_current()):
            port = self._attach()
            self._watch.on(port, self._engine)
        return port

    def _add_target(self, target: str | Target) -> None:
        found = target_from("target", target)
        in_memory = self._caller is not None
        self._engine.add_target(target_parts("target", found, self._credentials, in_memory))

    def _attach(self) -> Port:
        """Use the running loop's port from now on."""
        port = current_port()
        port.users.add(self)
        self._port = port
        return port

    def _detach(self, port: Port) -> None:
        """Let go of a port, unless somebody still waits at it; its last relay closes it."""
        if self._drains or self._engine.running:
            return
        self._port = None
        self._watch.off()
        port.users.discard(self)
        if not port.users:
            port.close()
