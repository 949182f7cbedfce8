"""Answers that break off: the client must be able to see it, on every server, whatever the framing.

The relay raises out of the app, which makes each server end the connection short; that is also
what the tests of `raised` pin down, as whatever stands in between sees it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from asgi_relay import ReadError, ReadTimeout, Relay, RelayError, RemoteProtocolError, Timeout

from .support import scripts
from .support.client import Client, TruncatedError, fetch
from .support.direct import Call
from .support.front import relayed
from .support.upstream import Upstream
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Serve
    from .support.client import Response
    from .support.exchange import Exchange, Script

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

STALL = scripts.stall(b"some")
HASTY = Timeout(read=0.4)
"""What a head may take, too: see `read_cut`."""

CUTS = {
    "length-fin": scripts.cut_length(b"cut", 1000),
    "length-rst": scripts.cut_length(b"cut", 1000, rst=True),
    "length-by-one": scripts.cut_length(b"cut", 4),
    "chunked-fin": scripts.cut_chunked(b"cut"),
    "chunked-rst": scripts.cut_chunked(b"cut", rst=True),
    "within-a-chunk": scripts.cut_chunked(b"cu", tail=b"5\r\nt"),
    "within-the-last-chunk": scripts.cut_chunked(b"cut", tail=b"0\r\n"),
}


def read_cut(fetch: Callable[[], Response]) -> TruncatedError:
    """How an answer breaks off. A busy machine's upstream may be late with the head already, which
    is a 504, and is asked again then.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            response = fetch()
        except TruncatedError as cut:
            return cut
        assert response.status == 504, response
    raise AssertionError("no answer has begun")


def test_a_cut_answer_is_cut_for_the_client_on_every_server(server: Serve) -> None:
    routes = {b"/" + name.encode(): script for name, script in CUTS.items()}
    with Upstream(scripts.by_path(routes)) as upstream:
        port = server(Relay(upstream.url)).port
        for name in CUTS:
            with Client(port) as client:
                client.start("GET", f"/{name}")
                response = client.read_head()
                assert response.status == 200
                with pytest.raises(TruncatedError) as cut:
                    list(client.pieces(response))
            # An RST overtakes what was sent before it.
            assert cut.value.after == 3 or name.endswith("rst")


def test_a_stall_is_cut_for_the_client_on_every_server(server: Serve) -> None:
    with Upstream(STALL) as upstream:
        port = server(Relay(upstream.url, timeout=HASTY)).port
        assert read_cut(lambda: fetch(port)).after == 4


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (CUTS["length-fin"], RemoteProtocolError),
        (CUTS["chunked-fin"], RemoteProtocolError),
        (CUTS["chunked-rst"], ReadError),
        (STALL, ReadTimeout),
    ],
    ids=["length-fin", "chunked-fin", "chunked-rst", "stall"],
)
def test_what_is_raised_tells_the_kind(script: Script, kind: type[RelayError]) -> None:
    with Upstream(script) as upstream, relayed(upstream.url, timeout=HASTY) as front:
        read_cut(front.fetch)
        (raised,) = front.raised
    assert type(raised) is kind
    assert "127.0.0.1" not in str(raised)


@pytest.mark.anyio
@pytest.mark.parametrize("script", CUTS.values(), ids=CUTS)
async def test_a_cut_answer_is_raised_on_every_loop_and_never_ended(script: Script) -> None:
    call = Call()
    with Upstream(script) as upstream:
        async with Relay(upstream.url) as relay:
            with pytest.raises(RelayError), anyio.fail_after(PATIENCE):
                await call(relay)
    assert call.status == 200
    assert not call.ended


@pytest.mark.parametrize(
    "chunks",
    [
        b"2\r\nokk\r\n0\r\n\r\n",  # a chunk longer than its size
        b"zz\r\nok\r\n0\r\n\r\n",
        b"-2\r\nok\r\n0\r\n\r\n",
        b"0x2\r\nok\r\n0\r\n\r\n",
        b"ffffffffffffffff2\r\nok\r\n0\r\n\r\n",  # would be 2 in 64 bits
        b"\r\nok\r\n0\r\n\r\n",
        b"2;" + b"x" * 100_000 + b"\r\nok\r\n0\r\n\r\n",
    ],
    ids=["long", "letters", "negative", "hex-prefix", "overflow", "empty", "long-extension"],
)
def test_malformed_chunks_are_a_truncation(chunks: bytes) -> None:
    script = scripts.say(CHUNKED + b"4\r\ngood\r\n" + chunks)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        with pytest.raises(TruncatedError):
            front.fetch()
        assert [type(error) for error in front.raised] == [RemoteProtocolError]
        upstream.connections[0].wait_closed()


def test_a_body_that_the_end_of_the_connection_ends_is_whole() -> None:
    script = scripts.say(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", close=True)
    with Upstream(script) as upstream, relayed(upstream.url) as front:
        assert front.fetch().body == b"until the end"
        assert front.raised == []


def test_a_body_that_the_end_of_the_connection_ends_is_cut_by_a_reset() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the")
        exchange.reset()

    with Upstream(script) as upstream, relayed(upstream.url) as front:
        with pytest.raises(TruncatedError):
            front.fetch()
        assert [type(error) for error in front.raised] == [ReadError]


@pytest.mark.parametrize("script", [CUTS["length-fin"], CUTS["chunked-rst"]], ids=["fin", "rst"])
def test_the_request_after_a_cut_answer_goes_over_a_new_connection(script: Script) -> None:
    with (
        Upstream(scripts.in_turn(script, scripts.ok)) as upstream,
        relayed(upstream.url) as front,
    ):
        with pytest.raises(TruncatedError):
            front.fetch()
        assert front.fetch().body == b"ok"
        assert [request.connection.index for request in upstream.requests] == [0, 1]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "script",
    [STALL, CUTS["length-fin"], CUTS["chunked-rst"]],
    ids=["stall", "fin", "rst"],
)
def test_lilya_defect_nothing_is_repeated_into_a_response_that_has_begun(
    script: Script, method: str
) -> None:
    """Lilya repeats the request after a mid-body stall, and appends the second answer."""
    settings = {
        # Time for the head: who is late with it is asked again.
        "timeout": Timeout(read=2),
        "max_retries": 3,
        "retry_backoff_factor": 0,
        "retry_exceptions": (RelayError,),
        "retry_non_idempotent": True,
    }
    with Upstream(script) as upstream, relayed(upstream.url, **settings) as front:
        with pytest.raises(TruncatedError):
            front.fetch(method=method)
        assert len(upstream.requests) == 1
