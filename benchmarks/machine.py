"""What the figures were made on: hardware class, kernel and versions; no host name, no path."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.tools import Tools

PACKAGES = (
    "asgi-relay",
    "lilya",
    "httpx2",
    "fastapi-reverse-proxy",
    "fastapi-proxy-lib",
    "fastapi",
    "httpx",
    "aiohttp",
    "pyreqwest",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "picows",
)


ASKED_BY = {"nginx": "-v", "haproxy": "-v", "wrk": "-v", "openssl": "version"}
"""How each program is asked for its version."""


def describe_machine() -> dict[str, str | int]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release().partition("-")[0],
        "architecture": platform.machine(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = re.sub(r"\((R|TM)\)", "", line.partition(":")[2])
            return " ".join(name.split())
    return platform.processor() or "unknown"


def describe_versions(tools: Tools) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    installed = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    versions |= {package: installed[package] for package in PACKAGES if package in installed}
    for program, argument in ASKED_BY.items():
        if program in tools:
            versions[program] = _first_version([tools[program], argument])
    return versions


def _first_version(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stderr + done.stdout)
    return found.group() if found else "unknown"
