"""Fixtures of every test: servers, frameworks, event loops, and what must not be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from asgi_relay import Relay

from .support.apps import FRAMEWORKS
from .support.authority import Authority
from .support.leaks import Leaks
from .support.lending import lending
from .support.servers import SERVERS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.asgi import ASGIApp


class Serve(Protocol):
    """`support.servers.serve` under one server, until the test ends."""

    def __call__(self, app: ASGIApp, **options: Any) -> Server: ...


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serves an app, under each server in turn: `server(app, root_path="/outer").port`."""
    with contextlib.ExitStack() as stack:
        yield lambda app, **options: stack.enter_context(serve(app, request.param, **options))


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """Each framework in turn, for `support.apps.mount`."""
    name: str = request.param
    return name


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Each event loop in turn, for tests that are coroutines (`pytestmark = pytest.mark.anyio`)."""
    return request.param


@pytest.fixture
def collected() -> Iterator[None]:
    """Collects garbage at the test's end: what other people's test clients forget to close is
    reported then, where the test can ignore it, and not during a later test.
    """
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def no_relay_outlives_its_file() -> Iterator[None]:
    """Some frameworks keep an app that a test has mounted a relay in for as long as the process
    lives, and the engine with it; a later file may want to see it end.
    """
    yield
    # A constructor that has refused its parameters leaves one without an engine.
    relays = [found for found in gc.get_objects() if type(found) is Relay]
    for relay in (relay for relay in relays if hasattr(relay, "_engine")):
        asyncio.run(relay.shutdown())


@pytest.fixture
def unowned() -> Iterator[None]:
    """Ends at the test's end what `asgi_relay.fastapi` has opened without a `Proxy`, which would
    last as long as the process.
    """
    yield
    from asgi_relay.fastapi._relays import unowned

    if unowned:
        asyncio.run(unowned.shutdown())


@pytest.fixture(params=["kept", "lent"])
def ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """WebSockets whose upstream the engine reads, and those where the event loop does."""
    lending.wanted = request.param == "lent"
    yield
    lending.wanted = False


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def leaks() -> Iterator[Leaks]:
    """Fails the test if it leaves a descriptor or a thread; `leaks.settle()` after a warm-up."""
    found = Leaks()
    yield found
    found.check()
