"""`relay.status()`: what is known of each target, as plain data, and its numbers.

When it may be asked for is in test_targets_lifecycle.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import HealthCheck, Relay, Target

from .support import scripts
from .support.exchange import Gate
from .support.fleet import balanced, status_of, upstreams
from .support.front import patience
from .support.upstream import refusing
from .support.waiting import wait_until

if TYPE_CHECKING:
    from .support.exchange import Script

FRESH = {
    "state": "healthy",
    "latency_ms": None,
    "in_flight": 0,
    "requests": 0,
    "failures": 0,
    "last_error": None,
}

plain: dict[str, Any] = {"balance": "round_robin", "passive_health": None}


# -- its shape -------------------------------------------------------------------------------------


def test_before_anything_has_happened() -> None:
    relay = Relay(["http://a.test:8000", "http://b.test/base"])
    assert relay.status() == {"targets": {"http://a.test:8000": FRESH, "http://b.test/base": FRESH}}


def test_one_upstream_alone_has_one_too() -> None:
    assert Relay("http://a.test").status() == {"targets": {"http://a.test": FRESH}}


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://a.test:8000/", "http://a.test:8000"),
        ("http://a.test:80/base/", "http://a.test/base"),
        ("HTTP://A.Test", "http://a.test"),
        ("ws://a.test:8000", "http://a.test:8000"),
        ("https://a.test:443", "https://a.test"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://user:s3cret@a.test:8000/base", "http://a.test:8000/base"),
        ("http+unix://%2Frun%2Fa.sock/base", "http+unix://%2Frun%2Fa.sock/base"),
    ],
)
def test_a_target_is_named_as_a_repr_does(url: str, key: str) -> None:
    relay = Relay(url)
    assert list(relay.targets) == list(relay.status()["targets"])
    (found,) = relay.targets
    assert found.rstrip("/") == key.rstrip("/")
    assert found in repr(relay)


def test_a_weight_of_0_is_draining_and_a_check_that_is_to_come_is_not_healthy_yet() -> None:
    check = HealthCheck()
    relay = Relay(
        ["http://a", Target("http://b", weight=0), Target("http://c", health_check=check)]
    )
    states = [target["state"] for target in relay.status()["targets"].values()]
    assert states == ["healthy", "draining", "unhealthy"]


def test_it_is_a_copy() -> None:
    relay = Relay("http://a.test")
    relay.status()["targets"].clear()
    relay.status()["targets"]["http://a.test"]["requests"] = 5
    assert relay.status() == {"targets": {"http://a.test": FRESH}}
    json.dumps(relay.status())


# -- its numbers -----------------------------------------------------------------------------------


def test_after_some_requests() -> None:
    with upstreams("a", "b") as (a, b), balanced(a, b, **plain) as front:
        for _ in range(10):
            front.fetch()
        for one in (a, b):
            status = status_of(front.relay, one)
            latency = status.pop("latency_ms")
            assert isinstance(latency, float)
            assert 0 < latency < 10_000
            assert status == {key: FRESH[key] for key in status} | {"requests": 5}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (scripts.answer(500), "500"),
        (scripts.answer(503), "503"),
        (scripts.close, "RemoteProtocolError"),
        (scripts.reset, "ReadError"),
        (scripts.say(b"nonsense\r\n\r\n"), "RemoteProtocolError"),
        (scripts.hang, "ReadTimeout"),
    ],
    ids=["500", "503", "fin", "rst", "garbage", "timeout"],
)
def test_a_failure_is_counted_and_told(script: Script, said: str) -> None:
    with upstreams(script) as (a,), balanced(a, **plain, timeout=patience(script)) as front:
        front.fetch(method="POST", body=b"x")
        status = status_of(front.relay, a)
    assert (status["requests"], status["failures"], status["in_flight"]) == (1, 1, 0)
    assert said in status["last_error"]


def test_a_failure_to_connect_is_told_without_a_secret() -> None:
    with refusing() as url:
        secret = url.replace("://", "://user:s3cret@")
        headers = [("Authorization", "s3cret"), ("Cookie", "s3cret")]
        with balanced(secret, extra_request_headers={"X-Key": "s3cret"}) as front:
            front.fetch("/x?key=s3cret", headers=headers)
            status = status_of(front.relay, url)
            assert "s3cret" not in repr(front.relay.status())
    assert status["last_error"].startswith("ConnectError")
    assert (status["requests"], status["failures"]) == (1, 1)


def test_the_last_error_is_the_last_one() -> None:
    script = scripts.in_turn(scripts.answer(500), scripts.ok, scripts.answer(502), scripts.ok)
    with upstreams(script) as (a,), balanced(a, **plain) as front:
        for said in ("500", "500", "502", "502"):
            front.fetch()
            # It stays when all is well again: that it was is what one wants to know then.
            assert said in status_of(front.relay, a)["last_error"]


def test_an_answer_of_another_kind_is_no_failure() -> None:
    with upstreams(scripts.answer(404)) as (a,), balanced(a, **plain) as front:
        front.fetch()
        assert status_of(front.relay, a)["failures"] == 0
        assert status_of(front.relay, a)["last_error"] is None


def test_each_try_is_a_request() -> None:
    settings = {**plain, "max_retries": 2, "retry_backoff_factor": 0}
    with upstreams(scripts.answer(503)) as (a,), balanced(a, **settings) as front:
        front.fetch()
        assert status_of(front.relay, a)["requests"] == 3
        assert status_of(front.relay, a)["failures"] == 3


def test_a_stream_is_in_flight_while_it_is_open() -> None:
    gate = Gate()
    with (
        upstreams(scripts.drip(gate, [b"one"])) as (a,),
        balanced(a) as front,
        front.client() as client,
        front.client() as other,
    ):
        client.start()
        other.start()
        response = client.read_head()
        other.read_head()
        assert status_of(front.relay, a)["in_flight"] == 2
        gate.throw_open()
        assert b"".join(piece.data for piece in client.pieces(response)) == b"one"
        other.close()
        wait_until(lambda: status_of(front.relay, a)["in_flight"] == 0, "the end")


def test_the_latency_is_of_the_first_octet() -> None:
    gate = Gate()

    def slow_body(exchange: Any) -> None:
        exchange.start()
        exchange.chunk(b"x")
        exchange.wait(gate)
        exchange.end()

    with upstreams(slow_body) as (a,), balanced(a) as front, front.client() as client:
        client.start()
        client.read_head()
        wait_until(lambda: status_of(front.relay, a)["latency_ms"] is not None, "the latency")
        gate.throw_open()


def test_probes_give_a_latency_and_are_no_requests() -> None:
    with (
        upstreams("a") as (a,),
        balanced(a, health_check=HealthCheck()) as front,
    ):
        front.fetch()
        status = status_of(front.relay, a)
    assert status["latency_ms"] > 0
    assert status["requests"] == 1
