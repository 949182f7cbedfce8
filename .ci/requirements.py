"""Print what pyproject.toml asks for, one requirement a line.

That is the build backend, and the extras named as arguments. The Makefile installs these without
building the project itself, which maturin does in its own step.
"""

import importlib
import re
import sys
from pathlib import Path
from typing import Any


def load(text: str) -> dict[str, Any]:
    """Parse TOML with the standard library, or on Python 3.10 with the parser that pip carries."""
    name = "tomllib" if sys.version_info >= (3, 11) else "pip._vendor.tomli"
    document: dict[str, Any] = importlib.import_module(name).loads(text)
    return document


def requirements(document: dict[str, Any], extras: list[str]) -> list[str]:
    """Flatten the extras; one may name others of this project, as in ``asgi-relay[test]``."""
    project = document["project"]
    own = re.compile(re.escape(project["name"]) + r"\[([^\]]+)\]$")
    found: list[str] = list(document["build-system"]["requires"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            if match := own.match(line):
                found += requirements(document, match[1].replace(" ", "").split(","))
            else:
                found.append(line)
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(load(Path("pyproject.toml").read_text("utf-8")), sys.argv[1:])))
