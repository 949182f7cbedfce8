"""A headless Chromium on a page of ours: Debian's package or any other that is on the path.

The page reports what it has seen to the app that served it, so nothing has to be driven.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = (
    "this test needs a browser, and none of these is on the path: "
    f"{', '.join(NAMES)} (Debian: sudo apt-get install -y chromium)"
)
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root has none, and the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--password-store=basic",
    "--remote-debugging-port=0",  # without it, it would end as soon as the page is loaded
)


class Visit:
    """A browser that is open; `output` is what it says of itself."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")


@contextlib.contextmanager
def visit(url: str, directory: Path, *options: str) -> Iterator[Visit]:
    """Open the page in a browser of its own, with nothing remembered, until the block is left."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    log = directory / "browser.log"
    command = [program, *OPTIONS, *options, f"--user-data-dir={directory / 'profile'}", url]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as popen,
    ):
        try:
            yield Visit(popen, log)
        finally:
            # The group: it is a dozen processes, and none of them must stay.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
