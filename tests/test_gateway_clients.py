"""The gateway with an HTTP client of the world: HTTP/1.1 and HTTP/2, in the clear and over TLS."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .support import scripts
from .support.exchange import Gate
from .support.gateway import configured
from .support.servers import serve
from .support.upstream import Upstream
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.asgi import Receive, Scope, Send
    from .support.authority import Authority

KINDS = ["http1", "h2c", "tls-http1", "tls-http2"]
COOKIES = ["a=1; Path=/", "b=2, 3; HttpOnly", "a=4; Path=/x"]
DATA = random.Random(1).randbytes(3_000_000)


class Site:
    """A gateway with a listener in the clear and one with TLS, and what is behind it."""

    def __init__(self, upstream: Upstream, gate: Gate) -> None:
        self.upstream = upstream
        self.gate = gate
        self.options: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="module")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    gate = Gate()
    table = {
        b"/reflect": scripts.reflect,
        b"/echo": scripts.echo,
        b"/data": scripts.answer(body=DATA),
        b"/cookies": scripts.answer(headers=[("Set-Cookie", line) for line in COOKIES]),
        b"/empty": scripts.say(b"HTTP/1.1 204 No Content\r\n\r\n"),
        b"/events": scripts.drip(
            gate,
            [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"],
            headers=[("Content-Type", "text/event-stream")],
        ),
        b"/flood": scripts.flood(1 << 40),
    }
    issued = authority.certificate("localhost")
    ssl = {"cert_file": str(issued.chain), "key_file": str(issued.key)}
    folder = tmp_path_factory.mktemp("gateway")
    # Of two names, since each is one of a kind.
    listeners = [{"port": 0}, {"host": "localhost", "port": 0, "ssl": ssl}]
    with Upstream(scripts.by_path(table)) as upstream:
        routes = [{"targets": upstream.url}]
        with configured(folder, routes, server={"listeners": listeners}) as gateway:
            site = Site(upstream, gate)
            plain, secure = (f"//localhost:{port}" for port in gateway.ports)
            trusting = {"base_url": f"https:{secure}", "verify": authority.client()}
            site.options = {
                "http1": {"base_url": f"http:{plain}"},
                "h2c": {"base_url": f"http:{plain}", "http1": False, "http2": True},
                "tls-http1": trusting,
                "tls-http2": {**trusting, "http2": True},
            }
            yield site


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(site: Site, kind: str) -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE, trust_env=False, **site.options[kind]) as client:
        yield client


def test_a_request_and_its_answer(client: httpx.Client, kind: str) -> None:
    response = client.get("/reflect", params={"a": "1 2"}, headers={"X-Mine": "yes"})
    assert response.http_version == ("HTTP/1.1" if kind.endswith("http1") else "HTTP/2")
    head = response.content.lower()
    assert head.startswith(b"get /reflect?a=1+2 http/1.1\r\n")
    assert b"\r\nx-mine: yes\r\n" in head
    scheme = b"https" if kind.startswith("tls") else b"http"
    assert b"\r\nx-forwarded-proto: %s\r\n" % scheme in head
    assert b"\r\nx-forwarded-host: localhost:%d\r\n" % (client.base_url.port or 0) in head
    assert b"\r\nx-forwarded-for: 127.0.0.1\r\n" in head
    assert client.head("/data").headers["content-length"] == str(len(DATA))
    assert client.get("/empty").status_code == 204


@pytest.mark.parametrize("streamed", [False, True])
def test_an_upload_arrives_whole(client: httpx.Client, streamed: bool) -> None:
    content = (DATA[at : at + 50_000] for at in range(0, len(DATA), 50_000)) if streamed else DATA
    response = client.post("/echo", content=content)
    assert hashlib.sha256(response.content).digest() == hashlib.sha256(DATA).digest()


def test_every_cookie_has_its_line(client: httpx.Client) -> None:
    assert client.get("/cookies").headers.get_list("set-cookie") == COOKIES


def test_an_event_comes_when_it_is_sent(client: httpx.Client, site: Site) -> None:
    with client.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        pieces = response.iter_raw()
        for number in (b"1", b"2", b"3"):
            # Each is sent only after the one before it has been seen.
            site.gate.open()
            assert next(pieces) == b"data: %s\n\n" % number
        assert list(pieces) == []


def test_a_download_that_is_given_up_ends_upstream(client: httpx.Client, site: Site) -> None:
    asked = len(site.upstream.requests)
    with client.stream("GET", "/flood") as response:
        next(response.iter_raw())
        connection = site.upstream.requests[asked].connection
        # The whole client: this one does not reset a single stream of HTTP/2.
        client.close()
    connection.wait_closed()


def test_many_requests_at_once(site: Site, kind: str) -> None:
    async def run() -> None:
        limits = httpx.Limits(max_connections=20)
        options: dict[str, Any] = {
            "timeout": PATIENCE,
            "trust_env": False,
            "limits": limits,
            **site.options[kind],
        }
        async with httpx.AsyncClient(**options) as client:
            answers = await asyncio.gather(*(client.get(f"/reflect?{n}") for n in range(100)))
            lines = [answer.content.split(b"\r\n")[0] for answer in answers]
            assert lines == [b"GET /reflect?%d HTTP/1.1" % number for number in range(100)]

    asyncio.run(run())


async def version(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the version of HTTP that was spoken to it, and the request's body."""
    if scope["type"] != "http":
        await receive()
        await send({"type": f"{scope['type']}.startup.complete"})
        await receive()
        await send({"type": f"{scope['type']}.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["http_version"].encode() + b" " + body})


@pytest.mark.parametrize(
    ("secure", "http2", "spoken"),
    [
        (True, "auto", b"2"),
        (True, "never", b"1.1"),
        (False, "always", b"2"),
        (False, "auto", b"1.1"),
    ],
)
def test_http2_upstream(
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    secure: bool,
    http2: str,
    spoken: bytes,
) -> None:
    certificate = authority.certificate("127.0.0.1") if secure else None
    with serve(version, "hypercorn-asyncio", certificate=certificate) as upstream:
        route = {
            "targets": upstream.url,
            "http2": http2,
            "tls": {"ca_file": str(authority.pem)},
        }
        folder = tmp_path_factory.mktemp("upstream")
        with configured(folder, [route]) as gateway:
            for body in (b"hello", b"again" * 20_000):
                response = httpx.post(f"http://127.0.0.1:{gateway.port}", content=body)
                assert response.content == spoken + b" " + body
