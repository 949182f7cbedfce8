"""Secrets in the configuration: sent to the upstream, and shown to nobody else."""

from __future__ import annotations

import base64
import logging
import traceback
from typing import Any

import pytest

from asgi_relay import Relay

from .support import scripts
from .support.direct import Call
from .support.upstream import Upstream, refusing

SECRET = "s3cret"


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


def with_user_information(url: str, information: str) -> str:
    return url.replace("://", f"://{information}@")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("information", "sent"),
    [
        ("user:s3cret", "user:s3cret"),
        ("user", "user:"),
        ("user:", "user:"),
        (":s3cret", ":s3cret"),
        ("us%40er:s3%3Acr%2Fet", "us@er:s3:cr/et"),
        ("%C3%BC:%E2%82%AC", "ü:€"),
        ("us@er:s3cret", "us@er:s3cret"),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_user_information_goes_as_basic_authorization(information: str, sent: str) -> None:
    with Upstream(scripts.ok) as upstream:
        async with Relay(with_user_information(upstream.url, information)) as relay:
            await Call()(relay)
    assert upstream.requests[0].values("authorization") == [basic(sent)]
    assert upstream.requests[0].value("host") == upstream.authority.encode()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_user_information_replaces_what_the_client_sent() -> None:
    with Upstream(scripts.ok) as upstream:
        async with Relay(with_user_information(upstream.url, "user:s3cret")) as relay:
            await Call(headers=[(b"host", b"h"), (b"authorization", b"Bearer client")])(relay)
    assert upstream.requests[0].values("authorization") == [basic("user:s3cret")]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_extra_authorization_is_stronger_than_user_information() -> None:
    extra = {"AUTHORIZATION": "Bearer ours"}
    with Upstream(scripts.ok) as upstream:
        url = with_user_information(upstream.url, "user:s3cret")
        async with Relay(url, extra_request_headers=extra) as relay:
            await Call()(relay)
    assert upstream.requests[0].values("authorization") == [b"Bearer ours"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:s3cret@h:8000/base", "<Relay to http://h:8000/base, 2 retries, not started>"),
        ("https://s3cret@h", "<Relay to https://h, 2 retries, not started>"),
        ("ws://:s3cret@[::1]:9", "<Relay to http://[::1]:9, 2 retries, not started>"),
    ],
)
def test_a_relay_shows_no_credentials(url: str, shown: str) -> None:
    headers = {"Authorization": SECRET, "X-Api-Key": SECRET}
    relay = Relay(url, verify=False, extra_request_headers=headers, max_retries=2)
    assert (repr(relay), str(relay), f"{relay}") == (shown, shown, shown)


def test_a_relay_to_a_socket_shows_no_credentials() -> None:
    relay = Relay("http+unix://user:s3cret@%2Frun%2Fapp.sock/base")
    assert repr(relay).startswith("<Relay to http+unix://%2Frun%2Fapp")
    assert SECRET not in repr(relay)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_relay_that_runs_shows_no_credentials_either() -> None:
    async with Relay("http://user:s3cret@h:1") as relay:
        assert repr(relay) == "<Relay to http://h:1, 0 retries, running>"


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("http://user:s3cret@h:99999", {}),
        ("http://user:s3cret@h:0", {}),
        ("http://user:s3cret@", {}),
        ("http://user:s3cret@h/a b", {}),
        ("http://user:s3cret@h?x=y", {}),
        ("http://user:s3cret@h/../x", {}),
        ("ftp://user:s3cret@h", {}),
        ("user:s3cret@h", {}),
        (b"http://user:s3cret@h", {}),
        ("http://user:s3cret@h/\udc80", {}),
        ("http://h", {"extra_request_headers": {"X": "s3cret\r\n"}}),
        ("http://h", {"extra_request_headers": {"X": "s3cret\udc80"}}),
        ("http://h", {"extra_request_headers": {"X": b"s3cret"}}),
        ("http://h", {"extra_request_headers": {"X": ["s3cret"]}}),
        ("http://h", {"extra_request_headers": {"X Y": "s3cret"}}),
        ("http://h", {"extra_request_headers": {5: "s3cret"}}),
        ("http://h", {"extra_request_headers": [("X", "s3cret")]}),
        ("http://h", {"extra_request_headers": "X: s3cret"}),
        ("http://h", {"extra_request_headers": {"X": "s3cret", "Y": None}}),
        ("http://user:s3cret@h", {"max_retries": -1}),
        ("http://h", {"cert": ("a.pem", "a.key", "s3cret")}),
        ("http://h", {"cert": ("a.pem", "a.key", "s3cret", "more")}),
    ],
    ids=ascii,
)
def test_no_error_repeats_a_secret(url: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        Relay(url, **parameters)
    # Without the source lines, which are this file's.
    report = traceback.TracebackException.from_exception(raised.value, capture_locals=False)
    for error in (report, report.__cause__, report.__context__):
        assert error is None or SECRET not in "".join(error.format_exception_only())
    assert SECRET not in repr(raised.value.args)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_neither_log_nor_client_sees_user_information(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with refusing() as url, caplog.at_level(logging.DEBUG):
        logger = logging.getLogger("relay.test")
        async with Relay(with_user_information(url, "user:s3cret"), logger=logger) as relay:
            call = await Call()(relay)
    assert len(caplog.records) == 1
    assert SECRET not in caplog.text
    assert SECRET not in repr(vars(caplog.records[0]))
    assert SECRET.encode() not in call.body
