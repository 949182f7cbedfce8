"""What several upstreams put on `logger`: one line for each event, and never a secret."""

from __future__ import annotations

import logging
from typing import Any

from asgi_relay import HealthCheck, PassiveHealth, Timeout

from .support import scripts
from .support.fleet import balanced, state_of, upstreams
from .support.records import Records
from .support.upstream import refusing
from .support.waiting import wait_until
from .support.websocket import WebSocketClient

SECRET = "s3cret"


def events(records: Records, name: str = "") -> list[logging.LogRecord]:
    """The records of one event, or of all."""
    return [one for one in records.all if name in ("", one.__dict__["event"])]


def test_no_healthy_target_is_one_line_for_each_request() -> None:
    records = Records()
    settings = {"logger": records.logger, "health_check": HealthCheck(interval=60)}
    with (
        refusing() as one,
        refusing() as other,
        balanced(one, other, **settings) as front,
    ):
        for _ in range(2):
            assert front.fetch(f"/x?key={SECRET}").status == 503
    found = events(records, "upstream_unavailable")
    assert len(found) == 2
    for record in found:
        assert record.levelno == logging.INFO
        line = record.getMessage()
        assert line.startswith("reverse_proxy.upstream_unavailable ")
        assert "\n" not in line
        assert "NoHealthyTarget" in record.__dict__["error"]
    assert SECRET not in repr([vars(record) for record in records.all])
    # Nothing was tried, so nothing else is told of the requests.
    names = {record.__dict__["event"] for record in records.all}
    assert names <= {"upstream_unavailable", "target_changed"}


def test_so_is_a_target_without_room() -> None:
    records = Records()
    settings = {"logger": records.logger, "max_in_flight": 1, "queue_timeout": 0}
    with (
        upstreams(scripts.hang) as (a,),
        balanced(a, **settings) as front,
        front.client() as client,
    ):
        client.start()
        a.wait_requests()
        assert front.fetch().status == 503
        (record,) = events(records)
    assert record.getMessage().startswith("reverse_proxy.upstream_unavailable ")
    assert "TargetsBusy" in record.__dict__["error"]


def test_so_is_a_web_socket_that_finds_nobody() -> None:
    records = Records()
    settings = {"logger": records.logger, "health_check": HealthCheck(interval=60)}
    with (
        refusing() as url,
        balanced(url, **settings) as front,
        WebSocketClient(front.port) as client,
    ):
        assert client.shake(f"/x?key={SECRET}").status == 503
    assert len(events(records, "upstream_unavailable")) == 1
    assert SECRET not in repr([vars(record) for record in records.all])


def test_each_try_names_the_target_that_it_went_to() -> None:
    records = Records()
    settings: dict[str, Any] = {"balance": "round_robin", "max_retries": 1}
    unavailable = scripts.answer(503)
    with upstreams(unavailable, unavailable) as (a, b):
        with balanced(f"{a.url}/base", b, logger=records.logger, **settings) as front:
            front.fetch("/x")
        urls = {f"{a.url}/base/x", f"{b.url}/x"}
    found = events(records, "upstream_retryable_status")
    assert {record.__dict__["url"] for record in found} == urls
    assert [record.__dict__["attempt"] for record in found] == [1, 2]


def test_each_change_of_a_target_is_one_line() -> None:
    records = Records()
    passive = PassiveHealth(consecutive_failures=2, eject_time=60)
    with upstreams(scripts.answer(500), "b") as (a, b):
        user = a.url.replace("://", f"://user:{SECRET}@")
        other = b.url.replace("://", f"://user:{SECRET}@")
        settings = {"balance": "round_robin", "passive_health": passive}
        with balanced(user, other, logger=records.logger, **settings) as front:
            while state_of(front.relay, a) != "ejected":
                front.fetch()
            wait_until(lambda: bool(events(records, "target_changed")), "the line")
        (record,) = events(records, "target_changed")
        expected = f"url='{a.url}' before='healthy' after='ejected'"
    assert record.getMessage() == f"reverse_proxy.target_changed {expected}"
    assert SECRET not in repr([vars(record) for record in records.all])


def test_what_goes_well_is_not_logged() -> None:
    records = Records()
    with (
        upstreams("a", "b") as two,
        balanced(*two, logger=records.logger, timeout=Timeout(5)) as front,
    ):
        for _ in range(6):
            front.fetch()
    assert records.all == []
