"""LLVM's tool that puts counts together: rustup has it, and so have Linux distributions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.tools import install

OLDEST = 19
"""Older ones cannot read what today's rustc has counted."""

DEBIAN = f"llvm-{OLDEST}"
"""The package of Debian's that has it."""


class MissingToolError(Exception):
    """There is none, or none that is new enough; the message says where to get one."""


def rustc_says(key: str) -> str:
    """What `rustc -vV` has under this key.

    Raises:
        MissingToolError: where there is no rustc, or it has no such key.

    """
    found = re.search(rf"^{re.escape(key)}: (\S+)$", _rustc("-vV"), re.MULTILINE)
    if found is None:
        raise MissingToolError(f"rustc -vV does not tell {key!r}")
    return found[1]


def find_profdata() -> str:
    """Its path; called by root on a Debian it is installed where it is missing.

    Raises:
        MissingToolError: where there is none, or no rustc that it has to suit.

    """
    found = _find()
    if found is None:
        install([DEBIAN])
        found = _find()
    if found is None:
        raise MissingToolError(
            f"llvm-profdata {OLDEST} or newer is missing"
            f" (rustup component add llvm-tools; Debian: apt-get install {DEBIAN})"
        )
    return found


def _rustc(*arguments: str) -> str:
    command = ["rustc", *arguments]
    try:
        # What it has to complain about is for the terminal.
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    except FileNotFoundError:
        raise MissingToolError("rustc is missing; https://rustup.rs installs it") from None


def _find() -> str | None:
    sysroot = _rustc("--print", "sysroot").strip()
    own = Path(sysroot, "lib", "rustlib", rustc_says("host"), "bin", "llvm-profdata")
    if own.exists():
        return str(own)
    newest = int(rustc_says("LLVM version").split(".")[0])
    names = ["llvm-profdata", *(f"llvm-profdata-{n}" for n in range(newest, OLDEST - 1, -1))]
    return next((path for name in names if (path := shutil.which(name)) and _is_new(path)), None)


def _is_new(path: str) -> bool:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"LLVM version (\d+)", told)
    return version is not None and int(version[1]) >= OLDEST
