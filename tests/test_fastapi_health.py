"""`HealthChecker`: what it asks, what it makes of the answers, and what it will not take."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from asgi_relay.fastapi import HealthChecker

from .support import scripts
from .support.tidy import Tidy
from .support.upstream import Upstream, refusing
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support.exchange import Exchange

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("unowned")]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what a check finds; nothing tells of it."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is no event
            await anyio.sleep(0.01)


async def test_it_asks_at_once_and_knows_the_dead(anyio_backend: Any) -> None:
    with (
        refusing() as dead,
        Upstream(scripts.ok) as well,
        Upstream(scripts.answer(302)) as moved,
        Upstream(scripts.answer(404)) as missing,
        Upstream(scripts.answer(500)) as ill,
    ):
        checker = HealthChecker([dead, well.url, moved.url, missing.url, ill.url])
        assert checker.get_healthy_targets() == []
        assert checker.status == dict.fromkeys(checker.targets, False)
        async with checker:
            assert checker.get_healthy_targets() == [well.url, moved.url]
            assert sorted(checker.get_response_times()) == sorted([well.url, moved.url])
            assert all(0 < ms < 10_000 for ms in checker.get_response_times().values())
            assert {url for url, state in checker.status.items() if state is False} == {
                dead,
                missing.url,
                ill.url,
            }
            assert checker.is_healthy(well.url)
            assert checker.is_healthy(well.url + "/")
            assert not checker.is_healthy(dead)
            assert not checker.is_healthy("http://another.example")
        (probe,) = well.requests
        assert probe.line == b"HEAD / HTTP/1.1"
        assert probe.value("host") == well.authority.encode()


async def test_one_that_does_not_answer_in_time_is_not_healthy(anyio_backend: Any) -> None:
    with Upstream(scripts.hang) as frozen, Upstream(scripts.ok) as well:
        async with HealthChecker([frozen.url, well.url], timeout=1.5) as checker:
            assert checker.get_healthy_targets() == [well.url]


async def test_the_fastest_is_told(anyio_backend: Any) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(1.2)
        exchange.respond()

    with Upstream(slow) as late, Upstream(scripts.ok) as early:
        checker = HealthChecker([late.url, early.url])
        assert checker.get_fastest() is None
        async with checker:
            assert checker.get_fastest() == early.url
            assert checker.get_response_times()[late.url] >= 1200


async def test_it_asks_again_and_notices_what_has_changed(anyio_backend: Any) -> None:
    answers = {"status": 200}

    def script(exchange: Exchange) -> None:
        exchange.respond(answers["status"])

    with Upstream(script) as upstream:
        async with HealthChecker([upstream.url], interval=0.05) as checker:
            assert checker.is_healthy(upstream.url)
            answers["status"] = 503
            await eventually(lambda: not checker.is_healthy(upstream.url))
            answers["status"] = 200
            await eventually(lambda: checker.is_healthy(upstream.url))
        await anyio.to_thread.run_sync(upstream.settle)
        asked = len(upstream.requests)
        await anyio.sleep(0.2)
        assert len(upstream.requests) == asked


async def test_check_all_asks_now(anyio_backend: Any) -> None:
    with Upstream(scripts.in_turn(scripts.ok, scripts.answer(500))) as upstream:
        async with HealthChecker([upstream.url], interval=3600) as checker:
            before = checker.last_update
            assert checker.is_healthy(upstream.url)
            await checker.check_all()
            assert not checker.is_healthy(upstream.url)
            assert checker.last_update > before
            assert len(upstream.requests) == 2


async def test_each_target_may_have_its_path(anyio_backend: Any) -> None:
    with Upstream(scripts.ok) as one, Upstream(scripts.ok) as two:
        first = {"host": one.url, "pingpath": "/v1/status", "maxrequests": 100}
        targets: list[dict[str, Any]] = [first, {"host": two.url}]
        checker = HealthChecker(targets)
        with pytest.raises(RuntimeError, match="ping_path"):
            _ = checker.ping_path
        with pytest.raises(RuntimeError, match="ping_path"):
            checker.ping_path = "/x"
        assert checker.target_configs[one.url]["maxrequests"] == 100
        async with checker:
            assert checker.get_healthy_targets() == [one.url, two.url]
        assert [upstream.requests[0].target for upstream in (one, two)] == [b"/v1/status", b"/"]


async def test_the_common_path_can_be_set(anyio_backend: Any) -> None:
    script = scripts.by_path({b"/health": scripts.ok, b"/new": scripts.ok})
    with Upstream(script) as upstream:
        checker = HealthChecker([upstream.url], ping_path="health", interval=3600)
        assert checker.ping_path == "health"
        async with checker:
            assert checker.is_healthy(upstream.url)
            checker.ping_path = "/gone"
            await checker.check_all()
            assert not checker.is_healthy(upstream.url)
            checker.ping_path = "/new"
            await checker.start()
            assert checker.is_healthy(upstream.url)
        assert b"/new" in [one.target for one in upstream.requests]
        checker.ping_path = "/health"
        async with checker:
            assert checker.is_healthy(upstream.url)
        # The start has asked it, and nobody asks twice.
        assert [one.target for one in upstream.requests].count(b"/health") == 2


@pytest.mark.parametrize("path", ["/a b", "/#", "/\x7f", "/" + 65_534 * "x", 5])
async def test_a_common_path_that_is_refused_changes_nothing(anyio_backend: Any, path: Any) -> None:
    with Upstream(scripts.ok) as upstream:
        checker = HealthChecker([upstream.url], ping_path="/health", interval=3600)
        async with checker:
            with pytest.raises((TypeError, ValueError), match="path"):
                checker.ping_path = path
            assert checker.ping_path == "/health"
            assert checker.is_healthy(upstream.url)
            await checker.check_all()
        assert [request.target for request in upstream.requests] == [b"/health"] * 2


async def test_it_starts_and_stops_repeatedly_and_leaves_nothing(anyio_backend: Any) -> None:
    with Upstream(scripts.ok) as upstream:
        tidy = await Tidy.look_around()
        checker = HealthChecker([upstream.url], interval=3600)
        for _ in range(2):
            await checker.start()
            await checker.start()
            assert checker.get_healthy_targets() == [upstream.url]
            await checker.stop()
            await checker.destroy()
        assert len(upstream.requests) == 2
        for connection in upstream.connections:
            await anyio.to_thread.run_sync(connection.wait_done)
        await tidy.check()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"targets": []}, ValueError, "targets"),
        ({"targets": "http://a"}, TypeError, "targets"),
        ({"targets": [5]}, TypeError, r"targets\[0\]"),
        ({"targets": ["http://a", {"host": "http://b"}]}, TypeError, r"targets\[1\]"),
        ({"targets": [{"host": "http://a"}, "http://b"]}, TypeError, r"targets\[1\]"),
        ({"targets": [{"pingpath": "/"}]}, KeyError, r"targets\[0\]"),
        ({"targets": [{"host": "a"}, {"host": 5}]}, TypeError, r"targets\[1\]: host: "),
        (
            {"targets": [{"host": "a", "maxrequests": "9"}]},
            TypeError,
            r"targets\[0\]: maxrequests: ",
        ),
        (
            {"targets": [{"host": "a", "maxrequests": -1}]},
            ValueError,
            r"targets\[0\]: maxrequests: ",
        ),
        ({"targets": [{"host": "a", "pingpath": 5}]}, TypeError, r"targets\[0\]: pingpath: "),
        ({"targets": [{"host": "a", "pingpath": " "}]}, ValueError, r"targets\[0\]: pingpath: "),
        ({"targets": ["http://a", "http://a"]}, ValueError, "targets: http://a"),
        ({"targets": ["http://a", "https://b"]}, ValueError, "targets: https://b"),
        ({"targets": ["a", "ftp://a"]}, ValueError, r"targets\[1\]: .*ftp"),
        ({"targets": ["http://a"], "ping_path": 5}, TypeError, "ping_path: "),
        ({"targets": ["http://a"], "ping_path": "/ "}, ValueError, "ping_path: "),
        ({"targets": ["http://a"], "interval": 0}, ValueError, "interval: "),
        ({"targets": ["http://a"], "timeout": "1"}, TypeError, "timeout: "),
        ({"targets": ["http://a"], "max_retries": -1}, ValueError, "max_retries: "),
        ({"targets": ["http://a"], "unknown": 1}, TypeError, ".*unknown"),
    ],
)
async def test_what_is_wrong_is_named(
    arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error) as raised:
        HealthChecker(**arguments)
    # The str of a KeyError is quoted.
    assert re.match(named, raised.value.args[0])
