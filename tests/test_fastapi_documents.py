"""The examples of fastapi-reverse-proxy's page run as written, with the import changed.

What the page says beside its examples is tested where it belongs: `test_fastapi_*`.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from asgi_relay import fastapi as ours

from .support import scripts
from .support.client import fetch
from .support.servers import serve
from .support.site import FRAMEWORKS, served
from .support.upstream import Upstream, refusing

pytestmark = pytest.mark.usefixtures("unowned")

DIRECTORY = Path(__file__).parent
PAGE = (DIRECTORY / "documents" / "fastapi_reverse_proxy.txt").read_text(encoding="utf-8")
EXAMPLES = DIRECTORY.parent / "examples"


def example(title: str, host: str = "127.0.0.1:8080", url: str | None = None) -> dict[str, Any]:
    """What the example under a heading leaves, with a host of the page being another URL."""
    section = PAGE.split(f"## {title}\n")[1]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return run(match[1], host, url)


def run(code: str, host: str, url: str | None) -> dict[str, Any]:
    names: dict[str, Any] = {"HealthChecker": ours.HealthChecker}
    assert url is None or f"http://{host}" in code
    exec(compile(code.replace(f"http://{host}", url or ""), "example", "exec"), names)
    return names


def test_quick_start() -> None:
    with Upstream(scripts.reflect) as upstream:
        app = example("Quick Start", url=upstream.url)["app"]
        with serve(app) as server:
            for method in ("GET", "POST", "PUT", "DELETE"):
                body = b"a=1" if method != "GET" else None
                response = fetch(server.port, "/login?x=%2F", method=method, body=body)
                assert response.body.startswith(f"{method} /login?x=%2F HTTP/1.1\r\n".encode())
                assert response.body.endswith(b"\r\n\r\n" + (body or b""))
                assert response.value("x-accel-buffering") == b"no"
        upstream.connections[0].wait_closed()


def test_health_checker() -> None:
    example("HealthChecker: Standard", "a", "http://a")
    checker = example("HealthChecker: Personalized", "api-1", "http://api-1")["checker"]
    assert checker.targets == ["http://api-1", "http://api-2"]
    assert checker.is_personalized


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            "proxy_pass",
            "request host path timeout forward_query additional_headers override_headers "
            "override_body method override_host",
        ),
        (
            "proxy_pass_websocket",
            "websocket host path subprotocols forward_query additional_headers override_headers "
            "timeout",
        ),
        (
            "LoadBalancer.proxy_pass",
            "self req path timeout forward_query additional_headers override_headers "
            "override_body method",
        ),
        (
            "LoadBalancer.proxy_pass_websocket",
            "self websocket path subprotocols forward_query additional_headers override_headers",
        ),
        ("HealthChecker.__init__", "self targets interval timeout ping_path settings"),
    ],
)
def test_names_and_order_of_the_arguments_are_the_pages(function: str, parameters: str) -> None:
    found: Any = ours
    for name in function.split("."):
        found = getattr(found, name)
    assert list(inspect.signature(found).parameters) == parameters.split()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_pages_failover(framework: str) -> None:
    """`examples/fastapi_failover.py`, which is how the page says it may be done."""
    code = (EXAMPLES / "fastapi_failover.py").read_text(encoding="utf-8")
    with refusing() as primary, Upstream(scripts.echo) as backup:
        names = run(code.replace("http://localhost:8001", primary), "localhost:8002", backup.url)
        with served(framework) as site:
            response = site.doing(names["gateway"]).fetch(method="POST", body=b"abc")
            assert (response.status, response.body) == (200, b"abc")
        with serve(names["app"]) as server:
            assert fetch(server.port, method="POST", body=b"abc").body == b"abc"


def test_the_balanced_gateway() -> None:
    """`examples/fastapi_balancing.py`."""
    code = (EXAMPLES / "fastapi_balancing.py").read_text(encoding="utf-8")
    with refusing() as dead, Upstream(scripts.reflect) as well:
        names = run(code.replace("http://localhost:8001", dead), "localhost:8002", well.url)
        with serve(names["app"]) as server:
            for _ in range(4):
                assert fetch(server.port, "/a%2Fb").body.startswith(b"GET /a%2Fb HTTP/1.1")
            body = fetch(server.port, "/health").body
            assert well.url.encode() in body
            assert f'"{dead}":false'.encode() in body.replace(b" ", b"")
