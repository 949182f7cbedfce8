"""The last act: the same requests through the standalone gateway, with no Python on their way."""

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from . import READ_TIMEOUT, acts, client
from .chat import play_chat
from .client import expect
from .screen import Screen
from .services import Service

FILE = """\
server:
  port: 0
routes:
  - path: /auth
    targets: {upstream}
    rewrite_set_cookie_domain: ""
    timeout: {{read: {timeout:g}}}
  - path: /fleet
    targets: [{instances}]
    health_check: {{path: /instance, interval: 0.5}}
"""


class Gateway(Service):
    """`asgi-relay serve` in a process of its own."""

    def __init__(self) -> None:
        super().__init__("gateway", "")
        self._folder = tempfile.TemporaryDirectory()
        self.file = Path(self._folder.name) / "gateway.yaml"
        self.printed: list[str] = []

    def start(self, **_: str) -> None:
        """Start it on its file, and read what it prints until it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "asgi_relay", "serve", "-c", self.file],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        assert process.stderr is not None
        for line in process.stderr:
            text = line.decode().rstrip()
            self.printed.append(text)
            if text.startswith("  listening"):
                self._port = urlsplit(text.split()[1]).port or 0
            if text.startswith("ready"):
                return
        raise client.UnexpectedError("the gateway did not start")

    def finish(self) -> int:
        """Let it finish what is in flight; its exit code."""
        process = self._process
        assert process is not None
        process.terminate()
        _, rest = process.communicate(timeout=client.TIMEOUT)
        self.printed += rest.decode().splitlines()
        return process.returncode

    def stop(self) -> None:
        """End it, whatever has happened."""
        super().stop()
        self._folder.cleanup()

    def last_words(self, lines: int = 15) -> str:
        """What it has written on standard error."""
        return "\n".join(self.printed[-lines:])


def standalone(
    screen: Screen, gateway: Gateway, upstream: Service, instances: list[Service]
) -> None:
    """Write a file, start the gateway on it, and play some of it all again."""
    screen.act(
        "The same without an application: asgi-relay serve -c gateway.yaml",
        "The listener is Rust too, and no request meets Python. The file says what the Relay was"
        " given above.",
    )
    text = FILE.format(
        upstream=upstream.url,
        instances=", ".join(instance.url for instance in instances),
        timeout=READ_TIMEOUT,
    )
    gateway.file.write_text(text)
    _show(screen, text.splitlines())
    screen.line()
    gateway.start()
    _show(screen, gateway.printed)
    screen.line()
    acts.play_login(screen, gateway, upstream)
    acts.play_stream(screen, gateway)
    play_chat(screen, gateway)
    acts.play_transfers(screen, gateway)
    _instances(screen, gateway, instances)
    code = gateway.finish()
    expect(code == 0, f"the gateway should have ended with 0, not {code}")
    screen.passed("the same answers, and at a SIGTERM an orderly end")


def _instances(screen: Screen, gateway: Gateway, instances: list[Service]) -> None:
    screen.request("GET /fleet/instance   60 times")
    answers = [client.ask(gateway.url, "GET", "/fleet/instance").text for _ in range(60)]
    for instance in instances:
        screen.fact(f"  {instance.name}", str(answers.count(instance.name)))
    names = {instance.name for instance in instances}
    expect(set(answers) == names, f"{names} should all have answered, and nobody else: {answers}")


def _show(screen: Screen, lines: list[str]) -> None:
    for line in lines:
        screen.line("     " + screen.paint(line, "2") if line else "")
