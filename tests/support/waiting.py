"""Waiting for what sends no event: another process's port, the kernel's list of descriptors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0
"""Seconds that a test waits for what should come at once, before it fails."""

AT_ONCE = 5.0
"""Seconds within which something has come at once: where the other outcome takes far longer, as a
thread of a busy machine may have to wait for a second or two."""


def wait_until(condition: Callable[[], bool], wanted: str, timeout: float = PATIENCE) -> None:
    """Ask again and again until `condition` holds; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {wanted}")
        time.sleep(0.005)
