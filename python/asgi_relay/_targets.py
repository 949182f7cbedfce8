"""Targets and how they are balanced, from the constructor's parameters to the engine's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._parameters import (
    number,
    optional_object,
    optional_size,
    optional_time,
    text,
    without_user_information,
)
from .balancing import ConsistentHash, HealthCheck, PassiveHealth, StickyCookie, Target


def targets_from(value: object) -> dict[str, Target]:
    """The `target_base_url` parameter, a URL, a Target, or several of them, each with its name."""
    parameter = "target_base_url"
    if isinstance(value, str | Target):
        found = {parameter: target_from(parameter, value)}
    elif isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        kind = type(value).__name__
        raise TypeError(f"{parameter}: a {kind} is not a str, a Target or a list of them")
    else:
        named = ((f"{parameter}[{index}]", item) for index, item in enumerate(value))
        found = {name: target_from(name, item) for name, item in named}
    if not found:
        raise ValueError(f"{parameter}: the list of targets is empty")
    if not any(target.weight for target in found.values()):
        raise ValueError(f"{parameter}: the weights are all 0, so no target would be chosen")
    return found


def target_from(parameter: str, value: object) -> Target:
    """One of them."""
    return value if isinstance(value, Target) else Target(text(parameter, value))


def target_parts(
    parameter: str, target: Target, credentials: str | None, in_memory: bool
) -> dict[str, Any]:
    """A target as the engine takes it; `credentials` are those of the others."""
    url, own = without_user_information(target.url)
    if own != credentials:
        raise ValueError(
            f"{parameter}: user information must be the same for all targets, as each request "
            "carries it to whichever is chosen"
        )
    return {
        "parameter": parameter,
        "url": url,
        "weight": target.weight,
        "max_in_flight": target.max_in_flight,
        "health_check": _check_parts(target.health_check, credentials, in_memory),
    }


def balancing_settings(
    *,
    balance: object,
    sticky: StickyCookie | None,
    health_check: HealthCheck | None,
    passive_health: PassiveHealth | None,
    max_in_flight: object,
    queue_timeout: object,
    retry_budget: object,
    dns_refresh: object,
    credentials: str | None,
    in_memory: bool,
) -> dict[str, Any]:
    """How one of several targets is chosen, as the engine takes it."""
    optional_object("sticky", sticky, StickyCookie)
    optional_object("health_check", health_check, HealthCheck)
    optional_object("passive_health", passive_health, PassiveHealth)
    if in_memory and dns_refresh is not None:
        raise ValueError("dns_refresh: an upstream in this process has no name to resolve")
    hashed = balance._parts() if isinstance(balance, ConsistentHash) else None
    return {
        "balance": "" if hashed else text("balance", balance),
        "hash": hashed,
        "sticky": None if sticky is None else sticky._parts(),
        "passive_health": None if passive_health is None else passive_health._parts(),
        "max_in_flight": optional_size("max_in_flight", max_in_flight),
        "health_check": _check_parts(health_check, credentials, in_memory),
        "queue_timeout": number("queue_timeout", queue_timeout),
        "retry_budget": None if retry_budget is None else number("retry_budget", retry_budget),
        "dns_refresh": optional_time("dns_refresh", dns_refresh),
    }


def _check_parts(
    check: HealthCheck | None, credentials: str | None, in_memory: bool
) -> dict[str, Any] | None:
    """A check as the engine takes it; the targets' user information goes along."""
    if check is None:
        return None
    if in_memory:
        raise ValueError("health_check: an upstream in this process has no health to check")
    parts = check._parts()
    return {**parts, "headers": with_credentials(parts["headers"], credentials)}


def with_credentials(
    headers: list[tuple[str, str]], credentials: str | None
) -> list[tuple[str, str]]:
    """Headers with an Authorization, unless they have one."""
    if credentials and not any(name.lower() == "authorization" for name, _ in headers):
        return [*headers, ("authorization", credentials)]
    return headers
