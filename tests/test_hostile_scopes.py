"""Any scope and any messages at all: a legal answer, or nothing but the documented exceptions."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_relay import ASGITransport, Relay, RelayError, Timeout

from .support import asgi

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyio.from_thread import BlockingPortal

    from .support.asgi import Message, Receive, Scope, Send

bounded = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PATIENCE = 20


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as portal:
        yield portal


class Recorder:
    """An upstream that keeps what it was asked, and echoes the body."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        await asgi.respond(send, body)


async def play(app: Any, scope: Scope, messages: Sequence[Message]) -> list[Message]:
    """Call an app; what it sent. After the last message the client waits for its answer."""
    left, sent = list(messages), []

    async def receive() -> Message:
        if left:
            return left.pop(0) if len(left) > 1 or left[0]["type"] != "http.disconnect" else left[0]
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(PATIENCE):
        await app(scope, receive, send)
    return sent


nasty = st.sampled_from(
    ["/", "//", "..", "%2e", "%", "\0", "\r\n", "€", "?", "#", "\uffff", ";", "\\", " ", "a"]
)
text = st.one_of(st.lists(nasty, max_size=6).map("".join), st.text(max_size=10))
path = st.one_of(text, text.map(lambda tail: f"/{tail}"), text.map(lambda tail: f"/root/{tail}"))
octets = st.one_of(text.map(str.encode), st.binary(max_size=12))
header = st.one_of(
    st.tuples(octets, octets),
    st.tuples(
        st.sampled_from(
            [b"host", b"Connection", b"content-length", b"transfer-encoding", b"cookie", b"te"]
        ),
        st.sampled_from(
            [b"", b"3", b"3, 3", b"-1", b"99999999999999999999", b"chunked", b"x-a, close", b"\xff"]
        ),
    ),
    st.lists(octets, min_size=2, max_size=2),
)
scopes = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "method": st.one_of(st.sampled_from(["GET", "POST", "HEAD", "CONNECT", "get"]), text),
        "path": path,
        "headers": st.lists(header, max_size=6),
    },
    optional={
        "asgi": st.sampled_from(
            [{}, {"version": "3.0"}, {"version": "3.0", "spec_version": "2.3"}]
        ),
        "http_version": st.one_of(st.sampled_from(["1.0", "1.1", "2", "3"]), text),
        "scheme": st.one_of(st.sampled_from(["http", "https", "wss"]), text),
        "raw_path": st.one_of(st.none(), octets),
        "query_string": octets,
        "root_path": st.one_of(st.just("/root"), text),
        "client": st.one_of(
            st.none(), st.tuples(text, st.integers()), st.lists(text, min_size=2, max_size=2)
        ),
        "server": st.one_of(st.none(), st.tuples(text, st.none())),
        "extensions": st.sampled_from([None, {}, {"http.response.pathsend": {}}]),
        "state": st.just({}),
    },
)
piece = st.fixed_dictionaries(
    {"type": st.just("http.request"), "more_body": st.just(True)},
    optional={"body": st.binary(max_size=8)},
)
last = st.one_of(
    st.just({"type": "http.disconnect"}),
    st.fixed_dictionaries(
        {"type": st.just("http.request")},
        optional={"body": st.binary(max_size=8), "more_body": st.just(False)},
    ),
)
conversations = st.tuples(st.lists(piece, max_size=3), last).map(lambda pair: [*pair[0], pair[1]])


@bounded
@given(scope=scopes, messages=conversations)
@example(
    scope={"type": "http", "method": "GET", "path": "/", "headers": [(b"x", b"a\r\nb")]},
    messages=[{"type": "http.request"}],
)
def test_any_scope_is_answered_legally(
    portal: BlockingPortal, scope: dict[str, Any], messages: list[dict[str, Any]]
) -> None:
    upstream = Recorder()
    relay = Relay("http://h/base", transport=ASGITransport(upstream), timeout=Timeout(PATIENCE))
    try:
        sent = portal.call(partial(play, relay, scope, messages))
    except RelayError:
        sent = []
    finally:
        portal.call(relay.shutdown)
    if sent:
        assert_legal(sent)
    else:
        assert messages[-1]["type"] == "http.disconnect"
    for asked in upstream.scopes:
        assert asked["raw_path"].startswith(b"/base")
        assert not re.search(rb"[\x00-\x20\x7f]", asked["raw_path"] + asked["query_string"])
        lines = [*asked["headers"], (b"x", asked["method"].encode())]
        assert not any(re.search(rb"[\r\n\0]", name + value) for name, value in lines)


