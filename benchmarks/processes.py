"""Starting servers, waiting until they listen, and ending them, whatever happens in between."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent


class StartError(Exception):
    """A server that ended, or did not listen in time; the message holds the end of its output."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One started server; a context manager, so that leaving it ends the process."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        port: int,
        env: Mapping[str, str] | None = None,
        tls_port: int | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.tls_port = tls_port
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        # A session of its own: Ctrl-C reaches only the bench, which then ends its servers, and
        # a server's workers can be ended together with it.
        self._process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def port_for(self, *, tls: bool) -> int:
        if not tls:
            return self.port
        if self.tls_port is None:
            raise StartError(f"{self.name} has no listener with TLS")
        return self.tls_port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait_ready(self, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise StartError(f"{self.name} ended at once: {self.last_words()}")
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise StartError(f"{self.name} does not listen after {seconds:g} s: {self.last_words()}")

    def last_words(self) -> str:
        self._output.seek(0)
        text = self._output.read().decode(errors="replace").strip()
        return text.splitlines()[-1] if text else "(no output)"

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._output.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
