"""Several upstreams, configured: each wrong value is an error that names it, and nothing leaks.

The parameters of a single upstream are in test_parameters.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

import pytest

from asgi_relay import (
    ConsistentHash,
    HealthCheck,
    PassiveHealth,
    Relay,
    StickyCookie,
    Target,
)

A, B = "http://a.test:8000", "http://b.test:8000"
SECRET = "s3cret"
NAN, INFINITE = float("nan"), float("inf")
Wrong = list[tuple[Any, Any]]
"""Values, each with the error that it is."""

POLICIES = (
    "round_robin",
    "weighted_round_robin",
    "random",
    "p2c",
    "least_connections",
    "least_latency",
)

TARGETS: Wrong = [
    ([], ValueError),
    ((), ValueError),
    ([None], TypeError),
    ([A, 8000], TypeError),
    ([A, b"http://b.test"], TypeError),
    ([A, "b.test:8000"], ValueError),
    ([A, "ftp://b.test"], ValueError),
    ([A, "http://b.test?x=y"], ValueError),
    ([A, A], ValueError),
    ([A, "HTTP://A.TEST:8000/"], ValueError),
    ([A, "ws://a.test:8000"], ValueError),
    (["http://a.test", "http://a.test:80"], ValueError),
    ([Target(A), Target(A, weight=2)], ValueError),
    ([A, "https://b.test:8000"], ValueError),
    ([Target(A, weight=0)], ValueError),
    ([Target(A, weight=0), Target(B, weight=0)], ValueError),
    (Target(A, weight=0), ValueError),
]

WHOLE: Wrong = [
    (-1, ValueError),
    (1.5, TypeError),
    ("1", TypeError),
    (True, TypeError),
]
POSITIVE_WHOLE: Wrong = [*WHOLE, (0, ValueError)]
TIME: Wrong = [
    (-1, ValueError),
    (NAN, ValueError),
    (INFINITE, ValueError),
    ("1", TypeError),
    (True, TypeError),
]
POSITIVE_TIME: Wrong = [*TIME, (0, ValueError)]
SHARE: Wrong = [*TIME, (1.1, ValueError)]
NAME: Wrong = [
    ("", ValueError),
    ("a b", ValueError),
    ("a=b", ValueError),
    ("a;b", ValueError),
    ("a\r\nb", ValueError),
    ("ä", ValueError),
    (b"a", TypeError),
    (5, TypeError),
]


def each(name: str, wrong: Wrong) -> list[tuple[str, Any, Any]]:
    return [(name, value, kind) for value, kind in wrong]


PARAMETERS = [
    *each("balance", [("best", ValueError), ("", ValueError), (5, TypeError), (None, TypeError)]),
    *each("sticky", [("relay", TypeError), (True, TypeError)]),
    *each("health_check", [("/health", TypeError), (True, TypeError), (10, TypeError)]),
    *each("passive_health", [(True, TypeError), (5, TypeError)]),
    *each("max_in_flight", POSITIVE_WHOLE),
    *each("queue_timeout", [*TIME, (None, TypeError)]),
    *each("retry_budget", TIME),
    *each("dns_refresh", POSITIVE_TIME),
    *each("on_target_change", [("print", TypeError), (5, TypeError)]),
]

CLASSES: list[tuple[type, list[tuple[str, Any, Any]]]] = [
    (
        Target,
        [
            *each("weight", WHOLE),
            *each("max_in_flight", POSITIVE_WHOLE),
            *each("health_check", [("/health", TypeError), (True, TypeError)]),
            *each("url", [(None, TypeError), (b"http://a.test", TypeError)]),
        ],
    ),
    (
        HealthCheck,
        [
            *each("path", [("", ValueError), ("health", ValueError), ("/a b", ValueError)]),
            *each("path", [("/a\r\nb", ValueError), (None, TypeError), (b"/", TypeError)]),
            *each("interval", [*POSITIVE_TIME, (None, TypeError)]),
            *each("timeout", [*POSITIVE_TIME, (None, TypeError)]),
            *each("method", [("", ValueError), ("GET /", ValueError), ("POST", ValueError)]),
            *each("headers", [({"X": None}, TypeError), ({"X Y": "z"}, ValueError)]),
            *each("headers", [({"X": "a\r\nb"}, ValueError), ("X: y", TypeError)]),
            *each("expected_statuses", [((), ValueError), ([99], ValueError), ([600], ValueError)]),
            *each("expected_statuses", [(["200"], TypeError), (200, TypeError), (None, TypeError)]),
            *each("rise", [*POSITIVE_WHOLE, (None, TypeError)]),
            *each("fall", [*POSITIVE_WHOLE, (None, TypeError)]),
            *each("jitter", [*SHARE, (None, TypeError)]),
        ],
    ),
    (
        PassiveHealth,
        [
            *each("consecutive_failures", POSITIVE_WHOLE),
            *each("failure_rate", SHARE),
            *each("eject_time", [*POSITIVE_TIME, (None, TypeError)]),
            *each("max_ejected", [*SHARE, (None, TypeError)]),
        ],
    ),
    (
        ConsistentHash,
        [
            *each("header", [one for one in NAME if one[0] not in ("a=b",)]),
            *each("cookie", NAME),
            *each("client_address", [(1, TypeError), ("yes", TypeError), (None, TypeError)]),
        ],
    ),
    (
        StickyCookie,
        [
            *each("name", [*NAME, (None, TypeError)]),
            *each("secret", [(5, TypeError), (True, TypeError)]),
            *each("max_age", [*POSITIVE_TIME, (1.7, ValueError), (0.5, ValueError)]),
            *each("path", [("a;b", ValueError), ("/\r\n", ValueError), (None, TypeError)]),
            *each("same_site", [("", ValueError), ("loose", ValueError), (None, ValueError)]),
            *each("secure", [("yes", TypeError), (1, TypeError)]),
        ],
    ),
]
WRONG = [(kind, *one) for kind, wrong in CLASSES for one in wrong]


def configure(part: Any) -> Relay:
    """A relay with this part: what the part lets pass is found out here, and not later."""
    parameters = {
        HealthCheck: "health_check",
        PassiveHealth: "passive_health",
        ConsistentHash: "balance",
        StickyCookie: "sticky",
    }
    if isinstance(part, Target):
        return Relay([part, B])
    return Relay([A, B], **{parameters[type(part)]: part})


def label(value: object) -> str:
    return value.__name__ if isinstance(value, type) else ascii(value).strip("'")[:30]


# -- wrong values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "kind"), TARGETS, ids=label)
def test_wrong_targets_are_named(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^target_base_url\b") as raised:
        Relay(wrong)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ([A, B, "http://a.test:8000/"], r"a\.test:8000"),
        ([A, "https://b.test"], r"https"),
        ([A, "nonsense"], r"^target_base_url\[1\]"),
    ],
    ids=["duplicate", "mixed", "malformed"],
)
def test_an_error_says_which_target_it_is(wrong: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Relay(wrong)


@pytest.mark.parametrize(("name", "value", "kind"), PARAMETERS, ids=label)
def test_a_wrong_parameter_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{name}\b") as raised:
        Relay([A, B], **{name: value})
    assert type(raised.value) is kind


@pytest.mark.parametrize(("cls", "name", "value", "kind"), WRONG, ids=label)
def test_a_wrong_parameter_of_a_part_is_named(
    cls: Any, name: str, value: Any, kind: type[Exception]
) -> None:
    others = {"url": A} if cls is Target else {}
    with pytest.raises(kind, match=rf"^(\w+\.)?{name}\b") as raised:
        configure(cls(**{**others, name: value}))
    assert type(raised.value) is kind


def test_an_error_of_a_part_tells_both_bounds() -> None:
    with pytest.raises(ValueError, match=r"^health_check.rise: 0 is not allowed; 1 to 2147483647$"):
        HealthCheck(rise=0)
    with pytest.raises(ValueError, match=r"^target.weight: -1 is not allowed; 0 to 2147483647$"):
        Target(A, weight=-1)


@pytest.mark.parametrize("wrong", [A, A.encode(), 5, None, [5], [A.encode()]], ids=label)
def test_what_pick_cannot_do_without_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^without\b") as raised:
        Relay([A, B]).pick(wrong)
    # It may hold a password.
    assert A not in str(raised.value)


def test_an_unknown_policy_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^balance: .best.") as raised:
        Relay([A, B], balance="best")
    assert set(POLICIES) <= set(re.findall(r"\w+", str(raised.value)))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"header": "x-user", "cookie": "user"},
        {"header": "x-user", "client_address": True},
        {"header": "x-user", "cookie": "user", "client_address": True},
    ],
    ids=lambda keys: "-".join(keys) or "none",
)
def test_a_hash_has_exactly_one_key(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"header.*cookie.*client_address"):
        ConsistentHash(**keys)


def test_an_app_in_this_process_is_not_probed() -> None:
    async def app(*_: object) -> None: ...

    from asgi_relay import ASGITransport

    with pytest.raises(ValueError, match=r"^health_check\b"):
        Relay(A, transport=ASGITransport(app), health_check=HealthCheck())


@pytest.mark.parametrize(
    "several",
    [
        ["http://user:s3cret@a.test", "http://b.test"],
        ["http://user:s3cret@a.test", "http://user:0ther@b.test"],
        [Target("http://a.test"), Target("http://s3cret@b.test")],
    ],
    ids=["one", "two", "targets"],
)
def test_user_information_that_differs_is_refused_and_not_repeated(several: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"^target_base_url\b.*user information") as raised:
        Relay(several)
    report = "".join(
        traceback.TracebackException.from_exception(raised.value).format_exception_only()
    )
    assert SECRET not in report
    assert "0ther" not in report


@pytest.mark.parametrize("wrong", ["http://u:s3cret@a.test?x", "ftp://u:s3cret@a", "u:s3cret@a"])
def test_a_wrong_url_is_not_repeated_with_its_secret(wrong: str) -> None:
    for several in ([A, wrong], [Target(wrong)]):
        with pytest.raises(ValueError) as raised:
            Relay(several)
        assert SECRET not in str(raised.value)


# -- values at the edge ----------------------------------------------------------------------------


FORMS: dict[str, Any] = {
    "target": Target(A),
    "list": [A],
    "tuple": (A, B),
    "set": {A, B},
    "iterator": iter([A, Target(B)]),
    "generator": (url for url in [A, B]),
    "alike": ["http://a.test", "http://a.test/base", "http://a.test:81"],
    "credentials": ["http://user:s3cret@a.test", "http://user:s3cret@b.test"],
    "web-socket": ["http://a.test", "ws://b.test"],
    "one-weight": [Target(A, weight=0), B],
    "heavy": [Target(A, weight=1_000_000), B],
    "many": [f"http://{number}.test" for number in range(300)],
}


@pytest.mark.parametrize("taken", FORMS.values(), ids=FORMS)
def test_targets_come_in_every_form(taken: Any) -> None:
    relay = Relay(taken)
    assert len(relay.targets) == len(relay.status()["targets"]) >= 1
    assert SECRET not in repr(relay)


@pytest.mark.parametrize(
    "accepted",
    [
        *[{"balance": policy} for policy in POLICIES],
        {"balance": ConsistentHash(client_address=True)},
        {"passive_health": None},
        {"passive_health": PassiveHealth(consecutive_failures=None, failure_rate=None)},
        {"passive_health": PassiveHealth(max_ejected=0)},
        {"passive_health": PassiveHealth(max_ejected=1, failure_rate=1)},
        {"health_check": HealthCheck(expected_statuses=[204], jitter=0)},
        {"health_check": HealthCheck("/health?full=1", expected_statuses=range(200, 600))},
        {"max_in_flight": 1, "queue_timeout": 0},
        {"retry_budget": None},
        {"retry_budget": 0},
        {"sticky": StickyCookie("__Host-relay", secret=SECRET, max_age=1, same_site="strict")},
        {"on_target_change": print},
        {"dns_refresh": 0.5},
    ],
    ids=lambda accepted: ", ".join(f"{name}={label(value)}" for name, value in accepted.items()),
)
def test_values_at_the_edge_are_taken(accepted: dict[str, Any]) -> None:
    assert repr(Relay([A, B], **accepted)).startswith("<Relay to ")
