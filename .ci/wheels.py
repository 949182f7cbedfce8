"""Try the abi3 wheel on every CPython that can be found: one install and one smoke test for each.

Looks for ``python3.10`` and later on PATH and among pyenv's versions; free-threaded builds have
no abi3.
"""

import glob
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MINORS = range(10, 16)
SMOKE = Path(__file__).with_name("smoke.py")
ABOUT = """
import sys, sysconfig
print(*sys.version_info[:2], sysconfig.get_config_var("Py_GIL_DISABLED") or 0)
"""


def candidates() -> list[str]:
    """Name what may exist; pyenv's own come before its shims, which may refuse to run."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    names = []
    for minor in MINORS:
        names += sorted(glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/python"))
        names.append(f"python3.{minor}")
    return [sys.executable, *names]


def run(*command: str, **environment: str) -> str:
    """Run a command to its end and give what it printed; a failure is an exception."""
    variables = {**os.environ, **environment}
    done = subprocess.run(  # noqa: S603 (interpreters of this machine)
        command, check=True, env=variables, capture_output=True, text=True
    )
    return done.stdout


def minor_version(python: str) -> int | None:
    """Say which 3.x a candidate is; None where it does not run or cannot load abi3 modules."""
    try:
        major, minor, free_threaded = map(int, run(python, "-c", ABOUT).split())
    except (OSError, subprocess.CalledProcessError):
        return None
    return minor if major == 3 and minor in MINORS and not free_threaded else None


def failure(python: str, wheel: str) -> str:
    """Install the wheel for that interpreter, which checks its tags, and run the smoke test."""
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
        try:
            run(*pip, "--no-deps", "--target", place, wheel)
            run(python, str(SMOKE), place, PYTHONPATH=place)
        except subprocess.CalledProcessError as error:
            return str(error.stderr) or str(error)
    return ""


def main() -> int:
    """Try one interpreter of each minor version, in order."""
    wheels = glob.glob(f"{sys.argv[1]}/*.whl")
    if len(wheels) != 1 or "-abi3-" not in wheels[0]:
        print(f"one abi3 wheel was expected in {sys.argv[1]}, found: {wheels}", file=sys.stderr)
        return 1
    found: dict[int, str] = {}
    for python in candidates():
        minor = minor_version(python)
        if minor is not None:
            found.setdefault(minor, python)
    for minor in sorted(found):
        if problem := failure(found[minor], wheels[0]):
            print(f"the wheel fails on CPython 3.{minor}:\n{problem}", file=sys.stderr)
            return 1
    versions = ", ".join(f"3.{minor}" for minor in sorted(found))
    print(f"{os.path.basename(wheels[0])} works on CPython {versions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
