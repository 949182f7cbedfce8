"""TLS on both sides of the gateway, as OpenSSL (Python's `ssl`) sees it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from .support import scripts
from .support.authority import Authority
from .support.client import Client, fetch
from .support.gateway import configured
from .support.ports import port_of, reserve
from .support.upstream import Upstream
from .support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .support.servers import Certificate

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
FORMATS = {
    "pkcs1.test": (True, PrivateFormat.TraditionalOpenSSL, b"BEGIN RSA PRIVATE KEY"),
    "pkcs8.test": (True, PrivateFormat.PKCS8, b"BEGIN PRIVATE KEY"),
    "sec1.test": (False, PrivateFormat.TraditionalOpenSSL, b"BEGIN EC PRIVATE KEY"),
}
ASK = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def files(issued: Certificate) -> dict[str, str]:
    return {"cert_file": str(issued.chain), "key_file": str(issued.key)}


def own(authority: Authority, issued: Certificate) -> ssl.SSLContext:
    """A client that trusts the authority, and shows this certificate."""
    context = authority.client()
    context.load_cert_chain(issued.chain, issued.key)
    return context


def shake(port: int, context: ssl.SSLContext, name: str | None) -> ssl.SSLSocket:
    """A connection whose handshake is over."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except OSError:
        plain.close()
        raise


def names_of(sock: ssl.SSLSocket) -> list[str]:
    """The names in the certificate that the other side has shown."""
    shown = sock.getpeercert(binary_form=True)
    assert shown is not None
    alternative = x509.load_der_x509_certificate(shown).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return alternative.value.get_values_for_type(x509.DNSName)


def ask(sock: ssl.SSLSocket) -> bytes:
    """What it answers, to its end, which has to be told by close_notify."""
    sock.sendall(ASK)
    answer = b""
    while piece := sock.recv(65536):
        answer += piece
    return answer


def rewritten(issued: Certificate, form: PrivateFormat) -> None:
    """Put the certificate's key into another format."""
    key = load_pem_private_key(issued.key.read_bytes(), None)
    issued.key.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))


