"""The programs that the bench uses besides Python: found, installed where it may, or named."""

import os
import shutil
import subprocess
import sys

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy", "openssl": "openssl"}
"""Each program with the Debian package that has it."""

Tools = dict[str, str]
"""Where each of the programs that are there is."""


class MissingToolError(Exception):
    """Without it there is nothing to measure; the message says what to do."""


def find_tools() -> Tools:
    """Those that are there. What is missing, and cannot be installed, is named on stderr."""
    if not sys.platform.startswith("linux"):
        raise MissingToolError("the bench reads /proc and therefore runs on Linux only")
    if absent := [program for program in PACKAGES if _find(program) is None]:
        install([PACKAGES[program] for program in absent])
    found = {program: _find(program) for program in PACKAGES}
    for program, path in found.items():
        if path is None:
            print(f"bench: {program} is missing ({advice(program)})", file=sys.stderr)
    return {program: path for program, path in found.items() if path is not None}


def advice(program: str) -> str:
    return f"Debian: sudo apt-get install -y {PACKAGES[program]}"


def _find(program: str) -> str | None:
    # Debian puts servers into /usr/sbin, which is not on every user's path.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def install(packages: list[str]) -> None:
    """Installs packages of Debian's where root calls on one; whoever needs them looks again."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    print(f"installing {', '.join(packages)} with apt-get", file=sys.stderr, flush=True)
    command = ["install", "-y", "-qq", "--no-install-recommends"]
    if not _apt(apt, [*command, *packages]):
        _apt(apt, ["update", "-qq"])
        # One by one: a package that this system does not have leaves it the others.
        for package in packages:
            _apt(apt, [*command, package])


def _apt(apt: str, arguments: list[str]) -> bool:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run([apt, *arguments], env=env, capture_output=True, check=False)
    return done.returncode == 0