def assert_legal(sent: list[Message]) -> None:
    """What the ASGI specification asks of an app's messages."""
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert 200 <= start["status"] <= 599
    for name, value in start["headers"]:
        assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9a-z]+", name)
        assert not re.search(rb"[\r\n\0]", value)
    assert [body["type"] for body in bodies] == ["http.response.body"] * len(bodies)
    assert all(body["more_body"] for body in bodies[:-1])
    assert not bodies[-1]["more_body"]


anything = st.one_of(
    st.sampled_from([None, True, -1, 1.5, b"x", "x", [], {}, (), object(), [1, 2], [("a", "b")]]),
    st.lists(st.tuples(st.binary(max_size=2), st.none()), max_size=2),
)


@bounded
@given(
    broken=st.dictionaries(
        st.sampled_from(
            [
                *["method", "path", "raw_path", "query_string", "root_path", "headers", "client"],
                *["scheme", "http_version", "asgi", "extensions"],
            ]
        ),
        anything,
        min_size=1,
        max_size=3,
    ),
)
def test_a_scope_that_breaks_asgis_types_is_an_error_of_the_caller(
    portal: BlockingPortal, broken: dict[str, Any]
) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        **broken,
    }
    relay = Relay("http://h", transport=ASGITransport(Recorder()))
    try:
        sent = portal.call(partial(play, relay, scope, [{"type": "http.request"}]))
    except (TypeError, ValueError, LookupError):
        return
    finally:
        portal.call(relay.shutdown)
    assert_legal(sent)


@pytest.mark.parametrize("key", ["path", "root_path", "method", "scheme", "http_version"])
def test_text_with_lone_surrogates_reaches_no_upstream(portal: BlockingPortal, key: str) -> None:
    upstream = Recorder()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], key: "/\ud800"}
    relay = Relay("http://h", transport=ASGITransport(upstream))
    try:
        sent = portal.call(partial(play, relay, scope, [{"type": "http.request"}]))
        assert sent[0]["status"] == 400
    except UnicodeEncodeError:
        pass  # No server decodes so: it is the caller's mistake.
    finally:
        portal.call(relay.shutdown)
    assert upstream.scopes == []


@pytest.mark.parametrize("missing", ["path", "headers"])
def test_a_scope_may_leave_out_what_has_a_default(portal: BlockingPortal, missing: str) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    del scope[missing]
    relay = Relay("http://h", transport=ASGITransport(Recorder()))
    sent = portal.call(partial(play, relay, scope, [{"type": "http.request"}]))
    portal.call(relay.shutdown)
    assert sent[0]["status"] == 200


def test_a_scope_without_a_method_is_an_error_of_the_caller(portal: BlockingPortal) -> None:
    relay = Relay("http://h", transport=ASGITransport(Recorder()))
    scope = {"type": "http", "path": "/", "headers": []}
    with pytest.raises(KeyError, match="method"):
        portal.call(partial(play, relay, scope, [{"type": "http.request"}]))
    portal.call(relay.shutdown)


@bounded
@given(
    lines=st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from(
                    [b"connection", b"x-hop", b"te", b"x-forwarded-for", b"x-forwarded-proto"]
                ),
                st.sampled_from([b"x-hop", b"close", b"trailers", b"192.0.2.1", b"https"]),
            ),
            st.tuples(st.sampled_from([b"x-a", b"X-B", b"cookie"]), st.binary(max_size=4)),
        ),
        max_size=8,
    )
)
def test_a_second_relay_changes_nothing_but_the_addresses(
    portal: BlockingPortal, lines: list[tuple[bytes, bytes]]
) -> None:
    once, twice = Recorder(), Recorder()
    headers = [(b"host", b"client.test"), *lines]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    one = Relay("http://h", transport=ASGITransport(once), preserve_host=True)
    inner = Relay("http://h", transport=ASGITransport(twice), preserve_host=True)
    outer = Relay("http://h", transport=ASGITransport(inner), preserve_host=True)
    for relay in (one, outer):
        portal.call(partial(play, relay, dict(scope), [{"type": "http.request"}]))
    for relay in (one, outer, inner):
        portal.call(relay.shutdown)
    assert len(once.scopes) == len(twice.scopes)
    if not once.scopes:  # a value with a line break: refused by both
        return
    first, second = (dict(upstream.scopes[0])["headers"] for upstream in (once, twice))
    addresses = [value for name, value in first if name == b"x-forwarded-for"]
    added = [value for name, value in second if name == b"x-forwarded-for"]
    assert added == [b", ".join([*addresses, b"127.0.0.1"])]
    others = [
        [line for line in headers if line[0] != b"x-forwarded-for"] for headers in (first, second)
    ]
    assert others[0] == others[1]
