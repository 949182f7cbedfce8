"""What a thousand idle clients cost the gateway. `benchmarks/crowd.py` is for ten thousand."""

from __future__ import annotations

import json
import subprocess
import sys

from .support.processes import ROOT


def test_idle_clients_are_cheap() -> None:
    """In processes of their own: no other test's memory or descriptors count."""
    command = [sys.executable, "-m", "benchmarks.crowd", "--connections=1000", "--websockets=300"]
    printed = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=True
    )
    found = json.loads(printed.stdout)
    # With the allocator's slack, which is larger for few: of ten thousand, each takes 0.4 KiB.
    assert found["kib_per_connection"] < 4
    assert found["kib_per_websocket"] < 48
