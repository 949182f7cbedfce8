"""What is raised in place of a response."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from starlette.exceptions import HTTPException


def failure(status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> HTTPException:
    """FastAPI's exception where FastAPI is in use, else Starlette's, which is its base."""
    fields = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name not in {b"content-type", b"content-length"}
    }
    module = sys.modules.get("fastapi.exceptions")
    kind: type[HTTPException] = HTTPException if module is None else module.HTTPException
    return kind(status, detail, fields or None)
