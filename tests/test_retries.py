"""What is tried again, how often and when; and what must not be.

Which failures are is in test_retry_exceptions, bodies that are sent again are in test_replay, the
race with a connection that closes is in test_keepalive.
"""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Limits, Relay, Timeout

from .support import scripts
from .support.apps import FRAMEWORKS, mount
from .support.client import fetch
from .support.front import relayed
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import AT_ONCE

if TYPE_CHECKING:
    from pathlib import Path

    from .support.exchange import Script

IDEMPOTENT = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]
OTHERS = ["POST", "PATCH", "PURGE", "LOCK"]

unavailable = scripts.answer(503, [("Retry-After", "7")], b"come back later")
at_once: dict[str, Any] = {"retry_backoff_factor": 0}


# -- statuses and counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lilya_defect_an_upstream_503_is_a_503_in_every_framework(framework: str) -> None:
    """Lilya makes it a 500."""
    with Upstream(unavailable) as upstream:
        app = mount(framework, "/auth", Relay(upstream.url))
        with serve(app) as server:
            response = fetch(server.port, "/auth/login")
    assert (response.status, response.body) == (503, b"come back later")
    assert response.value("retry-after") == b"7"


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_retryable_status_is_tried_max_retries_times_more_and_then_arrives_whole(
    retries: int,
) -> None:
    with Upstream(unavailable) as upstream:
        with relayed(upstream.url, max_retries=retries, **at_once) as front:
            response = front.fetch()
        assert len(upstream.requests) == retries + 1
    assert (response.status, response.body) == (503, b"come back later")
    assert response.value("retry-after") == b"7"
    assert response.value("content-length") == b"15"


def test_the_first_good_answer_is_the_answer() -> None:
    script = scripts.in_turn(unavailable, unavailable, scripts.ok, unavailable)
    with Upstream(script) as upstream:
        with relayed(upstream.url, max_retries=5, **at_once) as front:
            response = front.fetch()
        assert len(upstream.requests) == 3
    assert (response.status, response.body) == (200, b"ok")
    assert response.value("retry-after") is None


@pytest.mark.parametrize(("status", "tries"), [(502, 2), (503, 2), (504, 2)])
def test_502_503_and_504_are_tried_again(status: int, tries: int) -> None:
    assert count_tries(scripts.answer(status), status) == tries


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 408, 425, 429, 500, 501, 505])
def test_no_other_status_is_tried_again(status: int) -> None:
    assert count_tries(scripts.answer(status, body=b""), status) == 1


def test_retry_statuses_replaces_the_default() -> None:
    assert count_tries(scripts.answer(429), 429, retry_statuses=[429]) == 2
    assert count_tries(scripts.answer(503), 503, retry_statuses=[429]) == 1
    assert count_tries(scripts.answer(503), 503, retry_statuses=()) == 1


def test_a_retryable_answer_with_a_long_body_arrives_whole() -> None:
    body = b"x" * 3_000_000
    with Upstream(scripts.answer(503, body=body)) as upstream:
        with relayed(upstream.url, max_retries=1, **at_once) as front:
            response = front.fetch()
        assert len(upstream.requests) == 2
    assert (response.status, response.body) == (503, body)


def test_a_retryable_answer_that_stalls_does_not_hold_the_retry_up() -> None:
    def stall(exchange: Any) -> None:
        exchange.start(503, length=100)
        exchange.hang()

    with Upstream(scripts.in_turn(stall, scripts.ok)) as upstream:
        settings = {"timeout": Timeout(read=60), **at_once}
        with relayed(upstream.url, max_retries=1, **settings) as front:
            begin = time.monotonic()
            assert front.fetch().body == b"ok"
            assert time.monotonic() - begin < AT_ONCE
        upstream.connections[0].wait_closed()


# -- waiting ---------------------------------------------------------------------------------------


