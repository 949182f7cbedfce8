"""`asgi-relay`: help, version, the schema, and command lines that make no sense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

import pytest

from asgi_relay import __version__, _cli

from .support.processes import ROOT

FULL = Path("/dev/full")


def run(
    *arguments: str, stdout: IO[str], unbuffered: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command as a process, with a buffer as it has one outside of tests, or without."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if unbuffered:
        environment["PYTHONUNBUFFERED"] = "1"
    return subprocess.run(
        [sys.executable, "-m", "asgi_relay", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code of a command line that ends the process, and what it prints."""
    with pytest.raises(SystemExit) as end:
        _cli.main(arguments)
    assert isinstance(end.value.code, int)
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def test_help_names_commands_and_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, errors = ended(capsys, "--help")
    assert (code, errors) == (0, "")
    for wanted in ("serve", "check", "schema", "--version", "asgi-relay serve --to http://"):
        assert wanted in text


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("serve", ["--config", "--to", "--host", "--port", "--cert", "--key", "--workers"]),
        ("serve", ["SIGTERM", "SIGHUP", "shutdown_grace", "8000", "127.0.0.1"]),
        ("check", ["--config", "--offline", "Exits with 1"]),
        ("schema", ["JSON Schema"]),
    ],
)
def test_help_of_a_command_tells_its_options(
    capsys: pytest.CaptureFixture[str], command: str, wanted: list[str]
) -> None:
    code, text, errors = ended(capsys, command, "--help")
    assert (code, errors) == (0, "")
    assert [word for word in wanted if word not in text] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: command"),
        (["sevre"], "invalid choice: 'sevre'"),
        (["serve"], "name a configuration with -c, or an upstream with --to"),
        (["serve", "--to", "http://h", "--cert", "c.pem"], "--cert and --key belong together"),
        (["serve", "--to", "http://h", "--port", "65536"], "a whole number from 0 to 65535"),
        (["serve", "--to", "http://h", "--port", "x"], "--port: found 'x'"),
        (["serve", "--to", "http://h", "--workers", "0"], "a whole number from 1 to 1024"),
        (["serve", "--to", "http://\udcff"], "--to: it is not UTF-8"),
        (["check"], "required: -c/--config"),
    ],
)
def test_a_command_line_without_sense_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    code, text, errors = ended(capsys, *arguments)
    assert (code, text) == (2, "")
    assert complaint in errors
    assert errors.startswith("usage: asgi-relay")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "ftp://h"], "error: --to: has another scheme"),
        (["--to", "http://h", "--cert", "no.pem", "--key", "no.key"], "error: --cert: found"),
    ],
)
def test_values_that_cannot_be_used_end_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert _cli.main(["serve", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_value_that_cannot_be_used_over_a_file_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes: [{targets: http://h}]")
    assert _cli.main(["serve", "-c", str(file), "--host", "a b"]) == 1
    assert 'error: --host: found the text "a b"' in capsys.readouterr().err


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "asgi_relay", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"asgi-relay {__version__}\n"


@pytest.mark.parametrize("command", [["schema"], ["check", "--offline", "-c"]])
def test_what_cannot_be_printed_is_a_failure(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes: [{targets: http://h}]")
    files = [str(file)] if command[-1] == "-c" else []
    with FULL.open("w") as full:
        done = run(*command, *files, stdout=full)
    reason = "cannot write to standard output: No space left on device"
    assert (done.returncode, done.stderr) == (1, f"error: {reason}\n")


@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_is_printed_in_part_is_a_failure(unbuffered: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb") as end, os.fdopen(writer, "w") as pipe:
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        # Room for the schema's beginning.
        end.read(4096)
        done = run("schema", stdout=pipe, unbuffered=unbuffered)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to standard output: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["schema", "check --offline -c"])
def test_standard_output_that_is_closed_is_a_failure(command: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes: [{targets: http://h}]")
    files = [str(file)] if command.endswith("-c") else []
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@" >&-',
            "sh",
            sys.executable,
            "-m",
            "asgi_relay",
            *command.split(),
            *files,
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    reason = "cannot write to standard output: Bad file descriptor"
    assert (done.returncode, done.stderr) == (1, f"error: {reason}\n")


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_may_leave_early(unbuffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = run("schema", stdout=pipe, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="asgi-relay")
    assert command.load() is _cli.main


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"server", "routes", "ssl", "admin", "access_log"} <= set(schema["properties"])
