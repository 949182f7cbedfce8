"""Active health: what a probe looks like, when it comes, and what it decides."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, Limits, Target, TargetChange

from .support import scripts
from .support.exchange import Gate
from .support.fleet import (
    PROBE_AGENT,
    asked,
    balanced,
    probed,
    state_of,
    status_of,
    upstreams,
)
from .support.upstream import Upstream
from .support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from .support.authority import Authority
    from .support.exchange import Exchange, Script
    from .support.front import Front

often: dict[str, Any] = {"interval": 0.05}


class Health:
    """A script whose probes are answered with `status`; everything else with `name`."""

    def __init__(self, name: str = "a", status: int = 200) -> None:
        self.name = name
        self.status = status

    def __call__(self, exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.value("user-agent") == PROBE_AGENT:
            exchange.respond(self.status)
        else:
            exchange.respond(body=self.name.encode())


def probe_of(path: str = "", base: str = "", **settings: Any) -> Any:
    """The first probe that an upstream gets."""
    check = HealthCheck(path, **settings) if path else HealthCheck(**settings)
    with upstreams(scripts.ok) as (a,):
        with balanced(a.url + base, health_check=check, upstream_prefix="/api") as front:
            front.fetch()
        return probed(a)[0]


def health_of(script: Script, **settings: Any) -> str:
    """What a first probe makes of an upstream."""
    with (
        upstreams(script) as (a,),
        balanced(a, health_check=HealthCheck(**settings)) as front,
    ):
        front.fetch()
        return state_of(front.relay, a)


# -- what is asked ---------------------------------------------------------------------------------


def test_a_probe_by_default() -> None:
    probe = probe_of()
    assert (probe.method, probe.target, probe.version) == (b"HEAD", b"/", b"HTTP/1.1")
    assert probe.values("host") == [probe.connection.upstream.authority.encode()]
    assert probe.values("user-agent") == [b"asgi-relay-health-check"]
    # A client's headers are no client's business here, and none is invented.
    names = {name.lower() for name, _ in probe.headers}
    assert names <= {b"host", b"user-agent", b"connection", b"accept"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_method_is_free(method: str) -> None:
    assert probe_of(method=method).line == f"{method} / HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("path", "base", "target"),
    [
        ("/health", "", b"/health"),
        ("/health", "/base", b"/base/health"),
        ("/health/", "/base/", b"/base/health/"),
        ("/a%2Fb?full=1", "", b"/a%2Fb?full=1"),
        ("/", "/base", b"/base/"),
    ],
)
def test_the_path_is_below_the_targets_own(path: str, base: str, target: bytes) -> None:
    """And not below `upstream_prefix`, which is for what clients ask."""
    assert probe_of(path, base).target == target


def test_the_headers_are_free() -> None:
    headers = {"Authorization": "Bearer s3cret", "X-Check": "ü", "User-Agent": "mine/1.0"}
    with upstreams(scripts.ok) as (a,):
        with balanced(a, health_check=HealthCheck(headers=headers)) as front:
            front.fetch()
        probe = a.requests[0]
    assert probe.values("authorization") == [b"Bearer s3cret"]
    assert probe.values("x-check") == ["ü".encode()]
    assert probe.values("user-agent") == [b"mine/1.0"]


def test_a_host_that_was_asked_for_is_sent() -> None:
    assert probe_of(headers={"Host": "health.test"}).values("host") == [b"health.test"]


def test_user_information_of_the_target_goes_along() -> None:
    with upstreams(scripts.ok) as (a,):
        url = a.url.replace("://", "://user:s3cret@")
        with balanced(url, health_check=HealthCheck()) as front:
            front.fetch()
        assert probed(a)[0].values("authorization") == [b"Basic dXNlcjpzM2NyZXQ="]


def test_a_target_may_have_a_check_of_its_own() -> None:
    with upstreams(scripts.ok, scripts.ok) as (a, b):
        own = Target(a.url, health_check=HealthCheck("/own", method="GET"))
        with balanced(own, b, health_check=HealthCheck("/common")) as front:
            front.fetch()
        assert probed(a)[0].line == b"GET /own HTTP/1.1"
        assert probed(b)[0].line == b"HEAD /common HTTP/1.1"


def test_only_a_target_with_a_check_is_checked() -> None:
    with upstreams(scripts.ok, scripts.ok) as (a, b):
        with balanced(Target(a.url, health_check=HealthCheck()), b) as front:
            front.fetch()
        assert len(probed(a)) == 1
        assert probed(b) == []


def test_over_tls(authority: Authority) -> None:
    with Upstream(scripts.ok, tls=authority.server()) as a:
        with balanced(a, health_check=HealthCheck(), verify=str(authority.pem)) as front:
            assert front.fetch().status == 200
        assert len(probed(a)) == 1
        # Whom nobody trusts, nobody is sent to.
        with balanced(a, health_check=HealthCheck()) as front:
            assert front.fetch().status == 503
            assert "TLSError" in status_of(front.relay, a)["last_error"]


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with Upstream(scripts.ok, unix=tmp_path / "a.sock") as a:
        with balanced(a, health_check=HealthCheck("/health")) as front:
            assert front.fetch().status == 200
        assert probed(a)[0].target == b"/health"


# -- what is healthy -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 302, 399])
def test_below_400_is_healthy(status: int) -> None:
    assert health_of(scripts.answer(status, body=b"")) == "healthy"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_from_400_on_is_not(status: int) -> None:
    assert health_of(scripts.answer(status, body=b"")) == "unhealthy"


def test_other_statuses_may_be_expected() -> None:
    assert health_of(scripts.answer(404), expected_statuses=[404]) == "healthy"
    assert health_of(scripts.answer(200), expected_statuses=[204, 404]) == "unhealthy"


@pytest.mark.parametrize(
    "script",
    [
        scripts.close,
        scripts.reset,
        scripts.say(b"nonsense\r\n\r\n"),
        scripts.header_bomb(),
        scripts.hang,
        scripts.say(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["fin", "rst", "garbage", "bomb", "hang", "interim"],
)
def test_whoever_does_not_answer_is_not(script: Script) -> None:
    assert health_of(script, timeout=0.4) == "unhealthy"


@pytest.mark.parametrize(
    "script",
    [scripts.answer(body=b"x" * 2_000_000), scripts.flood(20_000_000), scripts.stall()],
    ids=["long", "longer", "stalls"],
)
def test_the_body_of_an_answer_does_not_count(script: Script) -> None:
    """Its head said it; nobody waits for the rest, and nobody keeps it."""
    begin = time.monotonic()
    check = HealthCheck("/health", method="GET", timeout=60)
    with (
        upstreams(scripts.by_path({b"/health": script, b"/": scripts.ok})) as (a,),
        balanced(a, health_check=check) as front,
    ):
        assert front.fetch().status == 200
    assert time.monotonic() - begin < 20


# -- when ------------------------------------------------------------------------------------------


def test_the_interval_and_its_jitter() -> None:
    check = HealthCheck(interval=0.2, jitter=0.9)
    with upstreams(*[scripts.ok] * 10) as ten:
        with balanced(*ten, health_check=check) as front:
            front.fetch()
            for one in ten:
                wait_until(lambda one=one: len(probed(one)) >= 9, "probes")  # type: ignore[misc]
        gaps = [
            later.at - earlier.at
            for one in ten
            for earlier, later in itertools.pairwise(probed(one))
        ]
    assert min(gaps) >= 0.02 * 0.95, gaps
    # By default the interval is 10 seconds.
    assert sum(gaps) / len(gaps) < 2, gaps
    # No sleep ends early: without jitter none of them would be shorter than the interval. With it
    # about half of 80 are, and still a few on a machine that makes each of them 0.1 s longer.
    assert min(gaps) < 0.19, gaps


def test_all_targets_are_probed_at_once() -> None:
    gate = Gate()
    with (
        upstreams(*[scripts.gated(gate, scripts.ok)] * 5) as five,
        balanced(*five, health_check=HealthCheck()) as front,
        front.client() as client,
    ):
        client.start()
        # Each has its probe while none is answered.
        for one in five:
            one.wait_requests()
        gate.throw_open()
        assert client.read().status == 200


def test_a_probe_that_hangs_does_not_hold_up_the_others() -> None:
    check = HealthCheck("/health", interval=0.05, timeout=30)
    hanging = scripts.in_turn(scripts.ok, scripts.hang)
    slow = scripts.by_path({b"/health": hanging, b"/": scripts.ok})
    with (
        upstreams(slow, Health("b")) as (a, b),
        balanced(a, b, health_check=check) as front,
    ):
        front.fetch()
        a.wait_until(lambda: len(probed(a)) == 2, "the probe that hangs")
        seen = len(probed(b))
        b.wait_until(lambda: len(probed(b)) > seen + 3, "probes of the other")
        # One at a time: no second one is sent while the first is out.
        assert len(probed(a)) == 2


def test_probes_have_connections_of_their_own() -> None:
    """Neither `limits` nor `max_in_flight` are used up by probes, or hold them up."""
    gate = Gate()
    routes = {b"/": scripts.gated(gate, scripts.ok), b"/health": scripts.ok}
    settings = {"limits": Limits(max_connections=1), "max_in_flight": 1}
    with (
        upstreams(scripts.by_path(routes)) as (a,),
        balanced(a, health_check=HealthCheck("/health", **often), **settings) as front,
        front.client() as client,
    ):
        client.start()
        a.wait_until(lambda: len(asked(a)) == 1, "the request")
        seen = len(probed(a))
        a.wait_until(lambda: len(probed(a)) > seen + 3, "probes")
        assert state_of(front.relay, a) == "healthy"
        assert status_of(front.relay, a)["in_flight"] == 1
        gate.throw_open()
        assert client.read().status == 200
        assert status_of(front.relay, a)["requests"] == 1


# -- rise and fall ---------------------------------------------------------------------------------


def observed(front: Front, upstream: Upstream, wanted: str) -> None:
    wait_until(lambda: state_of(front.relay, upstream) == wanted, wanted)


@pytest.mark.parametrize(
    ("results", "settings", "change"),
    [
        ((200, 500, 500, 200, 500, 500, 500), {"fall": 3}, ("healthy", "unhealthy")),
        ((500, 200, 200, 500, 200, 200, 200), {"rise": 3}, ("unhealthy", "healthy")),
    ],
    ids=["fall", "rise"],
)
def test_it_takes_so_many_in_a_row(
    results: tuple[int, ...], settings: dict[str, Any], change: tuple[str, str]
) -> None:
    gate = Gate()
    # The first is answered at once. What comes behind the last makes it well or ill again: only
    # the seven can have brought the change about, however late it is heard of.
    after = {500: 200, 200: 500}[results[-1]]
    answers = [scripts.answer(status) for status in (*results, after)]
    health = scripts.in_turn(answers[0], *(scripts.gated(gate, one) for one in answers[1:]))
    script = scripts.by_path({b"/health": health, b"/": scripts.ok})
    counts: list[int] = []
    with upstreams(script) as (a,):

        def changed(told: TargetChange) -> None:
            if (told.before, told.after) == change:
                counts.append(len(probed(a)))

        check = HealthCheck("/health", interval=0.05, timeout=60, **settings)
        with balanced(a, health_check=check, on_target_change=changed) as front:
            assert front.fetch().status == (200 if change[0] == "healthy" else 503)
            gate.throw_open()
            wait_until(lambda: bool(counts), "the change")
    # The very first answer decided; after it, the seventh is the third in a row.
    assert counts[0] >= 7


def test_a_target_that_recovers_is_used_again() -> None:
    health = Health("a", 503)
    with upstreams(health, Health("b")) as (a, b):
        check = HealthCheck(**often, fall=1)
        with balanced(a, b, balance="round_robin", health_check=check) as front:
            assert {front.fetch().body for _ in range(4)} == {b"b"}
            health.status = 200
            observed(front, a, "healthy")
            assert {front.fetch().body for _ in range(2)} == {b"a", b"b"}
            health.status = 503
            observed(front, a, "unhealthy")
            assert {front.fetch().body for _ in range(4)} == {b"b"}
        assert len(asked(a)) == 1


def test_the_last_error_says_what_the_probe_found() -> None:
    health = Health("a", 503)
    with upstreams(health, scripts.close) as (a, b):
        headers = {"X-Key": "s3cret"}
        check = HealthCheck("/health?key=s3cret", headers=headers, **often)
        with balanced(a, b, health_check=check) as front:
            front.fetch()
            assert "503" in status_of(front.relay, a)["last_error"]
            assert status_of(front.relay, b)["last_error"]
            assert "s3cret" not in repr(front.relay.status())
