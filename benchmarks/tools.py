"""The programs that the bench needs besides Python: found, installed where it may, or named."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light"}


class MissingToolError(Exception):
    """A program is not there; the message says what to do."""


@dataclass(frozen=True)
class Tools:
    wrk: str
    nginx: str


def find_tools() -> Tools:
    if not sys.platform.startswith("linux"):
        raise MissingToolError("the bench reads /proc and therefore runs on Linux only")
    absent = [program for program in PACKAGES if _find(program) is None]
    if absent:
        _install([PACKAGES[program] for program in absent])
    return Tools(wrk=_required("wrk"), nginx=_required("nginx"))


def _find(program: str) -> str | None:
    # Debian puts nginx into /usr/sbin, which is not on every user's path.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _required(program: str) -> str:
    found = _find(program)
    if found is None:
        raise MissingToolError(_advice([PACKAGES[program]]))
    return found


def _install(packages: list[str]) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise MissingToolError(_advice(packages))
    print(f"installing {' and '.join(packages)} with apt-get", file=sys.stderr, flush=True)
    install = ["install", "-y", "-qq", "--no-install-recommends", *packages]
    if not _apt(apt, install):
        _apt(apt, ["update", "-qq"])
        _apt(apt, install)


def _apt(apt: str, arguments: list[str]) -> bool:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run([apt, *arguments], env=env, capture_output=True, check=False)
    return done.returncode == 0


def _advice(packages: list[str]) -> str:
    names = " ".join(packages)
    return f"the bench needs {names}: install it (Debian: sudo apt-get install -y {names})"