def test_the_waits_double_from_the_factor() -> None:
    with Upstream(unavailable) as upstream:
        with relayed(upstream.url, max_retries=3, retry_backoff_factor=0.1) as front:
            front.fetch()
        times = [request.at for request in upstream.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 3
    for gap, expected in zip(gaps, [0.1, 0.2, 0.4], strict=True):
        assert expected * 0.98 <= gap < expected + AT_ONCE


def test_the_default_factor_is_a_fifth_of_a_second() -> None:
    with Upstream(scripts.in_turn(unavailable, scripts.ok)) as upstream:
        with relayed(upstream.url, max_retries=1) as front:
            front.fetch()
        gap = upstream.requests[1].at - upstream.requests[0].at
    assert 0.196 <= gap < AT_ONCE


def test_a_factor_of_0_waits_for_nothing() -> None:
    with Upstream(unavailable) as upstream:
        with relayed(upstream.url, max_retries=10, **at_once) as front:
            begin = time.monotonic()
            front.fetch()
            # With the default factor it would be more than three minutes.
            assert time.monotonic() - begin < AT_ONCE
        assert len(upstream.requests) == 11


def test_a_wait_holds_no_connection() -> None:
    limits = Limits(max_connections=1)
    routes = {b"/busy": scripts.in_turn(unavailable, scripts.ok), b"/other": scripts.ok}
    with (
        Upstream(scripts.by_path(routes)) as upstream,
        relayed(upstream.url, max_retries=1, retry_backoff_factor=3, limits=limits) as front,
        front.client() as busy,
    ):
        busy.start("GET", "/busy")
        upstream.wait_requests()
        assert front.fetch("/other").body == b"ok"
        assert busy.read().body == b"ok"
        assert [request.target for request in upstream.requests] == [b"/busy", b"/other", b"/busy"]


def test_a_client_that_leaves_while_it_waits_is_not_tried_again() -> None:
    with (
        Upstream(unavailable) as upstream,
        relayed(upstream.url, max_retries=1, retry_backoff_factor=2) as front,
    ):
        with front.client() as client:
            client.start()
            upstream.wait_requests()
        # Its connection goes with it, or stays idle; either way nothing more comes.
        time.sleep(2.5)
        assert len(upstream.requests) == 1


# -- methods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_a_status_is_tried_again_for_idempotent_methods(method: str) -> None:
    assert count_tries(unavailable, 503, method=method) == 2


@pytest.mark.parametrize("method", OTHERS)
def test_a_status_is_not_tried_again_for_other_methods(method: str) -> None:
    assert count_tries(unavailable, 503, method=method) == 1


@pytest.mark.parametrize("method", OTHERS)
def test_with_retry_non_idempotent_it_is(method: str) -> None:
    assert count_tries(unavailable, 503, method=method, retry_non_idempotent=True) == 2


def test_lilya_defect_a_read_timeout_does_not_repeat_a_post() -> None:
    """Lilya sends it again, although the upstream may have acted on it."""
    settings: dict[str, Any] = {"timeout": Timeout(read=0.4)}
    assert count_tries(scripts.hang, 504, method="POST", **settings) == 1
    assert count_tries(scripts.hang, 504, method="GET", **settings) == 2
    settings["retry_non_idempotent"] = True
    assert count_tries(scripts.hang, 504, method="POST", **settings) == 2


@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
def test_a_failure_to_connect_is_tried_again_for_every_method(method: str, tmp_path: Path) -> None:
    """The upstream comes up between the first try and the second."""
    path = tmp_path / "up.sock"
    upstream = Upstream(scripts.echo, unix=tmp_path / "down.sock")
    url = upstream.url.replace("down.sock", "up.sock")

    class Starter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.__dict__["event"] == "upstream_retryable_error"
            if not path.exists():
                (tmp_path / "down.sock").rename(path)

    logger = logging.Logger("starter")
    logger.addHandler(Starter())
    settings = {"max_retries": 2, "retry_backoff_factor": 0.1, "logger": logger}
    with upstream, relayed(url, **settings) as front:
        response = front.fetch(method=method, body=b"body")
        assert len(upstream.requests) == 1
        assert upstream.requests[0].body == b"body"
    assert response.status == 200


# -- what is sent again ----------------------------------------------------------------------------


def test_a_retry_sends_the_same_octets() -> None:
    settings = {"extra_request_headers": {"X-Key": "k"}, **at_once}
    with Upstream(unavailable) as upstream:
        with relayed(upstream.url, max_retries=2, **settings) as front:
            front.fetch("/a%2Fb?c", headers=[("X-Forwarded-For", "192.0.2.1"), ("Cookie", "a=b")])
        raw = {request.raw for request in upstream.requests}
        assert len(upstream.requests) == 3
        assert len(raw) == 1


def count_tries(script: Script, status: int, *, method: str = "GET", **settings: Any) -> int:
    """How many requests the upstream gets with one retry allowed."""
    with Upstream(script) as upstream:
        with relayed(upstream.url, max_retries=1, **at_once, **settings) as front:
            assert front.fetch(method=method).status == status
        upstream.settle()
        return len(upstream.requests)
