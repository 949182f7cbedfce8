"""The parts that several upstreams are configured with: defaults, equality, no secret shown."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import (
    ConsistentHash,
    HealthCheck,
    Limits,
    PassiveHealth,
    Relay,
    StickyCookie,
    Target,
    TargetChange,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "http://a.test:8000", "http://b.test:8000"
SECRET = "s3cret"


def label(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


DEFAULTS: dict[Any, dict[str, Any]] = {
    Relay: {
        "balance": "p2c",
        "sticky": None,
        "health_check": None,
        "passive_health": PassiveHealth(),
        "max_in_flight": None,
        "queue_timeout": 1.0,
        "retry_budget": 0.2,
        "dns_refresh": None,
        "on_target_change": None,
    },
    Target: {"weight": 1, "max_in_flight": None, "health_check": None},
    HealthCheck: {
        "path": "/",
        "interval": 10.0,
        "timeout": 5.0,
        "method": "HEAD",
        "headers": None,
        "expected_statuses": range(200, 400),
        "rise": 1,
        "fall": 2,
        "jitter": 0.1,
    },
    PassiveHealth: {
        "consecutive_failures": 5,
        "failure_rate": 0.5,
        "eject_time": 10.0,
        "max_ejected": 0.5,
    },
    ConsistentHash: {"header": None, "cookie": None, "client_address": False},
    StickyCookie: {
        "name": "relay",
        "secret": None,
        "max_age": None,
        "path": "/",
        "same_site": "lax",
        "secure": None,
    },
}


@pytest.mark.parametrize("kind", DEFAULTS, ids=label)
def test_the_defaults_are_those_of_the_contract(kind: Any) -> None:
    parameters = inspect.signature(kind).parameters
    found = {name: parameters[name].default for name in DEFAULTS[kind]}
    assert found == DEFAULTS[kind]
    # All but the first go by name, and some have no first.
    others = list(parameters.values())[kind not in (PassiveHealth, ConsistentHash) :]
    assert {parameter.kind for parameter in others} == {inspect.Parameter.KEYWORD_ONLY}


def _pickled(part: Any, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(part, protocol))


EQUALS: list[tuple[Any, Any, Any]] = [
    (Target(A), Target(A, weight=1), Target(A, weight=2)),
    (HealthCheck(), HealthCheck("/"), HealthCheck("/health")),
    (HealthCheck(interval=5), HealthCheck(interval=5.0), HealthCheck(interval=6)),
    (PassiveHealth(), PassiveHealth(eject_time=10), PassiveHealth(eject_time=11)),
    (ConsistentHash(header="x"), ConsistentHash(header="x"), ConsistentHash(cookie="x")),
    (StickyCookie(), StickyCookie("relay"), StickyCookie("other")),
    (StickyCookie(secret=SECRET), StickyCookie(secret=SECRET), StickyCookie(secret="other")),
    (TargetChange(A, "healthy", "ejected"),) * 2 + (TargetChange(B, "healthy", "ejected"),),
]


@pytest.mark.parametrize(("one", "same", "other"), EQUALS, ids=label)
def test_parts_compare_by_their_values(one: Any, same: Any, other: Any) -> None:
    assert one == same
    assert one != other
    assert one != "something else"


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(partial(_pickled, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
]


@pytest.mark.parametrize(
    "part",
    [
        *(one for one, _, _ in EQUALS),
        Timeout(3, read=None),
        Limits(1),
        Target(A, health_check=HealthCheck(headers={"A": "1"}, expected_statuses=[200])),
    ],
    ids=label,
)
def test_a_copy_is_the_same(part: Any) -> None:
    for made in COPIES:
        assert made(part) == part


@pytest.mark.parametrize("part", [one for one, _, _ in EQUALS], ids=label)
def test_parts_do_not_change(part: Any) -> None:
    names = [name for name in vars(part) if not name.startswith("_")]
    assert names
    for name in names:
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(part, name, None)


@pytest.mark.parametrize(
    "shown",
    [
        repr(Target(A, weight=3, max_in_flight=9)),
        repr(HealthCheck("/health", interval=2.5)),
        repr(PassiveHealth(eject_time=2.5)),
        repr(ConsistentHash(header="x-user")),
        repr(StickyCookie("pinned")),
        repr(TargetChange(A, "healthy", "ejected")),
    ],
    ids=lambda shown: shown.partition("(")[0],
)
def test_a_repr_makes_the_same_again(shown: str) -> None:
    assert repr(eval(shown)) == shown


@pytest.mark.parametrize(
    "part",
    [
        StickyCookie(secret=SECRET),
        HealthCheck(headers={"Authorization": SECRET}),
        Target("http://user:s3cret@a.test"),
        Target("http://user:a/s3cret@a.test"),
        Target("http://user:a?s3cret@a.test"),
        Target("http://user:a#s3cret@a.test/b"),
        Target("user:a/s3cret@a.test"),
        Target(A, health_check=HealthCheck(headers={"X-Api-Key": SECRET})),
        Relay([A, B], sticky=StickyCookie(secret=SECRET)),
        Relay([A, B], health_check=HealthCheck(headers={"X-Api-Key": SECRET})),
        Relay(["http://user:s3cret@a.test", "http://user:s3cret@b.test"]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_no_repr_shows_a_secret(part: object) -> None:
    assert SECRET not in repr(part)
    assert SECRET not in str(part)


def test_the_repr_of_a_relay_counts_or_names_its_targets() -> None:
    shown = repr(Relay([A, B]))
    assert shown.startswith("<Relay to ")
    assert "a.test:8000" in shown
    assert "not started" in shown
    # A long list stays readable.
    assert len(repr(Relay([f"http://{number}.test" for number in range(300)]))) < 400
