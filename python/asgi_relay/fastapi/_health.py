"""`HealthChecker`: which of several upstreams are well, and how fast they answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import anyio

from .._parameters import whole_number
from ..balancing import HealthCheck, Target
from ..config import Timeout
from ..relay import Relay
from ._relays import Relays, balanced, named, relay_settings, with_scheme

# Of the requests that go through a checker's relay; what `LoadBalancer.proxy_pass` has by default.
REQUEST_TIMEOUT: Final = 60.0
_CONNECT: Final = 10.0
_BALANCE: Final = "least_latency"


class HealthChecker:
    """Asks upstreams how they are, again and again, and keeps what they say.

    `async with checker:` in the lifespan; a `LoadBalancer` made of it starts it with its first
    request, too. Asking is done by the engine, over connections of its own; a target that was not
    asked yet is not healthy.

    targets: URLs, or dictionaries with `host`, `pingpath` and `maxrequests` (of a `LoadBalancer`'s
        requests between two checks); not both.
    interval: seconds from one check to the next.
    timeout: seconds for a check.
    ping_path: where targets that have no path of their own are asked, with HEAD; an answer below
        400 is a good sign.
    settings: parameters of `asgi_relay.Relay` for the requests of a `LoadBalancer`.

    Raises `TypeError`, `ValueError`, or `KeyError` for a dictionary without `host`.
    """

    def __init__(
        self,
        targets: Sequence[str] | Sequence[Mapping[str, Any]],
        interval: float = 10,
        timeout: float = 10,
        ping_path: str = "/",
        **settings: Any,
    ) -> None:
        self.interval = interval
        self.timeout = timeout
        self.is_personalized, configs = _configs(targets)
        self._ping_path = ping_path
        self._configs = configs
        self._settings = {"timeout": Timeout(REQUEST_TIMEOUT, connect=_CONNECT), **settings}
        self.relay = self._make_relay()
        self._others = Relays({"balance": _BALANCE, **settings})
        self.targets: list[str] = list(self.relay.targets)
        self.target_configs = dict(zip(self.targets, configs, strict=True))
        # Each by how it was given, and by how the engine spells it.
        self._names = {_bare(url): url for url in self.targets}
        self._names.update((_bare(each["host"]), url) for url, each in self.target_configs.items())
        # Whether a change of the path while it runs waits for its first check.
        self._unsure = False
        self._round = 0
        self._seen = time.perf_counter()

    def _make_relay(self) -> Relay:
        targets = self._targets_at(self._ping_path)
        settings = relay_settings(self._settings)
        with named({"target_base_url": "targets"}):
            return Relay(targets, **balanced(settings, len(targets), _BALANCE))

    def relay_for(self, target: str, timeout: Any) -> Relay:
        """A relay with another timeout, to this target and all that are healthy.

        It asks none of them: whoever is not healthy any more is no target of the next one.
        """
        urls = [url for url, ms in self.status.items() if ms is not False or url == target]
        hosts = tuple(with_scheme(self.target_configs[url]["host"]) for url in urls)
        return self._others.find(hosts, timeout)

    def _targets_at(self, common: str) -> list[Target]:
        if not self.is_personalized:
            check = self._check("ping_path", common)
            return [Target(with_scheme(each["host"]), health_check=check) for each in self._configs]
        targets = []
        for index, config in enumerate(self._configs):
            name = f"targets[{index}]"
            check = self._check(f"{name}: pingpath", config.get("pingpath", "/"))
            url = with_scheme(config["host"], f"{name}: host")
            targets.append(Target(url, health_check=check))
        return targets

    def _check(self, name: str, path: object) -> HealthCheck:
        if not isinstance(path, str):
            raise TypeError(f"{name}: a {type(path).__name__} is not a str")
        own = {f"health_check.{each}": each for each in ("interval", "timeout")}
        with named({"health_check.path": name, **own}):
            return HealthCheck(
                path if path.startswith("/") else f"/{path}",
                interval=self.interval,
                timeout=self.timeout,
                fall=1,
                jitter=0.0,
            )

    @property
    def ping_path(self) -> str:
        """Where the targets are asked. Raises `RuntimeError` where they have paths of their own."""
        self._require_common("ping_path")
        return self._ping_path

    @ping_path.setter
    def ping_path(self, path: str) -> None:
        self._require_common("ping_path")
        # Before anything is changed: a path may be refused.
        targets = self._targets_at(path)
        self._ping_path = path
        for url, target in zip(self.targets, targets, strict=True):
            self.relay.targets.drain(url)
            self.relay.targets.add(target)
        self._unsure = self.relay._engine.running

    def _require_common(self, name: str) -> None:
        if self.is_personalized:
            raise RuntimeError(f"{name}: each target has its own")

    async def start(self) -> None:
        """Ask all targets, and again after each interval. Idempotent."""
        await self.relay.startup()
        if self._unsure:
            await self.check_all()

    async def stop(self) -> None:
        """Ask no more, and finish what a `LoadBalancer` has in flight. Idempotent.

        The next request through a `LoadBalancer` starts it again.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.relay.shutdown)
            tasks.start_soon(self._others.shutdown)

    async def destroy(self) -> None:
        """As `stop`, which leaves nothing."""
        await self.stop()

    async def check_all(self) -> None:
        """Ask all targets now, and wait for what they say."""
        self._unsure = False
        await self.relay.check_targets()

    async def __aenter__(self) -> HealthChecker:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.destroy()

    @property
    def running(self) -> bool:
        """Whether it is started, and knows of each target."""
        return self.relay._engine.running and not self._unsure

    @property
    def round(self) -> int:
        """How many times all targets have been asked since the start."""
        return self.relay._engine.checks // len(self.targets)

    @property
    def last_update(self) -> float:
        """The `time.perf_counter()` at which a round of checks was seen to be over."""
        if self.round != self._round:
            self._round, self._seen = self.round, time.perf_counter()
        return self._seen

    @property
    def status(self) -> dict[str, float | bool]:
        """By target, the milliseconds to an answer, or `False` for one that is not healthy."""
        found = self.relay.status()["targets"]
        return {url: _latency(found[url]) for url in self.targets}

    def get_healthy_targets(self) -> list[str]:
        """Those that are healthy."""
        return list(self.get_response_times())

    def get_response_times(self) -> dict[str, float]:
        """By healthy target, the milliseconds to an answer, of checks and of requests."""
        return {url: float(ms) for url, ms in self.status.items() if ms is not False}

    def get_fastest(self) -> str | None:
        """The healthy target that answers fastest."""
        times = self.get_response_times()
        return min(times, key=lambda url: times[url]) if times else None

    def is_healthy(self, target: str) -> bool:
        """Whether this target is; `False` for one that is not among them."""
        url = self._names.get(_bare(target))
        return url is not None and self.status[url] is not False


def _bare(url: str) -> str:
    return with_scheme(url).rstrip("/")


def _latency(found: Any) -> float | bool:
    return (found["latency_ms"] or 0.0) if found["state"] == "healthy" else False


def _configs(targets: Any) -> tuple[bool, list[Mapping[str, Any]]]:
    """Whether the targets are dictionaries, and each as one."""
    if isinstance(targets, str) or not isinstance(targets, Sequence):
        raise TypeError(f"targets: a {type(targets).__name__} is not a list")
    if not targets:
        raise ValueError("targets: there is none")
    personalized = isinstance(targets[0], Mapping)
    configs: list[Mapping[str, Any]] = []
    config: Mapping[str, Any]
    for index, target in enumerate(targets):
        if not isinstance(target, Mapping if personalized else str):
            raise TypeError(f"targets[{index}]: all must be str, or all dictionaries")
        config = target if isinstance(target, Mapping) else {"host": target}
        if "host" not in config:
            raise KeyError(f"targets[{index}]: it has no 'host'")
        if config.get("maxrequests") is not None:
            whole_number(f"targets[{index}]: maxrequests", config["maxrequests"])
        configs.append(config)
    return personalized, configs
