"""Headers on their way to the upstream: what passes, what is computed, what never crosses.

The way back is in test_response_headers, cookies are in test_cookies.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from .support import scripts
from .support.direct import Call
from .support.front import called, relayed
from .support.upstream import Upstream

if TYPE_CHECKING:
    from .support.exchange import Request
    from .support.wire import HeaderItems

HOP_BY_HOP = [
    ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authorization", "Basic eDp5"),
    ("Proxy-Authenticate", "Basic"),
    ("TE", "trailers"),
    ("Trailer", "X-Checksum"),
    ("Upgrade", "h2c"),
]


def sent(headers: HeaderItems = (), *, method: str = "GET", **settings: Any) -> Request:
    """What the upstream gets for a request with these headers."""
    with Upstream(scripts.ok) as upstream, relayed(upstream.url, **settings) as front:
        assert front.fetch("/x", method=method, headers=headers).status == 200
        return upstream.requests[0]


def given(call: Call, **settings: Any) -> Request:
    """What the upstream gets for a scope."""
    with Upstream(scripts.ok) as upstream:
        called(call, upstream.url, **settings)
        return upstream.requests[0]


# -- what passes -----------------------------------------------------------------------------------


def test_nothing_is_invented() -> None:
    """No User-Agent, no Accept, no Accept-Encoding, no body headers: only what a proxy computes."""
    request = sent()
    names = sorted(name.lower() for name, _ in request.headers)
    assert names == [b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"]


def test_duplicates_stay_in_order() -> None:
    headers = [
        ("X-A", "1"),
        ("X-B", "2"),
        ("x-a", "3"),
        ("Accept", "a"),
        ("X-A", ""),
        ("Accept", "b"),
    ]
    request = sent(headers)
    assert request.values("x-a") == [b"1", b"3", b""]
    assert request.values("accept") == [b"a", b"b"]


def test_lilya_defect_values_that_are_not_ascii_pass_as_octets() -> None:
    """Lilya answers with a 500."""
    utf_8, latin_1 = "€ ü".encode(), b"caf\xe9 \x80\xff"
    request = sent([("X-Utf-8", utf_8), ("X-Latin-1", latin_1)])
    assert request.value("x-utf-8") == utf_8
    assert request.value("x-latin-1") == latin_1


def test_a_long_value_and_many_lines_pass() -> None:
    headers = [(f"X-{number}", str(number)) for number in range(150)]
    request = sent([*headers, ("X-Long", "x" * 30_000)])
    assert len(request.value("x-long") or b"") == 30_000
    assert all(request.value(name) == value.encode() for name, value in headers)


def test_end_to_end_headers_pass() -> None:
    headers = [
        ("User-Agent", "test/1"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, br"),
        ("Authorization", "Bearer x"),
        ("Cookie", "a=b; c=d"),
        ("Origin", "https://relay.test"),
        ("Referer", "https://relay.test/"),
        ("Range", "bytes=0-9"),
        ("If-None-Match", '"x"'),
        ("Via", "1.1 other"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Request-ID", "1"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    request = sent(headers)
    assert [request.value(name) for name, _ in headers] == [value.encode() for _, value in headers]


# -- what never crosses ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), HOP_BY_HOP)
def test_hop_by_hop_headers_go(name: str, value: str) -> None:
    # Not over a server, as several of these mean something to one.
    request = given(Call(headers=[(name.lower().encode(), value.encode())]))
    assert request.values(name) == []


@pytest.mark.parametrize(
    "connection",
    [
        [b"X-Hop"],
        [b"x-hop"],
        [b"keep-alive, X-Hop"],
        [b"close,x-hop ,\tfoo"],
        [b"keep-alive", b"X-Hop"],
        [b",, X-Hop,,"],
    ],
)
def test_lilya_defect_what_connection_names_goes(connection: list[bytes]) -> None:
    """Lilya and others pass `X-Hop` on although `Connection: X-Hop` asks them not to."""
    lines = [(b"x-hop", b"1"), *((b"connection", value) for value in connection), (b"x-hop", b"2")]
    request = given(Call(headers=[*lines, (b"x-other", b"3")]))
    assert request.values("x-hop") == []
    assert request.values("connection") == []
    assert request.value("x-other") == b"3"


def test_pyserve_defect_a_connection_with_two_names_is_recognised() -> None:
    """PyServe does not see `Upgrade` in `Connection: keep-alive, Upgrade`."""
    lines = [(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"websocket"), (b"x-a", b"1")]
    request = given(Call(headers=lines))
    assert request.values("upgrade") == []
    assert request.value("x-a") == b"1"


@pytest.mark.parametrize("name", [b"host", b"content-length", b"x-forwarded-for"])
def test_connection_cannot_take_away_what_the_proxy_computes(name: bytes) -> None:
    lines = [(b"host", b"relay.test"), (b"connection", name), (b"content-length", b"2")]
    request = given(Call("POST", headers=lines, pieces=[b"ok"]))
    assert request.value("host") is not None
    assert request.value("x-forwarded-for") == b"192.0.2.7"
    assert (request.value("content-length"), request.body) == (b"2", b"ok")


def test_a_name_that_cgi_confuses_with_one_of_the_proxy_s_does_not_cross() -> None:
    """`X_User` and `X-User` are one `HTTP_X_USER` to a WSGI app (RFC 3875 §4.1.18)."""
    names = [b"x_user", b"x_api-key", b"x-api_key", b"x_forwarded_for", b"x_forwarded-host"]
    names += [b"content_length", b"transfer_encoding", b"proxy_authorization", b"x-given"]
    lines = [(name, b"theirs") for name in [*names, b"x_other", b"x-dashed"]]
    request = given(
        Call(headers=lines),
        drop_request_headers=["X-User", "x_dashed"],
        extra_request_headers={"x-api-key": "ours", "x_given": "ours"},
    )
    assert [name for name in names if request.values(name.decode())] == []
    assert (request.value("x-api-key"), request.value("x_given")) == (b"ours", b"ours")
    # One that nothing is confused with passes, as one does whose double alone is dropped.
    assert (request.value("x_other"), request.value("x-dashed")) == (b"theirs", b"theirs")


def test_expect_is_answered_here_and_does_not_cross() -> None:
    with (
        Upstream(scripts.echo) as upstream,
        relayed(upstream.url) as front,
        front.client() as client,
    ):
        client.start("POST", headers=[("Expect", "100-continue")], length=2)
        client.send(b"ok")
        response = client.read()
        assert response.body == b"ok"
        assert upstream.requests[0].value("expect") is None


# -- X-Forwarded-* and Host ------------------------------------------------------------------------


def test_x_forwarded_tells_the_client_the_host_and_the_scheme() -> None:
    request = sent()
    assert request.value("x-forwarded-for") == b"127.0.0.1"
    assert request.value("x-forwarded-host") == b"relay.test"
    assert request.value("x-forwarded-proto") == b"http"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], b"192.0.2.7"),
        ([b"203.0.113.1"], b"203.0.113.1, 192.0.2.7"),
        ([b"203.0.113.1, 10.0.0.1"], b"203.0.113.1, 10.0.0.1, 192.0.2.7"),
        ([b"203.0.113.1", b"10.0.0.1"], b"203.0.113.1, 10.0.0.1, 192.0.2.7"),
    ],
)
def test_x_forwarded_for_is_appended_to(before: list[bytes], after: bytes) -> None:
    request = given(Call(headers=[(b"x-forwarded-for", value) for value in before]))
    assert request.values("x-forwarded-for") == [after]


def test_without_a_client_address_x_forwarded_for_is_passed_as_it_is() -> None:
    lines = [(b"x-forwarded-for", b"203.0.113.1")]
    assert given(Call(headers=lines, extra={"client": None})).values("x-forwarded-for") == [
        b"203.0.113.1"
    ]
    assert given(Call(headers=[], extra={"client": None})).values("x-forwarded-for") == []


@pytest.mark.parametrize("client", [["192.0.2.7", 1], ("192.0.2.7", "1"), ("192.0.2.7", None)])
def test_a_client_address_in_every_shape_that_servers_give_it(client: Any) -> None:
    assert given(Call(extra={"client": client})).value("x-forwarded-for") == b"192.0.2.7"


def test_an_ipv6_address_is_appended_bare() -> None:
    request = given(Call(extra={"client": ("2001:db8::7", 1)}))
    assert request.value("x-forwarded-for") == b"2001:db8::7"


@pytest.mark.parametrize(("scheme", "proto"), [("http", b"http"), ("https", b"https")])
def test_x_forwarded_proto_is_the_connection_s_and_not_what_the_client_says(
    scheme: str, proto: bytes
) -> None:
    lines = [(b"x-forwarded-proto", b"gopher"), (b"x-forwarded-proto", b"https, http")]
    request = given(Call(headers=lines, extra={"scheme": scheme}))
    assert request.values("x-forwarded-proto") == [proto]


def test_lilya_defect_x_forwarded_host_is_what_the_client_sent() -> None:
    """Lilya tells the upstream its own address."""
    request = sent([("X-Forwarded-Host", "forged.test")])
    assert request.values("x-forwarded-host") == [b"relay.test"]


def test_reverse_proxy_defect_x_forwarded_is_there_at_all() -> None:
    """fastapi-reverse-proxy sends none of the three."""
    names = {name.lower() for name, _ in sent().headers}
    assert {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"} <= names


def test_lilya_defect_host_is_the_target_s_with_its_port() -> None:
    """Lilya loses the port."""
    with Upstream(scripts.ok) as upstream, relayed(upstream.url) as front:
        front.fetch(host="relay.test:8443")
        (host,) = upstream.requests[0].values("host")
        assert host == b"127.0.0.1:%d" % upstream.port
        assert upstream.requests[0].value("x-forwarded-host") == b"relay.test:8443"


def test_host_of_an_ipv6_target_has_its_brackets() -> None:
    with Upstream(scripts.ok, host="::1") as upstream, relayed(upstream.url) as front:
        front.fetch()
        assert upstream.requests[0].value("host") == b"[::1]:%d" % upstream.port


@pytest.mark.parametrize(
    "host", [b"relay.test", b"relay.test:8443", b"[2001:db8::1]:80", b"R.Test"]
)
def test_with_preserve_host_it_is_the_client_s(host: bytes) -> None:
    with Upstream(scripts.ok) as upstream, relayed(upstream.url, preserve_host=True) as front:
        front.fetch(host=host)
        assert upstream.requests[0].values("host") == [host]
        assert upstream.requests[0].value("x-forwarded-host") == host


def test_with_preserve_host_a_client_without_one_gets_the_target_s() -> None:
    request = given(Call(headers=[]), preserve_host=True)
    assert (request.value("host") or b"").startswith(b"127.0.0.1:")
    assert request.values("x-forwarded-host") == []


# -- the environment -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_proxies_of_the_environment_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream(scripts.answer(body=b"proxy")) as proxy:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Upstream(scripts.answer(body=b"upstream")) as upstream, relayed(upstream.url) as front:
            assert front.fetch().body == b"upstream"
        assert proxy.connections == []


def test_a_netrc_file_is_ignored(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sent().value("authorization") is None


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"])
def test_reverse_proxy_defect_a_bodyless_request_has_no_body_headers(method: str) -> None:
    """fastapi-reverse-proxy makes a bodyless DELETE a chunked one."""
    request = sent(method=method)
    assert request.raw.endswith(b"\r\n\r\n")
    assert request.values("content-length") == []
    assert request.values("transfer-encoding") == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "POST", "QUERY"])
@pytest.mark.parametrize("body", [b"", b"x", b"x" * 20_000])
def test_pyserve_defect_a_body_keeps_its_length_whatever_the_method(
    method: str, body: bytes
) -> None:
    """PyServe cuts a 20 kB POST to 4 kB and answers with 200."""
    with Upstream(scripts.echo) as upstream, relayed(upstream.url) as front:
        assert front.fetch(method=method, body=body).body == body
        assert upstream.requests[0].value("content-length") == str(len(body)).encode()
        assert upstream.requests[0].values("transfer-encoding") == []


def test_an_encoded_body_is_not_touched() -> None:
    body = gzip.compress(b"hello " * 1000)
    with Upstream(scripts.ok) as upstream, relayed(upstream.url) as front:
        front.fetch(method="POST", headers=[("Content-Encoding", "gzip")], body=body)
        assert upstream.requests[0].body == body
        assert upstream.requests[0].value("content-encoding") == b"gzip"
