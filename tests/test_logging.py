"""The events on `logger`: one INFO line each, the same facts as fields, and never a secret.

Secrets of the configuration are in test_credentials.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from asgi_relay import Limits, RemoteProtocolError, Timeout

from .support import scripts
from .support.client import TruncatedError
from .support.fleet import balanced
from .support.front import patience, relayed
from .support.records import Records
from .support.upstream import Upstream, refusing, silent

if TYPE_CHECKING:
    from pathlib import Path

    from .support.exchange import Script

at_once: dict[str, Any] = {"retry_backoff_factor": 0}


def logged(script: Script, target: str = "/x", **settings: Any) -> tuple[str, Records]:
    """The upstream's URL and what was logged for one request, whatever came of it."""
    records = Records()
    method = settings.pop("method", "GET")
    headers = settings.pop("headers", ())
    with Upstream(script) as upstream:
        with relayed(upstream.url, logger=records.logger, **at_once, **settings) as front:
            try:
                front.fetch(target, method=method, headers=headers)
            except TruncatedError:
                assert front.raised
        return upstream.url, records


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra=` put into a record."""
    plain = logging.LogRecord("", 0, "", 0, "", (), None)
    return {key: value for key, value in vars(record).items() if key not in vars(plain)}


def assert_event(record: logging.LogRecord, name: str, **expected: Any) -> None:
    """One line of INFO, whose text tells the same as its fields."""
    assert record.levelno == logging.INFO
    found = fields(record)
    found.pop("message", None)
    assert found.pop("event") == name
    for key, value in expected.items():
        if value is not ...:
            assert found[key] == value
    assert set(found) == set(expected)
    line = record.getMessage()
    assert line == f"reverse_proxy.{name} " + " ".join(f"{k}={v!r}" for k, v in found.items())
    assert "\n" not in line


# -- the events ------------------------------------------------------------------------------------


def test_what_goes_well_is_not_logged() -> None:
    _, records = logged(scripts.ok, max_retries=3)
    assert records.all == []


def test_each_retryable_status_is_logged() -> None:
    url, records = logged(scripts.in_turn(*[scripts.answer(503)] * 2, scripts.ok), max_retries=3)
    assert len(records.all) == 2
    for attempt, record in enumerate(records.all, 1):
        expected = {"url": f"{url}/x", "attempt": attempt, "status": 503}
        assert_event(record, "upstream_retryable_status", **expected)


def test_a_retryable_status_after_the_last_retry_is_logged_too() -> None:
    _, records = logged(scripts.answer(503), max_retries=1)
    attempts = [(fields(record)["event"], fields(record)["attempt"]) for record in records.all]
    assert attempts == [("upstream_retryable_status", 1), ("upstream_retryable_status", 2)]


def test_each_timeout_is_logged() -> None:
    url, records = logged(scripts.hang, max_retries=1, timeout=Timeout(read=0.4))
    assert len(records.all) == 2
    for attempt, record in enumerate(records.all, 1):
        assert_event(record, "upstream_timeout", url=f"{url}/x", attempt=attempt, error=...)
        assert "ReadTimeout" in fields(record)["error"]


def test_a_timeout_that_is_not_tried_again_is_logged_once() -> None:
    _, records = logged(scripts.hang, method="POST", max_retries=5, timeout=Timeout(read=0.4))
    assert [fields(record)["event"] for record in records.all] == ["upstream_timeout"]


def test_a_timeout_of_connecting_is_logged() -> None:
    records = Records()
    settings = {"logger": records.logger, "timeout": Timeout(connect=0.15)}
    with silent() as url, relayed(url, **settings) as front:
        assert front.fetch("/x").status == 504
    (record,) = records.all
    assert_event(record, "upstream_timeout", url=f"{url}/x", attempt=1, error=...)
    assert "ConnectTimeout" in fields(record)["error"]


def test_a_timeout_of_the_pool_is_logged() -> None:
    records = Records()
    settings = {"limits": Limits(max_connections=1), "timeout": Timeout(pool=0.15)}
    with (
        Upstream(scripts.hang) as upstream,
        relayed(upstream.url, logger=records.logger, **settings) as front,
        front.client() as first,
    ):
        first.start()
        upstream.wait_requests()
        assert front.fetch().status == 504
    assert "PoolTimeout" in fields(records.all[0])["error"]


def test_an_error_that_may_be_tried_again_is_logged_with_its_attempt() -> None:
    records = Records()
    settings = {"logger": records.logger, "max_retries": 2, **at_once}
    with refusing() as url, relayed(url, **settings) as front:
        assert front.fetch("/x").status == 502
    assert len(records.all) == 3
    for attempt, record in enumerate(records.all, 1):
        assert_event(record, "upstream_retryable_error", url=f"{url}/x", attempt=attempt, error=...)
        assert "ConnectError" in fields(record)["error"]


def test_a_unix_socket_is_told_by_its_own_name(tmp_path: Path) -> None:
    records = Records()
    urls = [f"http+unix://{quote(str(tmp_path / name), safe='')}/base" for name in ("a", "b")]
    settings = {"logger": records.logger, "max_retries": 1, "balance": "round_robin", **at_once}
    with balanced(*urls, **settings) as front:
        assert front.fetch("/x;sid=s3cret?token=s3cret").status == 502
        states = front.relay.status()["targets"].values()
    error = "ConnectError: no such file"
    assert {state["last_error"] for state in states} == {error}
    for attempt, (url, record) in enumerate(zip(urls, records.all, strict=True), 1):
        shown = f"{url}/x;sid=***?token=***"
        name = "upstream_retryable_error"
        assert_event(record, name, url=shown, attempt=attempt, error=error)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (scripts.close, "RemoteProtocolError"),
        (scripts.reset, "ReadError"),
        (scripts.say(b"?\r\n\r\n"), "RemoteProtocolError"),
    ],
    ids=["fin", "rst", "garbage"],
)
def test_any_other_error_is_logged_without_one(script: Script, kind: str) -> None:
    url, records = logged(script, max_retries=2)
    (record,) = records.all
    assert_event(record, "upstream_error", url=f"{url}/x", error=...)
    assert kind in fields(record)["error"]


def test_an_answer_that_the_policy_refuses_is_logged_as_an_error() -> None:
    _, records = logged(scripts.say(b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n"))
    assert [fields(record)["event"] for record in records.all] == ["upstream_error"]


def test_an_answer_that_breaks_off_is_logged() -> None:
    url, records = logged(scripts.cut_length(), retry_exceptions=[RemoteProtocolError])
    (record,) = records.all
    assert_event(record, "upstream_error", url=f"{url}/x", error=...)


def test_an_answer_that_stalls_is_logged() -> None:
    url, records = logged(scripts.stall(), timeout=Timeout(read=2), max_retries=3)
    (record,) = records.all
    assert_event(record, "upstream_timeout", url=f"{url}/x", attempt=1, error=...)


def test_a_client_that_leaves_is_no_event() -> None:
    records = Records()
    with (
        Upstream(scripts.hang) as upstream,
        relayed(upstream.url, logger=records.logger) as front,
    ):
        with front.client() as client:
            client.start()
            connection = upstream.wait_requests().connection
        connection.wait_closed()
        assert front.raised == []
    assert records.all == []


def test_the_url_is_the_one_that_failed() -> None:
    script = scripts.in_turn(scripts.answer(302, [("Location", "/b?x=1")]), scripts.close)
    url, records = logged(script, "/a", follow_redirects=True, max_retries=0)
    # The connection is a kept one, so the request goes out again before it fails.
    assert [fields(record)["url"] for record in records.all] == [f"{url}/b?x=***"]


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/x?token=secret", "/x?token=***"),
        ("/x?a=secret&b=secret%20more&c=", "/x?a=***&b=***&c=***"),
        ("/x?secret", "/x?***"),
        ("/x?a=secret=secret", "/x?a=***"),
        ("/x?secret&a=secret;b=secret", "/x?***&a=***"),
        ("/x?=secret", "/x?=***"),
        ("/a%2Fb?a=secret", "/a%2Fb?a=***"),
        ("/a;sid=secret;b=secret/c;secret?d", "/a;sid=***;b=***/c;***?***"),
    ],
)
def test_query_values_are_masked(target: str, shown: str) -> None:
    url, records = logged(scripts.close, target)
    (record,) = records.all
    assert fields(record)["url"] == url + shown
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    "script", [scripts.close, scripts.answer(503), scripts.hang, scripts.cut_length()]
)
def test_no_credential_is_in_any_line_or_field(script: Script) -> None:
    headers = [("Authorization", "Bearer secret"), ("Cookie", "a=secret"), ("X-Api-Key", "secret")]
    settings = {"extra_request_headers": {"X-Key": "secret"}, "timeout": patience(script)}
    _, records = logged(script, "/x?k=secret", headers=headers, max_retries=1, **settings)
    assert records.all
    for record in records.all:
        assert "secret" not in repr(vars(record))


def test_user_information_of_a_redirect_is_masked() -> None:
    with refusing() as url:
        location = url.replace("http://", "http://user:secret@") + "/x"
        _, records = logged(
            scripts.answer(302, [("Location", location)]), follow_redirects=True, max_retries=0
        )
    assert fields(records.all[0])["url"] == f"{url}/x"
    assert "secret" not in repr(vars(records.all[0]))


def test_a_line_break_in_a_path_does_not_break_the_line() -> None:
    _, records = logged(scripts.close, "/%0d%0areverse_proxy.forged%00'")
    (line,) = records.lines
    assert line.startswith("reverse_proxy.upstream_error ")
    assert "\n" not in line
    assert "\r" not in line


# -- loggers ---------------------------------------------------------------------------------------


def test_without_a_logger_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), refusing() as url, relayed(url, max_retries=1) as front:
        front.fetch()
    assert [record for record in caplog.records if not record.name.startswith("uvicorn")] == []


def test_a_logger_above_info_is_not_asked_to_write() -> None:
    records = Records()
    records.logger.setLevel(logging.WARNING)
    with refusing() as url, relayed(url, logger=records.logger) as front:
        assert front.fetch().status == 502
    assert records.all == []


def test_a_logger_adapter_will_do() -> None:
    records = Records()
    adapter = logging.LoggerAdapter(records.logger, {})
    with refusing() as url, relayed(url, logger=adapter) as front:
        front.fetch()
    assert len(records.all) == 1
