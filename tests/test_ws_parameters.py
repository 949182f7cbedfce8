"""The four parameters for WebSockets: what they take. What they do is in test_ws_liveness."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_relay import Relay

TIMES = ["ws_ping_interval", "ws_ping_timeout", "ws_idle_timeout"]

NO_TIMES: list[tuple[Any, type[Exception]]] = [
    ("20", TypeError),
    (b"20", TypeError),
    (True, TypeError),
    (False, TypeError),
    ((20,), TypeError),
    (object(), TypeError),
    (2j, TypeError),
    (0, ValueError),
    (0.0, ValueError),
    (-1, ValueError),
    (-0.5, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (float("-inf"), ValueError),
    (1e30, ValueError),
    (10**400, ValueError),
]

NO_SIZES: list[tuple[Any, type[Exception]]] = [
    ("1024", TypeError),
    (1024.0, TypeError),
    (True, TypeError),
    (object(), TypeError),
    (float("inf"), TypeError),
    (0, ValueError),
    (-1, ValueError),
    (2**64, ValueError),
    (10**400, ValueError),
]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        *[(name, value, kind) for name in TIMES for value, kind in NO_TIMES],
        *[("ws_max_message_size", value, kind) for value, kind in NO_SIZES],
    ],
    ids=lambda value: ascii(value).partition(" at 0x")[0].strip("'")[:40],
)
def test_a_wrong_parameter_is_named(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{name}\b") as raised:
        Relay("ws://upstream.test", **{name: value})
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "accepted",
    [
        *[{name: value} for name in TIMES for value in (None, 1, 0.001, 86_400)],
        *[{"ws_max_message_size": value} for value in (None, 1, 125, 1 << 30)],
        {"ws_ping_interval": None, "ws_ping_timeout": 5},
        {"ws_ping_interval": 60, "ws_ping_timeout": 5},
    ],
    ids=str,
)
def test_values_at_the_edge_are_taken(accepted: dict[str, Any]) -> None:
    assert repr(Relay("ws://upstream.test", **accepted)).startswith("<Relay to http://upstream")


@pytest.mark.parametrize("name", [*TIMES, "ws_max_message_size"])
def test_they_go_by_name_and_near_misses_are_told(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}s"):
        Relay("ws://upstream.test", **{f"{name}s": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("ws://upstream.test:8000/base", "http://upstream.test:8000/base"),
        ("wss://upstream.test", "https://upstream.test"),
        ("WSS://upstream.test", "https://upstream.test"),
    ],
)
def test_lilya_defect_ws_and_wss_are_http_and_https(target: str, shown: str) -> None:
    """Lilya makes `wss` to `ws`."""
    assert repr(Relay(target)).startswith(f"<Relay to {shown}")
