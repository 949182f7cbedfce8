"""`asgi-relay check`: what it finds in a file, and behind it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asgi_relay import _cli

from .support import scripts
from .support.client import fetch
from .support.gateway import START, starting
from .support.upstream import Upstream, refusing

if TYPE_CHECKING:
    from .support.authority import Authority

DOCUMENT = Path(__file__).parents[1] / "docs" / "gateway.md"
DOCUMENTS = [DOCUMENT, DOCUMENT.with_name("migration.md"), DOCUMENT.parent.parent / "README.md"]
PYSERVE = sorted((Path(__file__).parent / "gateway" / "pyserve").glob("*.yaml"))


class Checked:
    """What `asgi-relay check` said of a file."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> None:
        self.code = _cli.main(["check", "-c", str(file), *options])
        printed = capsys.readouterr()
        self.text, self.errors = printed.out, printed.err

    @property
    def rows(self) -> list[list[str]]:
        """The cells of its table, title first."""
        table = self.text.split("\n\n")[1]
        return [re.split(r" {3,}", line.strip()) for line in table.splitlines()]


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return file


def put_certificate(folder: Path, authority: Authority) -> None:
    certificate = authority.certificate("localhost")
    (folder / "ssl").mkdir()
    (folder / "ssl" / "cert.pem").write_bytes(certificate.chain.read_bytes())
    (folder / "ssl" / "key.pem").write_bytes(certificate.key.read_bytes())


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Upstream(scripts.ok) as upstream:
        file = written(
            tmp_path,
            f"""
            server:
              listeners:
                - port: 8080
                  proxy_protocol: true
                - unix: gateway.sock
            routes:
              - path: /api
                hosts: [example.org, "*.example.org"]
                methods: [GET, POST]
                targets:
                  - url: {upstream.url}/base
                    weight: 3
                  - {upstream.url}
              - targets: {upstream.url}
                strip_prefix: false
            """,
        )
        checked = Checked(file, capsys)
        assert (checked.code, checked.errors) == (0, "")
        assert "listening   http://127.0.0.1:8080   PROXY protocol\n" in checked.text
        assert f"listening   unix:{tmp_path}/gateway.sock\n" in checked.text
        base = f"{upstream.url}/base"
        assert checked.rows == [
            ["host", "path", "methods", "to", "weight", "balance", "state"],
            ["example.org, *.example.org", "/api", "GET, POST", base, "3", "p2c", "reached"],
            [f"{upstream.url}/", "1", "reached"],
            ["any", "/", "any", f"{upstream.url}/", "reached"],
        ]
        assert "is valid: 2 routes, all targets can be reached\n" in checked.text
        # It connects, and asks for nothing.
        upstream.wait_connections(3)
        assert upstream.requests == []


ARRIVALS = [
    ("path: /a", "", "/a", "/"),
    ("path: /a", "/base", "/a", "/base"),
    ("path: /a", "/base/", "/a", "/base"),
    ("path: /a, upstream_prefix: /v2", "/base", "/a", "/base/v2"),
    ("path: /a, strip_prefix: false", "/base", "/a", "/base/a"),
    ("path: '/a%20b', strip_prefix: false", "", "/a%20b", "/a%20b"),
    ("path: '/100%25é', strip_prefix: false", "", "/100%25%C3%A9", "/100%25%C3%A9"),
    ("path: /", "/base", "/", "/base/"),
    ("path: /, strip_prefix: false", "/base", "/", "/base/"),
]


@pytest.mark.parametrize(("route", "base", "asked", "arrives"), ARRIVALS)
def test_the_table_says_where_a_request_for_the_path_arrives(
    route: str, base: str, asked: str, arrives: str, tmp_path: Path
) -> None:
    with Upstream(scripts.ok) as upstream:
        text = f"routes: [{{{route}, targets: '{upstream.url}{base}'}}]\n"
        with starting("serve", "-c", written(tmp_path, text), "--port", "0") as gateway:
            gateway.wait_line("ready", START)
            fetch(gateway.port, asked)
        assert upstream.requests[0].target == arrives.encode()
        assert any(line.endswith(f"   {upstream.url}{arrives}") for line in gateway.lines)


def test_targets_that_cannot_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Upstream(scripts.ok) as upstream, refusing() as dead:
        file = written(
            tmp_path,
            f"""
            routes:
              - path: /lost
                targets: http+unix://%2Fno%2Fsuch.sock
              - targets: [{upstream.url}, {dead}]
            """,
        )
        checked = Checked(file, capsys)
        assert checked.code == 1
        states = [row[-1] for row in checked.rows[1:]]
        refused = "ConnectError: connection refused"
        assert states == ["ConnectError: no such file", "reached", refused]
        assert "is valid, but 2 of 3 targets cannot be reached" in checked.text
        offline = Checked(file, capsys, "--offline")
        assert (offline.code, offline.rows[0]) == (0, ["path", "to", "balance"])


