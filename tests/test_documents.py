"""The examples of Ravyn's page on Relay run as written, and do what the page says of them.

Where an example is to reach its upstream, that host of the page is the test's own upstream.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from ravyn import Include, Ravyn

from asgi_relay import Relay, Timeout

from .support import scripts
from .support.client import Response, fetch
from .support.servers import serve
from .support.upstream import Upstream, refusing

PAGE = (Path(__file__).parent / "documents" / "ravyn_relay.txt").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str]]:
    """Each example with the heading it stands under; one after another under the same."""
    found: list[tuple[str, str]] = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        found += [(title, code) for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)]
    return found


def run(code: str) -> dict[str, Any]:
    """What the example leaves; it starts with the names that the page imported further up."""
    names: dict[str, Any] = {"httpx": httpx, "Include": Include, "Ravyn": Ravyn, "Relay": Relay}
    names["proxy"] = Relay("http://upstream:8000")
    exec(compile(code, "example", "exec"), names)
    return names


def example(title: str, host: str, upstream: Upstream, number: int = 0) -> dict[str, Any]:
    """Run one example, with `host` being our upstream."""
    code = [code for heading, code in examples() if heading == title][number]
    assert f"http://{host}" in code
    return run(code.replace(f"http://{host}", upstream.url))


def ask(app: Any, target: str, **request: Any) -> Response:
    with serve(app) as server:
        return fetch(server.port, target, **request)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=f"{number}-{title}") for number, (title, code) in enumerate(examples())],
)
def test_each_example_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # In-Memory Testing asks, asserts and so is a test by itself.
    monkeypatch.setenv("SERVICE_TOKEN", "secret")
    names = run(code)
    proxies = [value for value in names.values() if isinstance(value, Relay)]
    assert proxies
    for proxy in proxies:
        assert repr(proxy).startswith("<Relay to http://")


def test_the_page_has_all_its_examples() -> None:
    assert len(examples()) == 29


def test_quick_start() -> None:
    with Upstream(scripts.ok) as upstream:
        app = example("Quick Start", "auth-service:8000", upstream)["app"]
        with serve(app) as server:
            fetch(server.port, "/auth/login")
            fetch(server.port, "/auth/register", method="POST", body=b"name=x")
    login, register = upstream.requests
    assert login.line == b"GET /login HTTP/1.1"
    assert register.line == b"POST /register HTTP/1.1"
    assert register.body == b"name=x"
    for request in (login, register):
        assert request.value("host") == upstream.authority.encode()
        assert request.value("x-forwarded-for") == b"127.0.0.1"
        assert request.value("x-forwarded-proto") == b"http"
        assert request.value("x-forwarded-host") == b"relay.test"


@pytest.mark.parametrize(
    ("title", "host", "number", "arrives"),
    [
        ("Minimal Setup", "upstream-service:8000", 0, b"/login"),
        ("With Options", "auth-service:8000", 0, b"/api/v1/login"),
        ("Same Path", "auth:8000", 0, b"/login"),
        ("Different Path", "auth:8000", 0, b"/api/v1/login"),
        ("Pitfall 2: Wrong Path Mapping", "api:8000", 0, b"/login"),
        ("Pitfall 2: Wrong Path Mapping", "api:8000", 1, b"/api/v1/login"),
    ],
)
def test_path_mapping(title: str, host: str, number: int, arrives: bytes) -> None:
    with Upstream(scripts.ok) as upstream:
        proxy = example(title, host, upstream, number)["proxy"]
        app = Ravyn(
            routes=[Include("/auth", app=proxy)],
            on_startup=[proxy.startup],
            on_shutdown=[proxy.shutdown],
        )
        assert ask(app, "/auth/login").status == 200
    assert upstream.requests[0].target == arrives


def test_custom_headers() -> None:
    with Upstream(scripts.ok) as upstream:
        proxy = example("Custom Headers", "upstream:8000", upstream)["proxy"]
        ask(proxy, "/", headers=[("x-api-key", "the client's")])
    assert upstream.requests[0].values("x-api-key") == [b"secret-key"]
    assert upstream.requests[0].values("x-service") == [b"main-app"]


def test_drop_headers() -> None:
    answer = scripts.answer(200, [("X-Debug-Info", "1"), ("X-Other", "2")])
    with Upstream(answer) as upstream:
        proxy = example("Drop Headers", "upstream:8000", upstream)["proxy"]
        response = ask(proxy, "/", headers=[("X-Internal-Token", "t"), ("X-Kept", "k")])
    assert upstream.requests[0].value("x-internal-token") is None
    assert upstream.requests[0].value("x-kept") == b"k"
    assert response.value("x-debug-info") is None
    assert response.value("x-other") == b"2"


def test_allow_list_mode() -> None:
    kept = [("Content-Type", "text/css"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    with Upstream(scripts.answer(200, [*kept, ("X-Other", "2")])) as upstream:
        proxy = example("Allow-List Mode", "upstream:8000", upstream)["proxy"]
        sent = [("Authorization", "Basic x"), ("Content-Type", "text/html"), ("Cookie", "c")]
        response = ask(proxy, "/", method="POST", headers=sent, body=b"body")
    request = upstream.requests[0]
    assert {name.lower() for name, _ in request.headers} == {
        b"host",
        b"authorization",
        b"content-type",
        b"content-length",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
    }
    assert request.body == b"body"
    assert response.values("set-cookie") == [b"a=1", b"b=2"]
    assert response.value("content-type") == b"text/css"
    assert response.value("x-other") is None
    assert response.body == b"ok"


@pytest.mark.parametrize(
    ("title", "host", "number", "becomes"),
    [
        ("Drop Domain Attribute", "auth:8000", 0, b"sid=1; Path=/; HttpOnly"),
        ("Rewrite Domain", "auth:8000", 0, b"sid=1; Domain=example.com; Path=/; HttpOnly"),
        ("Preserve Domain", "auth:8000", 0, b"sid=1; Domain=auth.test; Path=/; HttpOnly"),
        ("Example 1: Auth Service Proxy", "auth-service:8000", 0, b"sid=1; Path=/; HttpOnly"),
        (
            "Pitfall 3: Cookie Domain Issues",
            "auth:8000",
            0,
            b"sid=1; Domain=auth.test; Path=/; HttpOnly",
        ),
        ("Pitfall 3: Cookie Domain Issues", "auth:8000", 1, b"sid=1; Path=/; HttpOnly"),
    ],
)
def test_cookie_domains(title: str, host: str, number: int, becomes: bytes) -> None:
    cookie = "sid=1; Domain=auth.test; Path=/; HttpOnly"
    with Upstream(scripts.answer(200, [("Set-Cookie", cookie)])) as upstream:
        names = example(title, host, upstream, number)
        response = ask(names.get("auth_proxy", names["proxy"]), "/")
    assert response.values("set-cookie") == [becomes]


def test_configure_retries() -> None:
    busy = scripts.answer(503, [("Retry-After", "9")], b"busy")
    with Upstream(scripts.in_turn(busy, busy, scripts.ok)) as upstream:
        proxy = example("Configure Retries", "upstream:8000", upstream)["proxy"]
        assert ask(proxy, "/").body == b"ok"
    first, second, third = (request.at for request in upstream.requests)
    # No wait ends early; how late it ends is the machine's business.
    assert second - first >= 0.5
    assert third - second >= 1.0


def test_retryable_errors_arrive_once_retries_are_used_up() -> None:
    busy = scripts.answer(503, [("Retry-After", "9")], b"busy")
    with Upstream(busy) as upstream:
        title = "Example 1: Auth Service Proxy"
        app = example(title, "auth-service:8000", upstream)["app"]
        response = ask(app, "/auth/login")
    assert (response.status, response.body) == (503, b"busy")
    assert response.value("retry-after") == b"9"
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("title", ["Configure Timeouts", "2. Configure Timeouts"])
def test_configure_timeouts(title: str) -> None:
    with Upstream(scripts.ok) as upstream:
        proxy = example(title, "upstream:8000", upstream)["proxy"]
        assert ask(proxy, "/").status == 200


def test_our_own_timeout_takes_what_the_page_wrote() -> None:
    assert Timeout(connect=5.0, read=30.0) == Timeout(connect=5.0, read=30.0, write=10.0, pool=10.0)


def test_a_relay_for_websockets_relays_http() -> None:
    with Upstream(scripts.ok) as upstream:
        title = "Enable WebSocket Support"
        app = example(title, "chat-service:8000", upstream)["app"]
        assert ask(app, "/ws/room").status == 200
    assert upstream.requests[0].target == b"/room"


def test_logging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "proxy")
    with Upstream(scripts.close) as upstream:
        proxy = example("Logging", "upstream:8000", upstream)["proxy"]
        assert ask(proxy, "/x?token=secret").status == 502
    (line,) = [record.getMessage() for record in caplog.records if record.name == "proxy"]
    assert line.startswith("reverse_proxy.upstream_error url='http://")
    assert "secret" not in line


def test_errors_of_the_table() -> None:
    with refusing() as url:
        assert ask(Relay(url), "/").status == 502
    with Upstream(scripts.hang) as upstream:
        response = ask(Relay(upstream.url, timeout=0.1), "/")
    assert (response.status, response.body) == (504, b"Gateway Timeout")


def test_example_2() -> None:
    with Upstream(scripts.ok) as upstream:
        title = "Example 2: Versioned API Proxy"
        app = example(title, "api-v2:8000", upstream)["app"]
        assert ask(app, "/api/users").status == 200
    assert upstream.requests[0].target == b"/api/v2/users"


def test_example_3(monkeypatch: pytest.MonkeyPatch) -> None:
    title = "Example 3: Service-to-Service Auth"
    monkeypatch.setenv("SERVICE_TOKEN", "token-1")
    with Upstream(scripts.ok) as upstream:
        proxy = example(title, "internal:9000", upstream)["proxy"]
        ask(proxy, "/", headers=[("Authorization", "Bearer client"), ("x-service-auth", "forged")])
    assert upstream.requests[0].values("x-service-auth") == [b"token-1"]
    assert upstream.requests[0].value("authorization") is None


def test_example_3_without_its_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    title = "Example 3: Service-to-Service Auth"
    monkeypatch.delenv("SERVICE_TOKEN", raising=False)
    with (
        Upstream(scripts.ok) as upstream,
        pytest.raises(TypeError, match=r"extra_request_headers.*X-Service-Auth"),
    ):
        example(title, "internal:9000", upstream)


@pytest.mark.parametrize(
    ("title", "number"),
    [
        ("Pitfall 1: Forgot startup/shutdown", 0),  # "wrong" there, and works here
        ("Pitfall 1: Forgot startup/shutdown", 1),
        ("1. Use Lifecycle Hooks", 0),
    ],
)
def test_with_and_without_hooks(title: str, number: int) -> None:
    code = [code for heading, code in examples() if heading == title][number]
    with Upstream(scripts.ok) as upstream:
        names: dict[str, Any] = {"Include": Include, "Ravyn": Ravyn, "proxy": Relay(upstream.url)}
        exec(compile(code, "example", "exec"), names)
        prefix = "/proxy" if "/proxy" in code else "/auth"
        assert ask(names["app"], prefix + "/login").status == 200
    assert upstream.requests[0].target == b"/login"


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [code for heading, code in examples() if heading.startswith("4. Use Environment")]
    with Upstream(scripts.ok) as upstream:
        monkeypatch.setenv("UPSTREAM_URL", upstream.url)
        assert ask(run(code)["proxy"], "/x").status == 200
    monkeypatch.delenv("UPSTREAM_URL")
    assert "localhost:8000" in repr(run(code)["proxy"])
