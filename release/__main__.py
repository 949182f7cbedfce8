"""`python -m release --out DIRECTORY`: the wheel as it is published.

The engine is compiled with counters first and put to work (`release.training`). The second time
the compiler knows which way the code goes, and what is worth being fast.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from release.profdata import MissingToolError, find_profdata, rustc_says

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "release-profile"
"""Everything in between: both builds, the profile, what is trained."""

EVEN = "-Cllvm-args=-pgso=false"
"""Without it LLVM compiles for size what is not among the hottest, however often it runs: sixteen
times a request it copied a hundred octets by `rep movs`, which takes some 10 ns to begin."""


def say(what: str) -> None:
    """Tell what takes a while."""
    print(f"==> {what}", flush=True)


def with_flags(environment: Mapping[str, str], *added: str) -> dict[str, str]:
    """The environment in which Cargo gives rustc these flags, too.

    Of Cargo's two variables the encoded one wins, and only there can a flag have a blank.
    """
    changed = dict(environment)
    flags = changed.pop("RUSTFLAGS", "").split()
    if (encoded := changed.get("CARGO_ENCODED_RUSTFLAGS")) is not None:
        flags = encoded.split("\x1f") if encoded else []
    changed["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join([*flags, *added])
    return changed


def build(directory: Path, *flags: str) -> Path:
    """A wheel of which the engine was compiled with these flags besides the user's own.

    It tells nobody where it was built. Functions keep their names in it, for profilers and
    backtraces; their lines would be two thirds of the file.
    """
    shutil.rmtree(directory, ignore_errors=True)
    crates = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry" / "src"
    unnamed = [f"--remap-path-prefix={crates}=crates", f"--remap-path-prefix={ROOT}=."]
    environment = with_flags(os.environ, *unnamed, *flags) | {
        "CARGO_TARGET_DIR": str(WORK / "target"),
        "CARGO_PROFILE_RELEASE_STRIP": "debuginfo",
    }
    # With a target named, the flags are the engine's alone, not those of what helps to build it.
    command = [sys.executable, "-m", "maturin", "build", "--release", "--locked"]
    command += ["--target", rustc_says("host"), "--interpreter", sys.executable]
    command += ["--out", str(directory)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def unpack(wheel: Path, directory: Path) -> Path:
    """The wheel's files, so that they can be imported from there."""
    shutil.rmtree(directory, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def train(package: Path, counts: Path) -> None:
    """Put the package to work; what was counted is in the directory `counts` then."""
    shutil.rmtree(counts, ignore_errors=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
        "LLVM_PROFILE_FILE": str(counts / "%p.profraw"),
    }
    command = [sys.executable, "-m", "release.training"]
    subprocess.run(command, cwd=WORK, env=environment, check=True)


def make_wheel(out: Path) -> Path:
    """Build it; its path. What `out` had of older ones is kept until there is a new one."""
    profdata = find_profdata()
    WORK.mkdir(parents=True, exist_ok=True)
    counts, profile = WORK / "counts", WORK / "trained.profdata"
    say("compiling the engine with counters (some minutes)")
    counting = build(WORK / "counting", f"-Cprofile-generate={counts}")
    say("putting it to work")
    train(unpack(counting, WORK / "package"), counts)
    files = sorted(map(str, counts.glob("*.profraw")))
    subprocess.run([profdata, "merge", "--sparse", "-o", str(profile), *files], check=True)
    say("compiling it with what was counted (some minutes)")
    wheel = build(WORK / "wheel", f"-Cprofile-use={profile}", EVEN)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("asgi_relay-*.whl"):
        old.unlink()
    return Path(shutil.copy(wheel, out))


def main() -> int:
    """Build the wheel into `--out`, and unpack it into `--unpack` where that is given."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the wheel goes")
    parser.add_argument("--unpack", type=Path, help="a directory for its files, too")
    arguments = parser.parse_args()
    try:
        wheel = make_wheel(arguments.out.resolve())
    except MissingToolError as missing:
        print(f"release: {missing}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        print(f"release: {failed.cmd[0]} ended with {failed.returncode}", file=sys.stderr)
        return 1
    if arguments.unpack is not None:
        unpack(wheel, arguments.unpack)
    say(f"built {wheel.relative_to(Path.cwd()) if wheel.is_relative_to(Path.cwd()) else wheel}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
