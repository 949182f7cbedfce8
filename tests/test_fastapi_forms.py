"""A form that an endpoint or a dependency has parsed goes upstream all the same."""

from __future__ import annotations

import email
import email.policy
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, File, Form, UploadFile
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from asgi_relay.fastapi import proxy_pass

from .support import scripts
from .support.client import fetch
from .support.servers import serve
from .support.site import FRAMEWORKS, Site, served
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.exchange import Request as Arrived

pytestmark = pytest.mark.usefixtures("unowned")

LARGE = bytes(range(256)) * 8192
"""More than Starlette keeps in memory of a file."""


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with served(request.param) as site:
        yield site


def multipart(octets: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """A form as a browser sends it: headers and body."""
    parts = [
        (b'form-data; name="a"', None, "wörter".encode()),
        (b'form-data; name="q%22"', None, b""),
        (b'form-data; name="f"; filename="\xc3\xa9.bin"', b"application/x", octets),
        (b'form-data; name="a"', None, b"again"),
    ]
    lines = []
    for disposition, kind, content in parts:
        lines += [b"--xYzZY\r\nContent-Disposition: ", disposition, b"\r\n"]
        lines += [b"Content-Type: ", kind, b"\r\n"] if kind else []
        lines += [b"\r\n", content, b"\r\n"]
    body = b"".join([*lines, b"--xYzZY--\r\n"])
    return [("Content-Type", 'multipart/form-data; boundary="xYzZY"')], body


def parsed(request: Arrived) -> list[tuple[str | None, str | None, str, bytes]]:
    """Name, file name, type and content of each part, as Python's email package reads them."""
    head = b"Content-Type: " + (request.value("content-type") or b"") + b"\r\n\r\n"
    message: Any = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


@pytest.mark.parametrize("octets", [b"", b"abc\0\r\n--x", LARGE], ids=["empty", "small", "large"])
def test_parts_and_files_go_with_their_length(site: Site, octets: bytes) -> None:
    headers, body = multipart(octets)
    with Upstream(scripts.ok) as upstream, refusing() as down:

        async def endpoint(request: Request) -> Response:
            form = await request.form()
            assert await form["f"].read() == octets  # type: ignore[union-attr]
            with pytest.raises(Exception, match="cannot connect"):
                await proxy_pass(request, down)
            answer = await proxy_pass(request, upstream.url)
            answer.background = BackgroundTask(form.close)
            return answer

        response = site.doing(endpoint).fetch(method="POST", headers=headers, body=body)
        assert response.status == 200
        request = upstream.requests[0].wait_complete()
    assert request.value("content-length") == str(request.body_size).encode()
    assert request.value("transfer-encoding") is None
    assert parsed(request) == [
        ("a", None, "text/plain", "wörter".encode()),
        ("q%22", None, "text/plain", b""),
        ("f", "é.bin", "application/x", octets),
        ("a", None, "text/plain", b"again"),
    ]


def test_an_urlencoded_form_goes_with_its_length(site: Site) -> None:
    with Upstream(scripts.ok) as upstream:

        async def endpoint(request: Request) -> Response:
            assert (await request.form())["a"] == "1 ö"
            return await proxy_pass(request, upstream.url)

        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        site.doing(endpoint).fetch(method="POST", headers=headers, body=b"a=1+%C3%B6&b=&b=%26")
        request = upstream.requests[0].wait_complete()
    assert request.body == b"a=1+%C3%B6&b=&b=%26"
    assert request.value("content-length") == b"19"


def test_fastapis_own_form_parameters() -> None:
    app = FastAPI()
    headers, body = multipart(b"file")

    async def token(a: Annotated[str, Form()]) -> str:
        return a

    with Upstream(scripts.ok) as upstream:

        @app.post("/", response_model=None)
        async def endpoint(
            request: Request, f: Annotated[UploadFile, File()], a: str = Depends(token)
        ) -> Response:
            assert (f.size, a) == (4, "again")
            return await proxy_pass(request, upstream.url, additional_headers={"X-Token": "yes"})

        with serve(app) as server:
            assert fetch(server.port, method="POST", headers=headers, body=body).status == 200
        request = upstream.requests[0].wait_complete()
    assert [part[3] for part in parsed(request)][2] == b"file"
    assert request.value("x-token") == b"yes"


def test_a_form_whose_files_are_closed_cannot_be_sent(site: Site) -> None:
    raised: list[str] = []

    async def endpoint(request: Request) -> Response:
        async with request.form():
            pass
        with pytest.raises(RuntimeError) as error:
            await proxy_pass(request, "http://127.0.0.1:9")
        raised.append(str(error.value))
        return Response()

    headers, body = multipart(b"file")
    assert site.doing(endpoint).fetch(method="POST", headers=headers, body=body).status == 200
    assert "closed" in raised[0]