def test_certificates_of_targets(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with Upstream(scripts.ok, tls=authority.server("localhost")) as upstream:
        url = f"https://localhost:{upstream.port}"
        file = written(
            tmp_path,
            f"""
            routes:
              - path: /trusted
                targets: {url}
                tls: {{ca_file: {authority.pem}}}
              - path: /unknown
                targets: {url}
              - path: /name
                targets: {upstream.url}
                tls: {{ca_file: {authority.pem}}}
            """,
        )
        checked = Checked(file, capsys)
        assert checked.code == 1
        states = [row[-1] for row in checked.rows[1:]]
        assert states[0] == "reached"
        assert [state.split(":")[0] for state in states[1:]] == ["TLSError", "TLSError"]


@pytest.mark.parametrize("options", [(), ("--offline",)])
def test_a_certificate_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    file = written(
        tmp_path,
        "ssl: {enabled: true, cert_file: cert.pem, key_file: cert.pem}\n"
        "routes: [{targets: 'http://127.0.0.1:1'}]\n",
    )
    checked = Checked(file, capsys, *options)
    assert (checked.code, checked.text) == (1, "")
    assert checked.errors == (
        f'error: {file}:1:33: ssl.cert_file: found the text "cert.pem", but it holds no '
        "certificate in PEM; allowed is a PEM file with a certificate and its chain\n"
    )


def test_files_that_no_target_needs_are_read_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("garbage")
    route = "{targets: 'http://127.0.0.1:1', tls: {ca_file: ca.pem}}"
    file = written(tmp_path, f"routes: [{route}]\n")
    checked = Checked(file, capsys, "--offline")
    assert (checked.code, checked.text) == (1, "")
    assert checked.errors.startswith(f"error: {file}:1:57: routes[0].tls.ca_file: ")


def test_a_platform_without_authorities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    routes = ["  - {path: /a, targets: 'https://h'}", "  - {path: /b, targets: 'https://h'}"]
    checked = Checked(written(tmp_path, "\n".join(["routes:", *routes])), capsys, "--offline")
    assert checked.code == 1
    assert checked.errors == (
        f"error: {tmp_path}/gateway.yaml:2:5: routes[0].tls: this platform has no certificate "
        "authorities installed (on Debian: the package ca-certificates); name a file of them in "
        "ca_file, or believe all: verify: false\n"
    )
    trusting = ["    tls: {verify: false}", "  - {path: /c, targets: 'http://h'}"]
    routes = ["  - path: /a", "    targets: https://h", *trusting]
    checked = Checked(written(tmp_path, "\n".join(["routes:", *routes])), capsys, "--offline")
    assert (checked.code, checked.errors) == (0, "")


def test_every_mistake_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "server: {prot: 80}\nroutes:\n  - {path: /x, targets: [], x: 1}\n")
    checked = Checked(file, capsys)
    assert (checked.code, checked.text) == (1, "")
    mistakes = checked.errors.splitlines()
    assert len(mistakes) >= 3
    for mistake in mistakes:
        assert mistake.startswith(f"error: {file}:")
    assert "server.prot" in mistakes[0]
    assert "port" in mistakes[0].split("server.prot")[1]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked(tmp_path / "no.yaml", capsys)
    assert checked.code == 1
    assert checked.errors.startswith(f"error: {tmp_path}/no.yaml: cannot be read: ")
    assert checked.errors.count("\n") == 1


def test_a_secret_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with refusing() as dead:
        target = dead.replace("//", "//ada:lovelace@")
        checked = Checked(written(tmp_path, f"routes: [{{targets: '{target}'}}]\n"), capsys)
    assert checked.code == 1
    assert dead in checked.text
    assert "lovelace" not in checked.text + checked.errors


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_the_documents_files_are_valid(
    document: Path, tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    put_certificate(tmp_path, authority)
    texts = re.findall(r"```yaml\n(.+?)```", document.read_text(), re.DOTALL)
    assert texts
    for text in texts:
        checked = Checked(written(tmp_path, text), capsys, "--offline")
        assert (checked.code, checked.errors) == (0, ""), text


def test_the_document_s_table_is_the_file_s(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    text = re.findall(r"```yaml\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    put_certificate(tmp_path, authority)
    checked = Checked(written(tmp_path, text), capsys, "--offline")
    wanted = re.findall(r"^(  path .+?)\n\n", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)[0]
    assert checked.text.split("\n\n")[1] == wanted


@pytest.mark.parametrize("file", PYSERVE, ids=lambda file: file.stem)
def test_pyserve_s_documented_files_are_valid(
    file: Path, tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    put_certificate(tmp_path, authority)
    checked = Checked(written(tmp_path, file.read_text()), capsys, "--offline")
    assert checked.code == 0
    assert "error" not in checked.errors
