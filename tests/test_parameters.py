"""Bad input to the constructors: each wrong type and value is an error that names its parameter."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from asgi_relay import ASGITransport, ConnectError, Limits, Relay, Timeout

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://upstream.test:8000"
NAN, INFINITE = float("nan"), float("inf")
SURROGATE = "\udc80"

URLS: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (8000, TypeError),
    (b"http://upstream.test", TypeError),
    ("", ValueError),
    ("/base", ValueError),
    ("//upstream.test", ValueError),
    ("upstream.test", ValueError),
    ("upstream.test:8000", ValueError),
    ("ftp://x", ValueError),
    ("file:///etc/passwd", ValueError),
    ("http://", ValueError),
    ("http:///base", ValueError),
    ("http:/upstream.test/base", ValueError),
    ("http:\\\\upstream.test\\base", ValueError),
    ("http://upstream.test\\base", ValueError),
    ("http://:8000", ValueError),
    ("http://upstream.test:0", ValueError),
    ("http://upstream.test:99999", ValueError),
    ("http://upstream.test:-1", ValueError),
    ("http://upstream.test:http", ValueError),
    ("http://[::1", ValueError),
    ("http://upstream test/", ValueError),
    ("http://upstream.test/a b", ValueError),
    ("http://upstream.test/\r\nX: y", ValueError),
    ("http://upstream.test/../x", ValueError),
    ("http://upstream.test/%2e%2e/x", ValueError),
    ("http://upstream.test?x=y", ValueError),
    ("http://upstream.test?x=a@b", ValueError),
    ("http://upstream.test/#x", ValueError),
    ("http+unix://", ValueError),
    ("http+unix:///run/app.sock", ValueError),
    (f"http://upstream.test/{SURROGATE}", ValueError),
]

PARAMETERS: list[tuple[str, Any, type[Exception]]] = [
    ("upstream_prefix", None, TypeError),
    ("upstream_prefix", b"/api", TypeError),
    ("upstream_prefix", "/a b", ValueError),
    ("upstream_prefix", "/api?x", ValueError),
    ("upstream_prefix", "/api#x", ValueError),
    ("upstream_prefix", "/../x", ValueError),
    ("upstream_prefix", "/%2E%2e", ValueError),
    ("upstream_prefix", "/\r\n", ValueError),
    ("upstream_prefix", SURROGATE, ValueError),
    ("preserve_host", None, TypeError),
    ("preserve_host", 1, TypeError),
    ("preserve_host", "yes", TypeError),
    ("rewrite_set_cookie_domain", "example.org", TypeError),
    ("timeout", -1, ValueError),
    ("timeout", NAN, ValueError),
    ("timeout", INFINITE, ValueError),
    ("timeout", "5", TypeError),
    ("timeout", True, TypeError),
    ("timeout", (5, 10), TypeError),
    ("timeout", object(), TypeError),
    ("timeout", SimpleNamespace(connect=1, read=-1, write=1, pool=1), ValueError),
    ("timeout", SimpleNamespace(connect=1, read="1", write=1, pool=1), TypeError),
    ("limits", None, TypeError),
    ("limits", 100, TypeError),
    ("limits", {"max_connections": 5}, TypeError),
    ("limits", httpx.Limits(max_connections=0), ValueError),
    ("limits", httpx.Limits(max_connections=-1), ValueError),
    ("limits", httpx.Limits(keepalive_expiry=-1), ValueError),
    ("follow_redirects", None, TypeError),
    ("follow_redirects", 20, TypeError),
    ("extra_request_headers", {"X": None}, TypeError),
    ("extra_request_headers", {"X": 5}, TypeError),
    ("extra_request_headers", {"X": b"value"}, TypeError),
    ("extra_request_headers", {b"X": "value"}, TypeError),
    ("extra_request_headers", [("X", "value")], TypeError),
    ("extra_request_headers", "X: value", TypeError),
    ("extra_request_headers", {"": "value"}, ValueError),
    ("extra_request_headers", {"X Y": "value"}, ValueError),
    ("extra_request_headers", {"X:": "value"}, ValueError),
    ("extra_request_headers", {"€": "value"}, ValueError),
    ("extra_request_headers", {"X\r\nY": "value"}, ValueError),
    ("extra_request_headers", {"X": "a\r\nY: b"}, ValueError),
    ("extra_request_headers", {"X": "a\nb"}, ValueError),
    ("extra_request_headers", {"X": "a\0b"}, ValueError),
    ("extra_request_headers", {"X": SURROGATE}, ValueError),
    ("extra_request_headers", {SURROGATE: "value"}, ValueError),
    ("extra_request_headers", {"Content-Length": "5"}, ValueError),
    ("extra_request_headers", {"transfer-encoding": "chunked"}, ValueError),
    ("extra_request_headers", {"Connection": "close"}, ValueError),
    *[
        (name, value, kind)
        for name in (
            "drop_request_headers",
            "drop_response_headers",
            "allow_request_headers",
            "allow_response_headers",
        )
        for value, kind in [
            ("X-Name", TypeError),
            (b"X-Name", TypeError),
            (5, TypeError),
            ([5], TypeError),
            ([b"X-Name"], TypeError),
            ([None], TypeError),
            ([""], ValueError),
            (["X Name"], ValueError),
            (["X-Name:"], ValueError),
            (["X-Näme"], ValueError),
            ([SURROGATE], ValueError),
        ]
    ],
    ("drop_request_headers", None, TypeError),
    ("drop_response_headers", None, TypeError),
    ("transport", object(), TypeError),
    ("transport", "app", TypeError),
    ("transport", ASGITransport, TypeError),
    ("transport", httpx.ASGITransport, TypeError),
    ("transport", httpx.HTTPTransport, TypeError),
    ("max_retries", None, TypeError),
    ("max_retries", 1.0, TypeError),
    ("max_retries", "1", TypeError),
    ("max_retries", True, TypeError),
    ("max_retries", -1, ValueError),
    ("max_retries", 2**64, ValueError),
    ("retry_backoff_factor", None, TypeError),
    ("retry_backoff_factor", "0.2", TypeError),
    ("retry_backoff_factor", True, TypeError),
    ("retry_backoff_factor", -0.2, ValueError),
    ("retry_backoff_factor", NAN, ValueError),
    ("retry_backoff_factor", INFINITE, ValueError),
    ("retry_statuses", None, TypeError),
    ("retry_statuses", 503, TypeError),
    ("retry_statuses", "503", TypeError),
    ("retry_statuses", ["503"], TypeError),
    ("retry_statuses", [503.0], TypeError),
    ("retry_statuses", [True], TypeError),
    ("retry_statuses", [100], ValueError),
    ("retry_statuses", [600], ValueError),
    ("retry_statuses", [-503], ValueError),
    ("retry_exceptions", None, TypeError),
    ("retry_exceptions", "ConnectError", TypeError),
    ("retry_exceptions", ["ConnectError"], TypeError),
    ("retry_exceptions", [ConnectError("an instance")], TypeError),
    ("retry_exceptions", [int], TypeError),
    ("retry_exceptions", [ValueError], ValueError),
    ("retry_exceptions", [KeyboardInterrupt], ValueError),
    ("retry_exceptions", [httpx.InvalidURL], ValueError),
    ("retry_non_idempotent", None, TypeError),
    ("retry_non_idempotent", "POST", TypeError),
    ("verify", None, TypeError),
    ("verify", 1, TypeError),
    ("verify", "missing.pem", ValueError),
    ("verify", b"missing.pem", TypeError),
    ("cert", 5, TypeError),
    ("cert", "missing.pem", ValueError),
    ("cert", (), ValueError),
    ("cert", ("one.pem",), ValueError),
    ("cert", ("missing.pem", "missing.key"), ValueError),
    ("cert", (5, "missing.key"), TypeError),
    ("cert", ("a.pem", "a.key", "password", "more"), ValueError),
    ("shutdown_grace", None, TypeError),
    ("shutdown_grace", "5", TypeError),
    ("shutdown_grace", True, TypeError),
    ("shutdown_grace", -1, ValueError),
    ("shutdown_grace", NAN, ValueError),
    ("shutdown_grace", INFINITE, ValueError),
    ("logger", "root", TypeError),
    ("logger", 5, TypeError),
]


@pytest.mark.parametrize(
    ("url", "kind"), URLS, ids=lambda value: ascii(value).partition(" at 0x")[0][:40]
)
def test_a_wrong_target_is_named(url: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^target_base_url\b"):
        Relay(url)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    PARAMETERS,
    ids=lambda value: ascii(value).partition(" at 0x")[0].strip("'")[:40],
)
def test_a_wrong_parameter_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{name}\b") as raised:
        Relay(URL, **{name: value})
    # UnicodeDecodeError and the like are ValueErrors too, and help nobody.
    assert type(raised.value) is kind


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(TypeError, match="max_retrys"):
        Relay(URL, max_retrys=3)  # type: ignore[call-arg]


def test_all_but_the_target_goes_by_name() -> None:
    with pytest.raises(TypeError, match="positional"):
        Relay(URL, "/api")  # type: ignore[call-arg]


def test_a_value_of_none_points_to_the_environment() -> None:
    with pytest.raises(TypeError, match=r"'X-Api-Key' is None.*environment variable"):
        Relay(URL, extra_request_headers={"X-Api-Key": None})  # type: ignore[dict-item]


def test_a_context_of_the_ssl_module_is_explained() -> None:
    with pytest.raises(TypeError, match=r"^verify.*SSLContext"):
        Relay(URL, verify=ssl.create_default_context())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"max_retries": -1}, "max_retries: -1 is not allowed; 0 to 2147483647"),
        ({"max_retries": 2**31}, "max_retries: 2147483648 is not allowed; 0 to 2147483647"),
        ({"max_in_flight": 0}, "max_in_flight: 0 is not allowed; 1 to 2147483647, or None"),
        (
            {"ws_max_message_size": 2**31},
            "ws_max_message_size: 2147483648 is not allowed; 1 to 2147483647, or None",
        ),
        ({"retry_statuses": [-503]}, "retry_statuses: -503 is not a final HTTP status; 200 to 599"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_tells_both_bounds(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as raised:
        Relay(URL, **parameters)
    assert str(raised.value) == told


@pytest.mark.parametrize("parameter", ["verify", "cert"])
def test_a_file_without_certificates_is_named_before_any_request(
    parameter: str, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate at all")
    with pytest.raises(ValueError, match=rf"^{parameter}.*junk\.pem"):
        Relay("https://upstream.test", **{parameter: junk})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["connect", "read", "write", "pool"])
@pytest.mark.parametrize(
    ("value", "kind"), [(-1, ValueError), (NAN, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_wrong_time_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^timeout\.{name}\b"):
        Timeout(**{name: value})


@pytest.mark.parametrize("value", [-1, "1", INFINITE, True])
def test_a_wrong_time_for_all_is_named(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^timeout\b"):
        Timeout(value)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("max_connections", 0, ValueError),
        ("max_connections", -1, ValueError),
        ("max_connections", 1.5, TypeError),
        ("max_connections", True, TypeError),
        ("max_keepalive_connections", -1, ValueError),
        ("max_keepalive_connections", "20", TypeError),
        ("keepalive_expiry", -1, ValueError),
        ("keepalive_expiry", INFINITE, ValueError),
        ("keepalive_expiry", "5", TypeError),
    ],
)
def test_a_wrong_limit_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^limits\.{name}\b"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("app", None),
        ("app", "module:app"),
        ("root_path", None),
        ("root_path", b"/app"),
        ("client", "127.0.0.1"),
        ("client", ("127.0.0.1",)),
        ("client", 5),
    ],
)
def test_a_wrong_parameter_of_a_transport_is_named(name: str, value: Any) -> None:
    async def app(*_: object) -> None: ...

    with pytest.raises(TypeError, match=rf"^{name}\b"):
        ASGITransport(**{"app": app, name: value})


@pytest.mark.parametrize(
    "accepted",
    [
        {"timeout": None},
        {"timeout": 0},
        {"timeout": 2.5},
        {"timeout": Timeout(read=None)},
        {"timeout": httpx.Timeout(5.0, read=None)},
        {"timeout": httpx2.Timeout(5.0)},
        {"limits": Limits(None, None, None)},
        {"limits": httpx.Limits()},
        {"limits": httpx2.Limits(max_connections=5)},
        {"extra_request_headers": {}},
        {"extra_request_headers": {"X": "", "x-utf-8": "ü"}},
        {"drop_request_headers": {"X-Set"}},
        {"drop_response_headers": (name for name in ["x-generated"])},
        {"allow_request_headers": []},
        {"max_retries": 0},
        {"retry_backoff_factor": 0},
        {"retry_statuses": {200, 599}},
        {"retry_statuses": ()},
        {"retry_exceptions": ()},
        {"retry_exceptions": ConnectError},
        {"retry_exceptions": (httpx.ConnectError, httpx2.ReadTimeout, TimeoutError)},
        {"retry_exceptions": (httpx.HTTPError, Exception)},
        {"verify": False},
        {"cert": None},
        {"shutdown_grace": 0},
        {"upstream_prefix": ""},
    ],
    ids=", ".join,
)
def test_values_at_the_edge_are_taken(accepted: dict[str, Any]) -> None:
    assert repr(Relay(URL, **accepted)).startswith("<Relay to http://upstream.test:8000")


def test_times_compare_and_read_well() -> None:
    assert Timeout() == Timeout(connect=5, read=10, write=10, pool=10)
    assert Timeout(3) == Timeout(connect=3, read=3, write=3, pool=3)
    assert Timeout(3, read=None) == Timeout(connect=3, read=None, write=3, pool=3)
    assert Timeout(3) != Timeout(4)
    assert hash(Timeout(3)) == hash(Timeout(3.0))
    assert repr(Timeout(3)) == "Timeout(3.0)"
    assert repr(Timeout()) == "Timeout(connect=5.0, read=10.0, write=10.0, pool=10.0)"
    assert eval(repr(Timeout(read=None))) == Timeout(read=None)


def test_times_and_limits_do_not_change() -> None:
    timeout, limits = Timeout(), Limits()
    with pytest.raises(AttributeError, match="read"):
        timeout.read = 1
    with pytest.raises(AttributeError, match="max_connections"):
        limits.max_connections = 1  # type: ignore[misc]
