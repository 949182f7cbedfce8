"""A server process of the demonstration: start, crash, start again on the same port, stop."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from . import client

ROOT = Path(__file__).resolve().parents[2]


class Service:
    """An ASGI app under uvicorn in a process of its own, on a free loopback port."""

    def __init__(self, name: str, app: str) -> None:
        self.name = name
        self._app = app
        self._environment: dict[str, str] = {}
        self._port = 0
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (goes with the service)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens; known from the first start on, and the same after each other."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and running else None

    def start(self, **environment: str) -> None:
        """Listen, start the server, wait until it answers; later starts keep the environment."""
        self._end(grace=0)
        self._environment |= environment
        with socket.create_server(("127.0.0.1", self._port), backlog=128) as listener:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.serve", self._app, str(listener.fileno())],
                cwd=ROOT,
                env={**os.environ, **self._environment},
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                # Ctrl-C is for the demonstration, which then ends its servers in order.
                start_new_session=True,
            )
        try:
            client.ask(self.url, "GET", "/")
        except OSError as error:
            raise client.UnexpectedError(f"the {self.name} did not start ({error})") from error

    def crash(self) -> None:
        """End it at once, without a farewell to anyone."""
        self._end(grace=0)

    def stop(self) -> None:
        """Let it close its connections, then make sure of it."""
        self._end(grace=5)

    def _end(self, grace: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if grace:
            process.terminate()
        else:
            process.kill()
        try:
            process.wait(grace or None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def peak_memory(self) -> float:
        """The most memory that it has had, in megabytes; 0 where the system does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0.0
        peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0]) * 1024 / 1e6 if peaks else 0.0

    def last_words(self, lines: int = 15) -> str:
        """What it has written lately, for when something goes wrong."""
        self._log.seek(0)
        return "".join(self._log.readlines()[-lines:])
