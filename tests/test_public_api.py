"""The package's face: its names, its signatures, its one tree of exceptions, its types."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from importlib.resources import files

import pytest

import asgi_relay
from asgi_relay import (
    ASGITransport,
    ConnectError,
    HealthCheck,
    Limits,
    PassiveHealth,
    ReadTimeout,
    Relay,
    RelayError,
    StickyCookie,
    Target,
    Timeout,
)

NAMES = {
    "ASGITransport",
    "ConnectError",
    "ConnectTimeout",
    "ConsistentHash",
    "HealthCheck",
    "Limits",
    "NameResolutionError",
    "NetworkError",
    "PassiveHealth",
    "PoolTimeout",
    "ProtocolError",
    "ReadError",
    "ReadTimeout",
    "Relay",
    "RelayError",
    "RelayStatus",
    "RemoteProtocolError",
    "StickyCookie",
    "TLSError",
    "Target",
    "TargetChange",
    "TargetSet",
    "TargetStatus",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "WriteError",
    "WriteTimeout",
    "__version__",
}

DEFAULTS = {
    "upstream_prefix": "/",
    "preserve_host": False,
    "rewrite_set_cookie_domain": None,
    "timeout": Timeout(connect=5, read=10, write=10, pool=10),
    "limits": Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5),
    "follow_redirects": False,
    "extra_request_headers": {},
    "drop_request_headers": (),
    "drop_response_headers": (),
    "allow_request_headers": None,
    "allow_response_headers": None,
    "transport": None,
    "max_retries": 0,
    "retry_backoff_factor": 0.2,
    "retry_statuses": (502, 503, 504),
    "retry_exceptions": (ConnectError, ReadTimeout),
    "retry_non_idempotent": False,
    "verify": True,
    "cert": None,
    "shutdown_grace": 5.0,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_idle_timeout": None,
    "ws_max_message_size": None,
    "balance": "p2c",
    "sticky": None,
    "health_check": None,
    "passive_health": PassiveHealth(
        consecutive_failures=5, failure_rate=0.5, eject_time=10, max_ejected=0.5
    ),
    "max_in_flight": None,
    "queue_timeout": 1.0,
    "retry_budget": 0.2,
    "dns_refresh": None,
    "on_target_change": None,
    "logger": None,
}

BALANCING = (HealthCheck, PassiveHealth, StickyCookie, Target)

# Each with its base, and what else it is.
TREE: dict[str, tuple[str, ...]] = {
    "RelayError": ("Exception",),
    "TransportError": ("RelayError",),
    "TimeoutException": ("TransportError", "TimeoutError"),
    "ConnectTimeout": ("TimeoutException",),
    "ReadTimeout": ("TimeoutException",),
    "WriteTimeout": ("TimeoutException",),
    "PoolTimeout": ("TimeoutException",),
    "NetworkError": ("TransportError",),
    "ConnectError": ("NetworkError",),
    "NameResolutionError": ("ConnectError",),
    "TLSError": ("ConnectError",),
    "ReadError": ("NetworkError",),
    "WriteError": ("NetworkError",),
    "ProtocolError": ("TransportError",),
    "RemoteProtocolError": ("ProtocolError",),
    "TooManyRedirects": ("TransportError",),
}


def test_the_public_names_are_these() -> None:
    assert set(asgi_relay.__all__) == NAMES
    assert all(hasattr(asgi_relay, name) for name in NAMES)


def test_the_version_is_that_of_the_distribution() -> None:
    assert asgi_relay.__version__ == importlib.metadata.version("asgi-relay")


def test_relaying_needs_no_other_distribution() -> None:
    needed = importlib.metadata.requires("asgi-relay") or []
    assert [line for line in needed if "extra ==" not in line] == []


def test_the_package_is_typed() -> None:
    package = files("asgi_relay")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("_engine.pyi").is_file()


def test_relay_takes_its_target_by_position_and_all_else_by_name() -> None:
    first, *others = inspect.signature(Relay).parameters.values()
    assert (first.name, first.kind) == ("target_base_url", first.POSITIONAL_OR_KEYWORD)
    assert first.default is first.empty
    assert {parameter.kind for parameter in others} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_defaults_are_those_of_the_contract() -> None:
    parameters = inspect.signature(Relay).parameters
    found = {name: p.default for name, p in parameters.items() if name != "target_base_url"}
    assert found == DEFAULTS


@pytest.mark.parametrize("name", TREE)
def test_an_exception_has_its_place_in_the_tree(name: str) -> None:
    kind = getattr(asgi_relay, name)
    assert tuple(base.__name__ for base in kind.__bases__) == TREE[name]


def test_the_tree_has_no_other_exceptions() -> None:
    kinds = {name for name in asgi_relay.__all__ if inspect.isclass(getattr(asgi_relay, name))}
    raised = {name for name in kinds if issubclass(getattr(asgi_relay, name), Exception)}
    assert raised == set(TREE)


def test_every_exception_is_a_relay_error() -> None:
    assert all(issubclass(getattr(asgi_relay, name), RelayError) for name in TREE)


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_a_public_name_is_documented(name: str) -> None:
    text = inspect.getdoc(getattr(asgi_relay, name))
    assert text is not None
    assert text.endswith((".", ")"))


@pytest.mark.parametrize(
    "method", ["startup", "shutdown", "__call__", "targets", "status", "pick", "check_targets"]
)
def test_a_public_method_of_relay_is_documented(method: str) -> None:
    assert inspect.getdoc(getattr(Relay, method))


def test_every_parameter_of_relay_is_explained() -> None:
    explained = _explained(Relay)
    assert explained == {"target_base_url", *DEFAULTS}


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Timeout, {"connect", "read", "write", "pool"}),
        (Limits, {"max_connections", "max_keepalive_connections", "keepalive_expiry"}),
        (ASGITransport, {"app", "root_path", "client"}),
        *((kind, set(inspect.signature(kind).parameters)) for kind in BALANCING),
    ],
)
def test_the_parameters_of_the_other_classes_are_explained(
    kind: type, parameters: set[str]
) -> None:
    assert _explained(kind) == parameters


def test_servers_take_relay_for_an_asgi_3_app() -> None:
    # They look at the call itself: an object with any other `__call__` would be called as ASGI 2.
    assert inspect.iscoroutinefunction(Relay.__call__)


def test_everything_public_is_defined_for_the_reader_of_a_traceback() -> None:
    for name in NAMES - {"__version__"}:
        assert getattr(asgi_relay, name).__module__.startswith("asgi_relay")
        assert "._engine" not in getattr(asgi_relay, name).__module__


def _explained(kind: type) -> set[str]:
    """The names that a docstring's entries (`name: …` or `name, name: …`) explain."""
    entries = re.findall(r"^(\w+(?:, \w+)*): ", inspect.getdoc(kind) or "", re.MULTILINE)
    return {name for entry in entries for name in entry.split(", ")}
