"""Relay under the test clients of the frameworks, whose scopes no server would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import lilya.testclient
import litestar.testing
import pytest
import ravyn.testclient
import starlette.testclient
from quart import Quart

from asgi_relay import Relay

from .support import scripts
from .support.apps import mount
from .support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.usefixtures("collected"),
    # Lilya's, Ravyn's and Starlette's clients do it with an app that does nothing, too.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

CLIENTS: dict[str, tuple[str, Any]] = {
    "ravyn": ("ravyn", ravyn.testclient.RavynTestClient),
    "lilya": ("lilya", lilya.testclient.TestClient),
    "starlette": ("starlette", starlette.testclient.TestClient),
    "fastapi": ("fastapi", starlette.testclient.TestClient),
    "litestar": ("litestar", litestar.testing.TestClient),
    "plain": ("plain", starlette.testclient.TestClient),
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(scripts.reflect) as running:
        yield running


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, upstream: Upstream, backend: str) -> Iterator[Any]:
    framework, make = CLIENTS[request.param]
    relay = Relay(upstream.url)
    app = mount(framework, "/auth", relay, relay.startup, relay.shutdown)
    with make(app, backend=backend) as running:
        yield running


def test_a_mounted_path(client: Any, upstream: Upstream) -> None:
    assert client.get("/auth/lo%2Fgin%20x?x=%2F").status_code == 200
    assert upstream.requests[0].target == b"/lo%2Fgin%20x?x=%2F"


def test_bodies(client: Any, upstream: Upstream) -> None:
    assert client.post("/auth/a", content=b"abc").content.endswith(b"\r\n\r\nabc")
    assert client.post("/auth/b", json={"a": 1}).status_code == 200
    assert client.put("/auth/c", content=iter([b"ab", b"cd"])).status_code == 200
    assert client.delete("/auth/d").status_code == 200
    assert [request.body for request in upstream.requests[::2]] == [b"abc", b"abcd"]
    assert upstream.requests[0].value("content-length") == b"3"
    assert upstream.requests[3].value("content-length") is None
    assert upstream.requests[3].value("transfer-encoding") is None


def test_what_the_client_is_not_known_by(client: Any, upstream: Upstream) -> None:
    # `client` of the scope may be None: then there is nobody to name.
    client.get("/auth/x", headers={"x-forwarded-for": "192.0.2.1"})
    forwarded = upstream.requests[0].values("x-forwarded-for")
    assert len(forwarded) == 1
    assert forwarded[0].startswith(b"192.0.2.1")
    assert upstream.requests[0].value("x-forwarded-proto") == b"http"


def test_cookies_stay_with_their_client(client: Any, upstream: Upstream) -> None:
    client.get("/auth/x", headers={"cookie": "user=a"})
    client.get("/auth/x")
    assert upstream.requests[0].value("cookie") == b"user=a"
    assert upstream.requests[1].value("cookie") is None


@pytest.mark.anyio
@pytest.mark.parametrize("package", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_an_asgi_transport_around_it(
    package: Any, upstream: Upstream, anyio_backend: object
) -> None:
    relay = Relay(upstream.url)
    app = mount("plain", "/auth", relay)
    transport = package.ASGITransport(app=app)
    async with package.AsyncClient(transport=transport, base_url="http://front.test:8") as client:
        response = await client.post("/auth/lo%2Fgin?x=%2F", content=b"abc")
    await relay.shutdown()
    assert response.content.startswith(b"POST /lo%2Fgin?x=%2F HTTP/1.1\r\n")
    assert response.content.endswith(b"\r\n\r\nabc")
    assert upstream.requests[0].value("x-forwarded-host") == b"front.test:8"


def test_quarts_test_client(upstream: Upstream) -> None:
    # It announces no body with any header; only `receive` shows that there is one.
    relay = Relay(upstream.url)
    quart = Quart("tests")
    quart.asgi_app = mount("plain", "/auth", relay)  # type: ignore[assignment, method-assign]

    async def exchange() -> bytes:
        response = await quart.test_client().post("/auth/login?x=%2F", data=b"abc")
        await relay.shutdown()
        return bytes(await response.get_data(as_text=False))

    raw = anyio.run(exchange)
    assert raw.startswith(b"POST /login?x=%2F HTTP/1.1\r\n")
    assert upstream.requests[0].body == b"abc"
