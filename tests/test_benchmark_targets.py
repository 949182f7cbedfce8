"""The benchmark's page lists the targets that the benchmark goes by."""

from __future__ import annotations

import re
import subprocess
import sys

from .support.processes import ROOT

PAGE = ROOT / "benchmarks" / "README.md"
# The benchmarks are no part of what the tests can import.
ROWS = """
from benchmarks.targets import TARGETS
for target in TARGETS:
    print("|", target.text, "|", target.bound_text, "|")
"""


def test_the_page_lists_each_target() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Targets\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\|.+\d.*\|$", section, re.MULTILINE)
    command = [sys.executable, "-X", "utf8", "-c", ROWS]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert listed == told.stdout.decode().splitlines()
