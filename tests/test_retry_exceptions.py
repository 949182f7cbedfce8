"""Which failures are tried again, and how their classes are named: ours, httpx's, their bases."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from asgi_relay import (
    ConnectError,
    ConnectTimeout,
    NameResolutionError,
    NetworkError,
    ProtocolError,
    ReadError,
    ReadTimeout,
    RelayError,
    RemoteProtocolError,
    Timeout,
    TimeoutException,
    TransportError,
)

from .support import scripts
from .support.front import patience, relayed
from .support.records import Records
from .support.upstream import Upstream, refusing, silent

if TYPE_CHECKING:
    from .support.exchange import Script

unavailable = scripts.answer(503, [("Retry-After", "7")], b"come back later")
at_once: dict[str, Any] = {"retry_backoff_factor": 0}


def test_by_default_a_read_timeout_is_tried_again_and_other_timeouts_are_not() -> None:
    assert count_tries(scripts.hang, 504, timeout=Timeout(read=0.4)) == 2
    with silent() as url:
        assert count_attempts(url, 504, timeout=Timeout(connect=0.15)) == 1


def test_by_default_failures_to_connect_are_tried_again() -> None:
    with refusing() as url:
        assert count_attempts(url, 502) == 2
    assert count_attempts("http://upstream.invalid", 502) == 2


@pytest.mark.parametrize("script", [scripts.close, scripts.reset], ids=["fin", "rst"])
def test_by_default_a_connection_that_closes_before_the_head_is_not_tried_again(
    script: Script,
) -> None:
    assert count_tries(script, 502) == 1


COVERED: dict[str, tuple[Script, int, list[type[BaseException]]]] = {
    "fin": (scripts.close, 502, [RemoteProtocolError, ProtocolError, TransportError, RelayError]),
    "garbage": (scripts.say(b"?\r\n\r\n"), 502, [RemoteProtocolError, ProtocolError, Exception]),
    "rst": (
        scripts.reset,
        502,
        [ReadError, NetworkError, TransportError, RelayError, ConnectionError, OSError],
    ),
    "hang": (
        scripts.hang,
        504,
        [ReadTimeout, TimeoutException, builtins.TimeoutError, OSError],
    ),
}


@pytest.mark.parametrize(
    ("script", "status", "kind"),
    [
        pytest.param(script, status, kind, id=f"{name}-{kind.__name__}")
        for name, (script, status, kinds) in COVERED.items()
        for kind in kinds
    ],
)
def test_an_exception_class_covers_its_subclasses(
    script: Script, status: int, kind: type[BaseException]
) -> None:
    settings: dict[str, Any] = {"retry_exceptions": [kind], "timeout": patience(script)}
    assert count_tries(script, status, **settings) == 2


@pytest.mark.parametrize(
    ("script", "status", "kind"),
    [
        (scripts.close, 502, ReadError),
        (scripts.close, 502, TimeoutException),
        (scripts.reset, 502, ProtocolError),
        (scripts.reset, 502, ConnectError),
        (scripts.close, 502, OSError),
        (scripts.hang, 504, NetworkError),
        (scripts.hang, 504, ConnectionError),
        (scripts.hang, 504, ConnectTimeout),
    ],
)
def test_an_exception_class_covers_no_other(
    script: Script, status: int, kind: type[BaseException]
) -> None:
    settings: dict[str, Any] = {"retry_exceptions": [kind], "timeout": patience(script)}
    assert count_tries(script, status, **settings) == 1


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("script", "status", "name", "tries"),
    [
        (scripts.close, 502, "RemoteProtocolError", 2),
        (scripts.close, 502, "ProtocolError", 2),
        (scripts.close, 502, "TransportError", 2),
        (scripts.close, 502, "RequestError", 2),
        (scripts.close, 502, "HTTPError", 2),
        (scripts.close, 502, "ReadError", 1),
        (scripts.reset, 502, "ReadError", 2),
        (scripts.reset, 502, "NetworkError", 2),
        (scripts.hang, 504, "ReadTimeout", 2),
        (scripts.hang, 504, "TimeoutException", 2),
        (scripts.hang, 504, "ConnectTimeout", 1),
    ],
)
def test_exception_classes_of_httpx_mean_ours_of_the_same_name(
    script: Script, status: int, name: str, tries: int, library: Any
) -> None:
    kind = getattr(library, name)
    settings: dict[str, Any] = {"retry_exceptions": [kind], "timeout": patience(script)}
    assert count_tries(script, status, **settings) == tries


def test_connect_error_covers_its_subclasses() -> None:
    ours: list[Any] = [ConnectError, NameResolutionError, ConnectionError, OSError]
    kinds = [*ours, httpx.ConnectError, httpx2.ConnectError]
    for kind in kinds:
        assert count_attempts("http://upstream.invalid", 502, retry_exceptions=[kind]) == 2
    assert count_attempts("http://upstream.invalid", 502, retry_exceptions=[ReadTimeout]) == 1


def test_with_no_exceptions_no_failure_is_tried_again() -> None:
    with refusing() as url:
        assert count_attempts(url, 502, retry_exceptions=()) == 1


def test_statuses_and_errors_share_one_count() -> None:
    # A failure on a kept connection would be put down to the keep-alive race, and not be counted.
    closing = scripts.answer(503, [("Connection", "close")])
    script = scripts.in_turn(closing, scripts.close, closing, scripts.ok)
    settings = {"retry_exceptions": [RemoteProtocolError], **at_once}
    with Upstream(script) as upstream:
        with relayed(upstream.url, max_retries=2, **settings) as front:
            assert front.fetch().status == 503
        assert len(upstream.requests) == 3


def test_the_last_failure_is_the_answer() -> None:
    script = scripts.in_turn(unavailable, scripts.close)
    settings = {"retry_exceptions": [RemoteProtocolError], **at_once}
    with Upstream(script) as upstream, relayed(upstream.url, max_retries=2, **settings) as front:
        assert front.fetch().body.startswith(b"Upstream error: ")


def test_an_error_that_is_followed_by_a_good_answer_is_never_seen() -> None:
    script = scripts.in_turn(scripts.reset, scripts.say(b"?\r\n\r\n"), scripts.hang, scripts.ok)
    settings = {"retry_exceptions": [TransportError], "timeout": Timeout(read=2), **at_once}
    with Upstream(script) as upstream, relayed(upstream.url, max_retries=3, **settings) as front:
        assert front.fetch().body == b"ok"


def count_tries(script: Script, status: int, **settings: Any) -> int:
    """How many requests the upstream gets with one retry allowed."""
    with Upstream(script) as upstream:
        with relayed(upstream.url, max_retries=1, **at_once, **settings) as front:
            assert front.fetch().status == status
        upstream.settle()
        return len(upstream.requests)


def count_attempts(url: str, status: int, **settings: Any) -> int:
    """How many tries fail, where no request ever gets anywhere."""
    records = Records()
    with relayed(url, max_retries=1, logger=records.logger, **at_once, **settings) as front:
        assert front.fetch().status == status
    return len(records.all)
