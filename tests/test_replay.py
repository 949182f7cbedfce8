"""Request bodies that are sent again: whole, octet by octet, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Relay, RemoteProtocolError, Timeout

from .support import scripts
from .support.apps import FRAMEWORKS, mount
from .support.client import Client
from .support.exchange import Gate
from .support.front import relayed
from .support.servers import serve
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .conftest import Serve
    from .support.client import Response
    from .support.exchange import Exchange, Script

KEPT = 256 * 1024
"""How much of a body is kept so that it can be sent again."""

unavailable = scripts.answer(503, body=b"busy")
once: dict[str, Any] = {
    "max_retries": 1,
    "retry_backoff_factor": 0,
    "retry_non_idempotent": True,
    "retry_exceptions": [RemoteProtocolError],
}


def patterned(size: int) -> bytes:
    """Octets in which a piece that is missing, doubled or moved shows."""
    return b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]


def upload(client: Client, method: str, body: bytes, *, chunked: bool) -> Response:
    if not chunked:
        return client.request(method, body=body)
    client.start(method, chunked=True)
    client.send_chunks([body[at : at + 10_000] for at in range(0, len(body), 10_000)])
    return client.read()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1, 1000, 60_000, 200_000])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_body_is_sent_again_whole(method: str, size: int, chunked: bool) -> None:
    body = patterned(size)
    with (
        Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        response = upload(client, method, body, chunked=chunked)
        assert (response.status, response.body == body) == (200, True)
        assert [request.body == body for request in upstream.requests] == [True, True]
        framings = {
            (r.value("content-length"), r.value("transfer-encoding")) for r in upstream.requests
        }
        assert framings == {(None, b"chunked") if chunked else (str(size).encode(), None)}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lilya_defect_a_chunked_post_that_is_tried_again_is_not_empty(framework: str) -> None:
    """Lilya sends an empty body the second time, and the client gets the 200 to that."""
    body = patterned(50_000)
    with Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream:
        app = mount(framework, "/auth", Relay(upstream.url, **once))
        with serve(app) as server, Client(server.port) as client:
            client.start("POST", "/auth/x", chunked=True)
            client.send_chunks([body[:20_000], body[20_000:]])
            response = client.read()
    assert (response.status, response.body == body) == (200, True)


def test_a_body_is_sent_again_whole_on_every_server(server: Serve) -> None:
    body = patterned(150_000)
    with (
        Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream,
        Client(server(Relay(upstream.url, **once)).port) as client,
    ):
        response = upload(client, "PUT", body, chunked=True)
    assert (response.status, response.body == body) == (200, True)


def test_an_empty_chunked_body_is_sent_again() -> None:
    with (
        Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        response = upload(client, "PUT", b"", chunked=True)
        assert (response.status, response.body) == (200, b"")
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_beyond_the_buffer_is_sent_once_and_the_answer_arrives_whole(chunked: bool) -> None:
    body = patterned(KEPT * 4)
    with (
        Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        response = upload(client, "PUT", body, chunked=chunked)
        assert (response.status, response.body) == (503, b"busy")
        assert [request.body == body for request in upstream.requests] == [True]


# Each piece costs some octets of its own, so the end of the buffer is not exact.
@pytest.mark.parametrize(("size", "tries"), [(KEPT * 7 // 8, 2), (KEPT + 1, 1)])
def test_the_buffer_ends_where_it_is_said_to(size: int, tries: int) -> None:
    body = patterned(size)
    with (
        Upstream(scripts.in_turn(unavailable, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        response = upload(client, "PUT", body, chunked=True)
        assert response.status == (200 if tries == 2 else 503)
        assert len(upstream.requests) == tries


@pytest.mark.parametrize(
    "script", [scripts.close, scripts.say(b"?\r\n\r\n")], ids=["fin", "garbage"]
)
def test_a_body_is_sent_again_after_a_failure(script: Script) -> None:
    body = patterned(100_000)
    with (
        Upstream(scripts.in_turn(script, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        assert upload(client, "PUT", body, chunked=True).body == body


def test_a_body_beyond_the_buffer_that_meets_a_failure_is_a_502_and_never_half() -> None:
    body = patterned(KEPT * 4)
    with (
        Upstream(scripts.in_turn(scripts.close, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        assert upload(client, "PUT", body, chunked=True).status == 502
        assert len(upstream.requests) == 1


def test_an_answer_in_the_middle_of_an_upload_is_tried_again_with_the_whole_body() -> None:
    first, rest = patterned(30_000), b"the rest"
    answered = Gate()

    def early(exchange: Exchange) -> None:
        taken = 0
        for piece in exchange.body():
            taken += len(piece)
            if taken == len(first):
                break
        exchange.respond(503, [("Connection", "close")])
        answered.open()

    with (
        Upstream(scripts.in_turn(early, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
        front.client() as client,
    ):
        client.start("PUT", chunked=True)
        client.send_chunks([first], last=False)
        assert answered.passed(5)
        upstream.wait_requests(2)
        client.send_chunks([rest])
        response = client.read()
        assert (response.status, response.body) == (200, first + rest)


def test_a_retry_never_ends_an_upload_that_its_client_has_left() -> None:
    def early(exchange: Exchange) -> None:
        next(exchange.body())
        exchange.respond(503, [("Connection", "close")])

    with (
        Upstream(scripts.in_turn(early, scripts.echo)) as upstream,
        relayed(upstream.url, **once) as front,
    ):
        with front.client() as client:
            client.start("PUT", chunked=True)
            client.send_chunks([b"half"], last=False)
            second = upstream.wait_requests(2)
            upstream.wait_until(lambda: second.body_size == 4, "the half that is sent again")
        second.connection.wait_closed()
        assert not second.complete.is_set()


def test_a_timeout_of_a_replay_leaves_the_body_whole() -> None:
    body = patterned(120_000)
    script = scripts.in_turn(scripts.hang, scripts.hang, scripts.echo)
    with (
        Upstream(script) as upstream,
        relayed(
            upstream.url, max_retries=2, retry_backoff_factor=0, timeout=Timeout(read=1.5)
        ) as front,
        front.client() as client,
    ):
        assert upload(client, "PUT", body, chunked=False).body == body
        assert len(upstream.requests) == 3