@pytest.fixture(scope="module")
def port(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A gateway with a certificate for each format of a key, and one for all below a name."""
    certificates = []
    for name, (rsa_key, form, mark) in FORMATS.items():
        issued = authority.certificate(name, rsa_key=rsa_key)
        rewritten(issued, form)
        assert mark in issued.key.read_bytes()
        certificates.append(files(issued))
    certificates.append(files(authority.certificate("*.wild.test")))
    folder = tmp_path_factory.mktemp("gateway")
    listener = {"port": 0, "ssl": {"certificates": certificates}}
    with (
        Upstream(scripts.reflect) as upstream,
        configured(
            folder, [{"targets": upstream.url}], server={"listeners": [listener]}
        ) as gateway,
    ):
        yield gateway.port


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("name", [*FORMATS, "a.wild.test"])
def test_the_certificate_is_the_name_s(
    authority: Authority, port: int, name: str, version: ssl.TLSVersion
) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    with shake(port, context, name) as sock:
        assert sock.version() == version.name.replace("_", ".")
        assert names_of(sock) == [name.replace("a.wild", "*.wild")]
        answer = ask(sock)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-forwarded-proto: https\r\n" in answer


@pytest.mark.parametrize("name", ["unknown.test", "wild.test", "a.b.wild.test", None])
def test_other_names_are_shown_the_first(authority: Authority, port: int, name: str | None) -> None:
    context = authority.client()
    context.check_hostname = False
    with shake(port, context, name) as sock:
        assert names_of(sock) == ["pkcs1.test"]
    if name is not None:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            shake(port, authority.client(), name)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
def test_alpn(authority: Authority, port: int, offered: list[str], chosen: str | None) -> None:
    context = authority.client()
    if offered:
        context.set_alpn_protocols(offered)
    with shake(port, context, "sec1.test") as sock:
        assert sock.selected_alpn_protocol() == chosen
        if chosen != "h2":
            assert ask(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_session_is_resumed(authority: Authority, port: int) -> None:
    context = authority.client()
    with shake(port, context, "sec1.test") as sock:
        ask(sock)
        assert not sock.session_reused
        session = sock.session
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    with context.wrap_socket(plain, server_hostname="sec1.test", session=session) as sock:
        assert sock.session_reused
        assert ask(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_octets_that_are_no_handshake(authority: Authority, port: int) -> None:
    for octets in (ASK, b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\0" * 1000):
        with Client(port) as client:
            client.send(octets)
            assert b"HTTP" not in client.read_until_closed()
    with shake(port, authority.client(), "sec1.test") as sock:
        assert ask(sock).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_clients_that_must_show_a_certificate(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    stranger = Authority(tmp_path)
    listener = {"enabled": True, "client_ca_file": str(authority.pem)}
    listener |= files(authority.certificate("localhost"))
    with (
        Upstream(scripts.ok) as upstream,
        configured(tmp_path, [{"targets": upstream.url}], ssl=listener) as gateway,
    ):
        refused = [authority.client(), own(authority, stranger.certificate("client.test"))]
        for context in refused:
            context.minimum_version = context.maximum_version = version
            # With TLS 1.3 the client's handshake is over before it is told.
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                shake(gateway.port, context, "localhost") as sock,
            ):
                assert ask(sock)
        assert upstream.connections == []
        context = own(authority, authority.certificate("client.test"))
        context.minimum_version = context.maximum_version = version
        with shake(gateway.port, context, "localhost") as sock:
            assert ask(sock).endswith(b"\r\n\r\nok")


def test_targets_with_tls(authority: Authority, tmp_path: Path) -> None:
    """An authority of one's own, names, and certificates that the target wants to see."""
    stranger = Authority(tmp_path)
    trusted = {"ca_file": str(authority.pem)}
    client = files(authority.certificate("gateway.test"))
    with (
        Upstream(scripts.ok, tls=authority.server("inner.test")) as inner,
        Upstream(scripts.ok, tls=authority.server(client_certificate=True)) as strict,
    ):
        wanted: dict[str, tuple[Upstream, dict[str, Any], int]] = {
            "/platform": (strict, {}, 502),
            "/other-name": (inner, trusted, 502),
            "/name": (inner, {**trusted, "server_name": "inner.test"}, 200),
            "/any": (inner, {"verify": False}, 200),
            "/no-certificate": (strict, trusted, 502),
            "/certificate": (strict, {**trusted, **client}, 200),
            "/stranger": (strict, {**trusted, **files(stranger.certificate("gateway.test"))}, 502),
        }
        routes = [
            {"path": path, "targets": upstream.url, "tls": tls}
            for path, (upstream, tls, _) in wanted.items()
        ]
        with configured(tmp_path, routes) as gateway:
            found = {path: fetch(gateway.port, path).status for path in wanted}
    assert found == {path: status for path, (_, _, status) in wanted.items()}


def test_ports_that_the_system_chooses(authority: Authority, tmp_path: Path) -> None:
    certificate = files(authority.certificate("localhost"))
    listeners = [
        {"port": 0},
        {"port": 0, "redirect_https": True},
        {"port": 0, "ssl": certificate},
    ]
    with Upstream(scripts.ok) as upstream:
        routes = [{"targets": upstream.url}]
        with configured(tmp_path, routes, server={"listeners": listeners}) as gateway:
            plain, redirect, secure = gateway.ports
            assert fetch(plain).status == 200
            place = f"https://localhost:{secure}/".encode()
            assert fetch(redirect, host="localhost").value("location") == place
            with Client(secure, "localhost", tls=authority.client()) as client:
                assert client.request().status == 200
    rows = [line.split(maxsplit=2) for line in gateway.lines if line.startswith("  listening")]
    assert rows == [
        ["listening", f"http://127.0.0.1:{plain}"],
        ["listening", f"http://127.0.0.1:{redirect}", f"redirects to https, port {secure}"],
        ["listening", f"https://127.0.0.1:{secure}"],
    ]


def test_a_listener_that_sends_clients_to_https(authority: Authority, tmp_path: Path) -> None:
    certificate = files(authority.certificate("localhost"))
    reserved = reserve("127.0.0.2")
    secure = port_of(reserved)
    listeners = [
        {"host": "localhost", "port": 0, "redirect_https": True},
        {"port": 0, "redirect_https": 443},
        {"host": "127.0.0.2", "port": secure, "ssl": certificate},
    ]
    with reserved, Upstream(scripts.ok) as upstream:
        routes = [{"targets": upstream.url}]
        with configured(tmp_path, routes, server={"listeners": listeners}) as gateway:
            first, second, _ = gateway.ports
            for port, host, place in (
                (first, "example.test:80", f"https://example.test:{secure}"),
                (second, "example.test:80", "https://example.test"),
                (second, "[::1]:80", "https://[::1]"),
            ):
                answer = fetch(port, "/a%2Fb//?c=//d", method="POST", host=host, body=b"x")
                assert answer.status == 308
                assert answer.value("location") == f"{place}/a%2Fb//?c=//d".encode()
            # Not a place to be sent to: who reads it may be elsewhere.
            for host in ("example.test/..", "a@b", ""):
                assert fetch(first, "/", host=host).status == 400
        assert upstream.connections == []
