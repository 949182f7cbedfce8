"""gRPC's own client and server with the gateway between: calls, streams, statuses, cancelling."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

# Tests in this process fork, and none of the children speaks gRPC.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
import grpc

from .support.gateway import configured
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.authority import Authority
    from .support.gateway import Gateway

BIG = bytes(range(256)) * 4 * 3000
"""Nearly as large as gRPC lets a message be."""

LOCAL = [("grpc.enable_http_proxy", 0)]


class Service(grpc.GenericRpcHandler):
    """Its messages are octets, so no code has to be generated."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.gate = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        """Released by each call that waits for the gate."""

    def service(self, details: Any) -> Any:
        return {
            "/test.Service/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/test.Service/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test.Service/Late": grpc.unary_unary_rpc_method_handler(self.late),
            "/test.Service/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "/test.Service/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/test.Service/Break": grpc.unary_stream_rpc_method_handler(self.break_off),
            "/test.Service/Join": grpc.stream_unary_rpc_method_handler(self.join),
            "/test.Service/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }.get(details.method)

    def echo(self, request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-first", str(metadata.get("x-mine")))])
        context.set_trailing_metadata([("x-last", "done"), ("x-last-bin", b"\0\xff")])
        return request

    def fail(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata([("x-why", "because")])
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing called “ä” is here")
        raise AssertionError

    def late(self, request: bytes, context: Any) -> bytes:
        """Answers when the gate is opened."""
        self.waiting.release()
        return request if self.gate.acquire(timeout=PATIENCE) else b""

    def wait(self, request: bytes, context: Any) -> bytes:
        """Answers when the call is over, which nobody hears."""
        context.add_callback(self.ended.set)
        self.began.set()
        self.ended.wait(PATIENCE)
        return b""

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        """A message each time the gate is opened."""
        context.add_callback(self.ended.set)
        self.waiting.release()
        for number in range(int(request)):
            while not self.gate.acquire(timeout=0.05):
                if not context.is_active():
                    return
            yield b"%d" % number

    def break_off(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()


class Calls:
    """A channel through the gateway, and the service at its end."""

    def __init__(self, channel: Any, service: Service, gateway: Gateway) -> None:
        self.service = service
        self.gateway = gateway
        self.late = channel.unary_unary("/test.Service/Late")
        self.echo = channel.unary_unary("/test.Service/Echo")
        self.fail = channel.unary_unary("/test.Service/Fail")
        self.wait = channel.unary_unary("/test.Service/Wait")
        self.dead = channel.unary_unary("/test.Dead/Echo")
        self.unknown = channel.unary_unary("/test.Service/Unknown")
        self.count = channel.unary_stream("/test.Service/Count")
        self.break_off = channel.unary_stream("/test.Service/Break")
        self.join = channel.stream_unary("/test.Service/Join")
        self.chat = channel.stream_stream("/test.Service/Chat")


@contextlib.contextmanager
def through(authority: Authority, folder: Path, *, secure: bool) -> Iterator[Calls]:
    """A server and a channel to it through a gateway, with TLS on both its sides or on none."""
    service = Service()
    issued = authority.certificate("127.0.0.1")
    sections: dict[str, Any] = {}
    with ThreadPoolExecutor(32) as pool:
        server = grpc.server(pool, [service])
        if secure:
            pair = [(issued.key.read_bytes(), issued.chain.read_bytes())]
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
            route = {"targets": f"https://127.0.0.1:{port}", "tls": {"ca_file": str(authority.pem)}}
            files = {"cert_file": str(issued.chain), "key_file": str(issued.key)}
            sections["ssl"] = {"enabled": True, **files}
        else:
            port = server.add_insecure_port("127.0.0.1:0")
            route = {"targets": f"http://127.0.0.1:{port}", "http2": "always"}
        server.start()
        dead = {"path": "/test.Dead", "targets": "http://127.0.0.1:1", "http2": "always"}
        with configured(folder, [route, dead], **sections) as gateway:
            to = f"127.0.0.1:{gateway.port}"
            if secure:
                trust = grpc.ssl_channel_credentials(authority.pem.read_bytes())
                channel = grpc.secure_channel(to, trust, LOCAL)
            else:
                channel = grpc.insecure_channel(to, LOCAL)
            with channel:
                yield Calls(channel, service, gateway)
        server.stop(None).wait()


@pytest.fixture(scope="module", params=["h2c", "tls"])
def opened(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Calls]:
    folder = tmp_path_factory.mktemp("gateway")
    with through(authority, folder, secure=request.param == "tls") as calls:
        yield calls


@pytest.fixture
def calls(opened: Calls) -> Calls:
    opened.service.began.clear()
    opened.service.ended.clear()
    return opened


def test_a_unary_call_with_metadata(calls: Calls) -> None:
    metadata = (("x-mine", "mine"), ("x-more-bin", b"\1\2"))
    answer, call = calls.echo.with_call(b"hello", timeout=PATIENCE, metadata=metadata)
    assert answer == b"hello"
    assert call.code() is grpc.StatusCode.OK
    assert ("x-first", "mine") in call.initial_metadata()
    assert {("x-last", "done"), ("x-last-bin", b"\0\xff")} <= set(call.trailing_metadata())
    assert calls.echo(BIG, timeout=PATIENCE) == BIG


def test_a_failed_call_has_its_status(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        calls.fail(b"", timeout=PATIENCE)
    error: Any = failed.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "nothing called “ä” is here"
    assert ("x-why", "because") in error.trailing_metadata()
    with pytest.raises(grpc.RpcError) as failed:
        calls.unknown(b"", timeout=PATIENCE)
    error = failed.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as failed:
        calls.dead(b"", timeout=PATIENCE)
    error = failed.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_messages_of_a_stream_come_one_by_one(calls: Calls) -> None:
    stream = calls.count(b"3", timeout=PATIENCE)
    for number in (b"0", b"1", b"2"):
        calls.service.gate.release()
        assert next(stream) == number
    assert list(stream) == []
    assert stream.code() is grpc.StatusCode.OK


def test_a_stream_that_breaks_off_says_why(calls: Calls) -> None:
    stream = calls.break_off(b"", timeout=PATIENCE)
    assert [next(stream), next(stream)] == [b"1", b"2"]
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert (stream.code(), stream.details()) == (grpc.StatusCode.DATA_LOSS, "the rest is gone")


def test_a_stream_of_requests(calls: Calls) -> None:
    parts = [b"%d " % number * 1000 for number in range(200)]
    assert calls.join(iter(parts), timeout=PATIENCE) == b"".join(parts)


def test_both_sides_talk_at_once(calls: Calls) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    heard = calls.chat(iter(said.get, None), timeout=PATIENCE)
    for number in range(50):
        # Each is said only when the answer to the one before it has been heard.
        said.put(b"number %d" % number)
        assert next(heard) == b"NUMBER %d" % number
    said.put(None)
    assert list(heard) == []


def test_many_calls_share_connections(calls: Calls) -> None:
    bodies = [b"%d" % number * 500 for number in range(200)]
    futures = [calls.echo.future(body, timeout=PATIENCE) for body in bodies]
    assert [future.result() for future in futures] == bodies


def test_a_cancelled_call_is_cancelled_upstream(calls: Calls) -> None:
    call = calls.wait.future(b"", timeout=PATIENCE)
    assert calls.service.began.wait(PATIENCE)
    assert call.cancel()
    assert calls.service.ended.wait(PATIENCE)


def test_a_cancelled_stream_is_cancelled_upstream(calls: Calls) -> None:
    stream = calls.count(b"1000", timeout=PATIENCE)
    calls.service.gate.release()
    next(stream)
    stream.cancel()
    assert calls.service.ended.wait(PATIENCE)


def test_a_deadline(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        # Long enough to reach the service, which is what sees the end.
        calls.wait(b"", timeout=2)
    error: Any = failed.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert calls.service.ended.wait(PATIENCE)


@pytest.mark.parametrize("secure", [False, True])
def test_calls_in_flight_are_finished_when_it_ends(
    authority: Authority, tmp_path: Path, secure: bool
) -> None:
    with through(authority, tmp_path, secure=secure) as calls:
        futures = [calls.late.future(b"%d" % n, timeout=PATIENCE) for n in range(20)]
        stream = calls.count(b"2", timeout=PATIENCE)
        for _ in (*futures, stream):
            assert calls.service.waiting.acquire(timeout=PATIENCE)
        calls.gateway.signal(signal.SIGTERM)
        calls.gateway.wait_line("SIGTERM")
        calls.service.gate.release(30)
        assert [future.result() for future in futures] == [b"%d" % n for n in range(20)]
        assert list(stream) == [b"0", b"1"]
        assert calls.gateway.wait() == 0
