"""Upstreams that speak TLS or listen on a Unix socket: whom to trust, and who we are."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme

from asgi_relay import ConnectError, Limits, Relay, TLSError

from .support import scripts
from .support.authority import Authority
from .support.client import TruncatedError
from .support.direct import Call
from .support.front import Front, called, relayed
from .support.records import Records
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from pathlib import Path

    from .support.client import Response


def assert_tls_error(response: Response, upstream: Upstream) -> None:
    """A 502 that tells no more than that; no request has reached the upstream."""
    assert response.status == 502
    assert response.value("content-type") == b"text/plain; charset=utf-8"
    assert response.body.startswith(b"Upstream error: ")
    assert response.body.endswith(b"(TLSError)")
    for inside in (b"127.0.0.1", b".pem", b"Traceback"):
        assert inside not in response.body
    assert upstream.requests == []


# -- whom to trust ---------------------------------------------------------------------------------


def test_with_a_path_its_authorities_are_trusted(authority: Authority) -> None:
    with Upstream(scripts.echo, tls=authority.server()) as upstream:
        with relayed(upstream.url, verify=str(authority.pem)) as front:
            assert front.fetch(method="POST", body=b"hello").body == b"hello"
        assert upstream.requests[0].value("host") == upstream.authority.encode()


def test_a_path_may_be_a_path_object_or_a_folder(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "authority.pem").write_bytes(authority.pem.read_bytes())
    with Upstream(scripts.ok, tls=authority.server()) as upstream:
        for verify in (authority.pem, tmp_path, str(tmp_path)):
            with relayed(upstream.url, verify=verify) as front:
                assert front.fetch().body == b"ok"


def test_each_start_reads_the_files_again(authority: Authority, tmp_path: Path) -> None:
    """The constructor does so for the first; what becomes of them later changes no connection."""
    file = tmp_path / "authorities.pem"
    file.write_bytes(authority.pem.read_bytes())
    other = trustme.CA()
    no_keepalive = Limits(max_keepalive_connections=0)

    async def status(relay: Relay) -> int:
        call = Call()
        await call(relay)
        return call.status

    async def run() -> list[int]:
        relay = Relay(upstream.url, verify=file, limits=no_keepalive)
        other.cert_pem.write_to_path(file)
        async with relay:
            before = [await status(relay), await status(relay)]
        async with relay:
            return [*before, await status(relay)]

    with Upstream(scripts.ok, tls=authority.server()) as upstream:
        assert anyio.run(run) == [200, 200, 502]


def test_by_default_an_unknown_authority_is_not_trusted(authority: Authority) -> None:
    with Upstream(scripts.ok, tls=authority.server()) as upstream, relayed(upstream.url) as front:
        assert_tls_error(front.fetch(), upstream)


def test_with_a_path_no_other_authority_is_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    with (
        Upstream(scripts.ok, tls=other.server()) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        assert_tls_error(front.fetch(), upstream)


@pytest.mark.parametrize("names", [("other.test",), ("127.0.0.2",), ("localhost",)])
def test_a_certificate_for_another_host_is_not_trusted(
    authority: Authority, names: tuple[str, ...]
) -> None:
    with (
        Upstream(scripts.ok, tls=authority.server(*names)) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        assert_tls_error(front.fetch(), upstream)


def test_a_certificate_is_for_the_name_that_was_configured(authority: Authority) -> None:
    with Upstream(scripts.ok, tls=authority.server("localhost")) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        # The client's Host has no say in it, preserved or not.
        with relayed(url, verify=str(authority.pem), preserve_host=True) as front:
            assert front.fetch(host="other.test").body == b"ok"


def test_with_verify_false_anyone_is_trusted(authority: Authority) -> None:
    with (
        Upstream(scripts.ok, tls=authority.server("other.test")) as upstream,
        relayed(upstream.url, verify=False) as front,
    ):
        assert front.fetch().body == b"ok"


def test_an_upstream_that_speaks_no_tls_is_a_502() -> None:
    def plain(connection: Any) -> bool:
        connection.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return False

    with (
        Upstream(scripts.ok, on_connect=plain) as upstream,
        relayed(upstream.url.replace("http:", "https:")) as front,
    ):
        assert_tls_error(front.fetch(), upstream)


def test_an_upstream_that_speaks_tls_to_a_plain_request_is_a_502(authority: Authority) -> None:
    with (
        Upstream(scripts.ok, tls=authority.server()) as upstream,
        relayed(upstream.url.replace("https:", "http:")) as front,
    ):
        response = front.fetch()
    assert response.status == 502
    assert response.body.startswith(b"Upstream error: ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(authority: Authority, version: ssl.TLSVersion) -> None:
    server = authority.server()
    server.minimum_version = server.maximum_version = version
    with (
        Upstream(scripts.ok, tls=server) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        for _ in range(3):
            assert front.fetch(method="POST", body=b"x").body == b"ok"
        assert len(upstream.connections) == 1


def test_a_certificate_that_has_expired_is_not_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=yesterday).configure_cert(context)
    with (
        Upstream(scripts.ok, tls=context) as upstream,
        relayed(upstream.url, verify=tmp_path / "authority.pem") as front,
    ):
        assert_tls_error(front.fetch(), upstream)


def test_a_refused_connection_is_no_tls_error() -> None:
    with refusing() as url, relayed(url.replace("http:", "https:")) as front:
        assert front.fetch().body.endswith(b"(ConnectError)")


def test_a_tls_error_is_a_kind_of_connect_error_and_tried_again(authority: Authority) -> None:
    assert issubclass(TLSError, ConnectError)
    records = Records()
    settings = {"max_retries": 2, "retry_backoff_factor": 0, "logger": records.logger}
    with Upstream(scripts.ok, tls=authority.server()) as upstream:
        with relayed(upstream.url, **settings) as front:
            assert_tls_error(front.fetch(method="POST", body=b"x"), upstream)
        upstream.wait_connections(3)
    assert len(records.all) == 3
    assert all("TLSError" in line for line in records.lines)


# -- who we are ------------------------------------------------------------------------------------


def combined(authority: Authority, directory: Path) -> Path:
    """One PEM file with certificate and key."""
    issued = authority.certificate("client.test")
    path = directory / "both.pem"
    path.write_bytes(issued.chain.read_bytes() + issued.key.read_bytes())
    return path


def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    issued = authority.certificate("client.test")
    both = combined(authority, tmp_path)
    certs: list[Any] = [both, str(both), (issued.chain, issued.key)]
    certs.append([str(issued.chain), str(issued.key)])
    with Upstream(scripts.ok, tls=authority.server(client_certificate=True)) as upstream:
        for cert in certs:
            with relayed(upstream.url, verify=str(authority.pem), cert=cert) as front:
                assert front.fetch().body == b"ok"


def test_without_a_client_certificate_an_upstream_that_wants_one_is_a_502(
    authority: Authority,
) -> None:
    with Upstream(scripts.ok, tls=authority.server(client_certificate=True)) as upstream:
        with relayed(upstream.url, verify=str(authority.pem)) as front:
            assert front.fetch().status == 502
        assert upstream.requests == []


def test_a_client_certificate_of_another_authority_is_a_502(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path).certificate("client.test")
    settings = {"verify": str(authority.pem), "cert": (other.chain, other.key)}
    with Upstream(scripts.ok, tls=authority.server(client_certificate=True)) as upstream:
        with relayed(upstream.url, **settings) as front:
            assert front.fetch().status == 502
        assert upstream.requests == []


def test_a_key_that_does_not_belong_to_the_certificate_is_named(authority: Authority) -> None:
    first, second = authority.certificate("a.test"), authority.certificate("b.test")
    with (
        Upstream(scripts.ok, tls=authority.server()) as upstream,
        pytest.raises(ValueError, match="cert"),
    ):
        called(Call(), upstream.url, verify=str(authority.pem), cert=(first.chain, second.key))


# -- bodies over TLS -------------------------------------------------------------------------------


def test_large_bodies_pass_both_ways(authority: Authority) -> None:
    body = b"".join(b"%07d\n" % number for number in range(400_000))
    with Upstream(scripts.echo, tls=authority.server()) as upstream:
        with relayed(upstream.url, verify=str(authority.pem)) as front:
            for _ in range(2):
                assert front.fetch(method="PUT", body=body).body == body
        assert len(upstream.connections) == 1


def cut(front: Front) -> None:
    with pytest.raises(TruncatedError):
        front.fetch()


@pytest.mark.parametrize("script", [scripts.cut_length(), scripts.cut_chunked()])
def test_a_cut_answer_over_tls_is_cut(script: Any, authority: Authority) -> None:
    with (
        Upstream(script, tls=authority.server()) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        cut(front)


def test_a_body_without_framing_that_ends_without_close_notify_is_cut(authority: Authority) -> None:
    """RFC 9112 §9.8: only the closure alert tells it from an attack that cuts it short."""

    def script(exchange: Any) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        exchange.connection.reset_on_close()
        exchange.close()

    with (
        Upstream(script, tls=authority.server()) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        cut(front)


def test_a_body_without_framing_that_ends_with_close_notify_is_whole(authority: Authority) -> None:
    script = scripts.say(b"HTTP/1.1 200 OK\r\n\r\nwhole", close=True)
    with (
        Upstream(script, tls=authority.server()) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        assert front.fetch().body == b"whole"


def test_a_kept_tls_connection_that_closed_while_idle_costs_nobody_an_error(
    authority: Authority,
) -> None:
    with (
        Upstream(scripts.echo, tls=authority.server()) as upstream,
        relayed(upstream.url, verify=str(authority.pem)) as front,
    ):
        for _ in range(3):
            assert front.fetch(method="POST", body=b"x").body == b"x"
            upstream.connections[-1].close()


# -- Unix sockets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http+unix", "ws+unix"])
def test_an_upstream_on_a_unix_socket(tmp_path: Path, scheme: str) -> None:
    with Upstream(scripts.echo, unix=tmp_path / "up.sock") as upstream:
        with relayed(upstream.url.replace("http+unix", scheme)) as front:
            for _ in range(2):
                assert front.fetch("/x?y", method="POST", body=b"hello").body == b"hello"
        assert len(upstream.connections) == 1
        assert upstream.requests[0].target == b"/x?y"
        assert upstream.requests[0].value("host") == b"localhost"


def test_a_unix_socket_with_a_base_path_and_odd_characters(tmp_path: Path) -> None:
    with Upstream(scripts.ok, unix=tmp_path / "a b%é.sock") as upstream:
        with relayed(f"{upstream.url}/base", upstream_prefix="/api") as front:
            assert front.fetch("/x").body == b"ok"
        assert upstream.requests[0].target == b"/base/api/x"


def test_tls_over_a_unix_socket(tmp_path: Path, authority: Authority) -> None:
    tls = authority.server("localhost")
    with Upstream(scripts.ok, unix=tmp_path / "up.sock", tls=tls) as upstream:
        url = upstream.url.replace("http+unix", "https+unix")
        with relayed(url, verify=str(authority.pem)) as front:
            assert front.fetch().body == b"ok"


def test_a_relay_to_a_unix_socket_shows_its_target(tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock").replace("/", "%2F")
    assert f"http+unix://{path}" in repr(Relay(f"http+unix://{path}"))
