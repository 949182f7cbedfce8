"""Tells when files have changed, by looking at them: it works on every system and file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Mark = tuple[int, ...] | None
"""What tells a file from its next version; None where there is none."""


class Files:
    """Some files, as they were when their contents were used."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._used = self._seen = {path: _mark(path) for path in paths}

    def follow(self, paths: Iterable[Path]) -> bool:
        """Look at these from now on; those that were looked at before keep their marks.

        Whether there are others: they may have changed since they were used.
        """
        before = self._used
        self._used = {path: before[path] if path in before else _mark(path) for path in paths}
        self._seen = dict(self._used)
        return not self._used.keys() <= before.keys()

    def have_changed(self) -> bool:
        """Whether one has changed since it was used; they count as used then.

        One that has changed since the last call is left for the next: whoever writes it may need
        more than one step.
        """
        before, self._seen = self._seen, {path: _mark(path) for path in self._used}
        if self._seen != before or self._seen == self._used:
            return False
        self._used = self._seen
        return True

    def use(self) -> None:
        """Their contents are about to be used."""
        self._used = self._seen = {path: _mark(path) for path in self._used}


def _mark(path: Path) -> Mark:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
