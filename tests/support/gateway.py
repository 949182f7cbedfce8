"""The command `asgi-relay serve` as a process, and what it prints, line by line."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from .processes import ROOT
from .waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START = 30.0
"""Seconds for the interpreter to start on a busy machine."""


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
"""What an event's line begins with."""


def untimed(line: str) -> str:
    """An event's line without its time, which has to be there."""
    time = TIME.match(line)
    assert time, line
    return line[time.end() :]


class Gateway:
    """A gateway that runs. `lines` is what it has written to stderr so far."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.lines: list[str] = []
        self._heard = 0
        self._over = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_line(self, wanted: str, timeout: float = PATIENCE) -> str:
        """Wait for a line with this in it, behind the one that was waited for last."""

        def found() -> int | None:
            for number in range(self._heard, len(self.lines)):
                if wanted in self.lines[number]:
                    return number
            return None

        with self._changed:
            self._changed.wait_for(lambda: self._over or found() is not None, timeout)
            number = found()
            assert number is not None, "\n".join([f"no line with {wanted!r}:", *self.lines])
            self._heard = number + 1
            return self.lines[number]

    def end(self) -> int:
        """End it with SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    @property
    def ports(self) -> list[int]:
        """Where it listens, as it has printed it."""
        rows = (re.match(r"  listening +https?://.*:(\d+)", line) for line in self.lines)
        return [int(row[1]) for row in rows if row]

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def admin_port(self) -> int:
        return next(
            int(row.split()[1].rpartition(":")[2])
            for row in self.lines
            if row.startswith("  admin")
        )

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit code. `lines` is complete then."""
        code = self.popen.wait(timeout)
        self._reader.join(timeout)
        return code


@contextlib.contextmanager
def starting(*arguments: str | Path, stdout: IO[str] | None = None) -> Iterator[Gateway]:
    """`asgi-relay <arguments>` until the block is left; it is not waited for."""
    with subprocess.Popen(
        [sys.executable, "-m", "asgi_relay", *map(str, arguments)],
        cwd=ROOT,
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        gateway = Gateway(popen)
        try:
            yield gateway
        finally:
            popen.kill()
            gateway.wait()


@contextlib.contextmanager
def serving(*arguments: str | Path, stdout: IO[str] | None = None) -> Iterator[Gateway]:
    """`asgi-relay serve <arguments>`, with one worker, once it is ready."""
    with starting("serve", "--workers", "1", *arguments, stdout=stdout) as gateway:
        gateway.wait_line("ready", START)
        yield gateway


def write(file: Path, routes: Sequence[Mapping[str, Any]], **sections: Any) -> Path:
    """A configuration as JSON, which is YAML; in one step, since a gateway may be watching it.

    The port is any that is free unless the section `server` says where to listen.
    """
    server = {"port": 0, **sections.pop("server", {})}
    if "listeners" in server:
        del server["port"]
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"server": server, "routes": routes, **sections}, indent=1))
    new.replace(file)
    return file


@contextlib.contextmanager
def configured(
    folder: Path,
    routes: Sequence[Mapping[str, Any]],
    *,
    workers: int = 1,
    **sections: Any,
) -> Iterator[Gateway]:
    """A gateway with such a configuration, in `gateway.yaml` of the folder, once it is ready."""
    file = write(folder / "gateway.yaml", routes, **sections)
    with serving("-c", file, "--workers", str(workers)) as gateway:
        yield gateway
