"""WebSockets over TLS (`wss`) and over Unix sockets."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .support.authority import Authority
from .support.front import relayed
from .support.upstream import Upstream
from .support.websocket import Accept, WebSocketClient, echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.client import Response

LARGE = bytes(range(256)) * 8000


def refused(url: str, **settings: Any) -> Response:
    with relayed(url, **settings) as front, WebSocketClient(front.port) as client:
        return client.shake()


@contextmanager
def conversing(url: str, **settings: Any) -> Iterator[WebSocketClient]:
    """A client that has been through some messages, and closes at the end."""
    with relayed(url, **settings) as front, WebSocketClient(front.port) as client:
        client.open("/x?y")
        for message in ("hello", b"\0\xff", "", LARGE):
            client.send_message(message)
            assert client.receive_message() == message
        yield client
        assert client.finish_close(4000, "bye") == (4000, "bye")


def wss(upstream: Upstream) -> str:
    return upstream.url.replace("https:", "wss:")


# -- TLS -------------------------------------------------------------------------------------------


def test_lilya_defect_wss_is_spoken_with_tls(authority: Authority) -> None:
    """Lilya makes it `ws`."""
    with Upstream(Accept(echo), tls=authority.server()) as upstream:
        with conversing(wss(upstream), verify=str(authority.pem)):
            pass
        request = upstream.requests[0]
        assert request.target == b"/x?y"
        assert request.value("host") == upstream.authority.encode()
        # Of the client's connection, which is plain.
        assert request.value("x-forwarded-proto") == b"http"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(authority: Authority, version: ssl.TLSVersion) -> None:
    server = authority.server()
    server.minimum_version = server.maximum_version = version
    with (
        Upstream(Accept(echo), tls=server) as upstream,
        conversing(wss(upstream), verify=str(authority.pem)),
    ):
        pass


def test_no_other_protocol_than_http_1_is_offered(authority: Authority) -> None:
    """A server that prefers HTTP/2 would not know an Upgrade."""
    tls = authority.server()
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with (
        Upstream(Accept(echo), tls=tls) as upstream,
        conversing(wss(upstream), verify=str(authority.pem)),
    ):
        sock = upstream.connections[0].sock
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.selected_alpn_protocol() in {"http/1.1", None}


def test_an_unknown_authority_is_a_502(authority: Authority, tmp_path: Path) -> None:
    with Upstream(Accept(echo), tls=Authority(tmp_path).server()) as upstream:
        for settings in ({}, {"verify": str(authority.pem)}):
            response = refused(wss(upstream), **settings)
            assert (response.status, response.body[-10:]) == (502, b"(TLSError)")
        assert upstream.requests == []


def test_a_certificate_for_another_host_is_a_502_unless_anyone_is_trusted(
    authority: Authority,
) -> None:
    with Upstream(Accept(echo), tls=authority.server("other.test")) as upstream:
        assert refused(wss(upstream), verify=str(authority.pem)).status == 502
        assert upstream.requests == []
        with conversing(wss(upstream), verify=False):
            pass


def test_our_certificate_is_shown(authority: Authority) -> None:
    own = authority.certificate("client.test")
    with Upstream(Accept(echo), tls=authority.server(client_certificate=True)) as upstream:
        assert refused(wss(upstream), verify=str(authority.pem)).status == 502
        assert upstream.requests == []
        settings = {"verify": str(authority.pem), "cert": (str(own.chain), str(own.key))}
        with conversing(wss(upstream), **settings):
            pass


def test_an_upstream_that_speaks_no_tls_is_a_502() -> None:
    def plain(connection: Any) -> bool:
        connection.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return False

    with Upstream(Accept(), on_connect=plain) as upstream:
        assert refused(upstream.url.replace("http:", "wss:")).status == 502


@pytest.mark.parametrize("polite", [True, False], ids=["close_notify", "fin"])
def test_a_tls_upstream_that_vanishes_is_1011(authority: Authority, polite: bool) -> None:
    accept = Accept()
    with (
        Upstream(accept, tls=authority.server()) as upstream,
        relayed(wss(upstream), verify=str(authority.pem)) as front,
        WebSocketClient(front.port) as client,
    ):
        client.open()
        peer = accept.peer()
        peer.send_text("last words")
        if polite:
            # The alert alone (RFC 8446 §6.1).
            secure = peer.sock
            assert isinstance(secure, ssl.SSLSocket)
            secure.settimeout(0)
            with pytest.raises((ssl.SSLError, OSError)):
                secure.unwrap()
        else:
            socket.socket.shutdown(peer.sock, socket.SHUT_WR)
        assert client.receive_message() == "last words"
        assert client.expect_close()[0] == 1011


# -- Unix sockets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http+unix", "ws+unix"])
def test_an_upstream_on_a_unix_socket(tmp_path: Path, scheme: str) -> None:
    with Upstream(Accept(echo), unix=tmp_path / "up.sock") as upstream:
        with conversing(upstream.url.replace("http+unix", scheme), upstream_prefix="/api"):
            pass
        assert upstream.requests[0].target == b"/api/x?y"
        assert upstream.requests[0].value("host") == b"localhost"


def test_tls_over_a_unix_socket(tmp_path: Path, authority: Authority) -> None:
    tls = authority.server("localhost")
    with Upstream(Accept(echo), unix=tmp_path / "up.sock", tls=tls) as upstream:
        url = upstream.url.replace("http+unix", "wss+unix")
        with conversing(url, verify=str(authority.pem)):
            pass


def test_a_unix_socket_that_is_not_there_is_a_502(tmp_path: Path) -> None:
    path = str(tmp_path / "no.sock").replace("/", "%2F")
    response = refused(f"ws+unix://{path}")
    assert response.status == 502
    assert b"no.sock" not in response.body
