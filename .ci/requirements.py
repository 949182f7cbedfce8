"""Print what pyproject.toml asks for, one requirement a line.

That is the build backend, and the dependency groups (PEP 735) named as arguments. The Makefile
installs these without building the project itself, which maturin does in its own step; pip knows
groups from 25.1 on only.
"""

import importlib
import sys
from pathlib import Path
from typing import Any


def load(text: str) -> dict[str, Any]:
    """Parse TOML with the standard library, or on Python 3.10 with the parser that pip carries."""
    name = "tomllib" if sys.version_info >= (3, 11) else "pip._vendor.tomli"
    document: dict[str, Any] = importlib.import_module(name).loads(text)
    return document


def requirements(document: dict[str, Any], groups: list[str]) -> list[str]:
    """The build backend, and what is in the groups, each once."""
    found: list[str] = list(document["build-system"]["requires"])
    for group in groups:
        found += document["dependency-groups"][group]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(load(Path("pyproject.toml").read_text("utf-8")), sys.argv[1:])))
