"""The fleet itself: its backends do what they are told, or the tests on them say nothing."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from asgi_relay import Relay

from .support.client import Client, TruncatedError, fetch
from .support.fleet import PROBE_AGENT, Backend, fleet, upstreams
from .support.load import Load


def test_a_backend_says_who_it_is_and_counts() -> None:
    with fleet("a") as (a,), Client(a.port) as client:
        assert client.request().body == b"a"
        assert client.request("PUT", body=b"body").body == b"a"
        client.start("POST", "/chunked", chunked=True)
        client.send_chunks([b"one", b"two"])
        assert client.read().body == b"a"
        assert client.request("HEAD").value("content-length") == b"1"
        client.request(headers=[("User-Agent", PROBE_AGENT)])
        assert (a.requests, a.probes, a.posted) == (4, 1, ["/chunked"])


def test_it_does_as_told() -> None:
    with fleet("a") as (a,), Client(a.port) as client:
        a.tell("status 503 Service Unavailable")
        assert client.request().status == 503
        a.tell("status 200 OK")
        a.tell("delay 0.2")
        begin = time.monotonic()
        assert client.request().status == 200
        assert time.monotonic() - begin >= 0.2
        a.tell("delay 0")
        a.tell("mute")
        client.start()
        a.tell("speak")
        assert client.read().body == b"a"
        assert a.tell("dance") == "unknown order dance"


def test_it_refuses_when_it_is_killed_and_accepts_again_on_the_same_port() -> None:
    with fleet("a") as (a,):
        url = a.url
        with Client(a.port) as client:
            client.request()
            a.kill()
            with pytest.raises((TruncatedError, ConnectionError)):
                client.request()
        with pytest.raises(ConnectionRefusedError):
            fetch(a.port)
        a.start()
        assert (fetch(a.port).body, a.url) == (b"a", url)


def test_it_accepts_and_does_not_answer_while_it_is_frozen() -> None:
    with fleet("a") as (a,):
        a.freeze()
        with Client(a.port, timeout=0.2) as client:
            with pytest.raises(TimeoutError):
                client.request()
            a.thaw()
            client.sock.settimeout(10)
            assert client.read_head().status == 200


def test_a_port_can_be_had_at_several_addresses() -> None:
    first = Backend("first")
    second = Backend("second", "127.0.0.2", first.port)
    try:
        second.start()
        with Client(second.port, "127.0.0.2") as client:
            assert client.request().body == b"second"
        with pytest.raises(ConnectionRefusedError):
            fetch(first.port)
    finally:
        first.close()
        second.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_load_tells_of_every_answer() -> None:

    with fleet("a") as (a,):
        async with Relay(a.url) as relay, Load(relay, 4) as load:
            await load.more(20)
            a.tell("status 500 Internal Server Error")
            await load.until(lambda: len(load.bad) >= 4, "errors")
        total = a.requests
    assert len(load.answers) == total
    assert load.bodies() == Counter(a=total)
    assert set(load.statuses) == {200, 500}
    assert all(answer.began <= answer.ended for answer in load.answers)


def test_scripted_upstreams_say_who_they_are() -> None:
    with upstreams("a", "b") as (a, b):
        assert [fetch(one.port).body for one in (a, b)] == [b"a", b"b"]
