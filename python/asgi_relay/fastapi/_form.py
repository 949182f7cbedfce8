"""A form that was parsed already, as octets again: the parser has kept none of the client's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import FormData, UploadFile

_PIECE: Final = 64 * 1024
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]+)"|([^\s;,]+))', re.IGNORECASE)


def is_multipart(content_type: str) -> bool:
    """Whether a form has parts, or else is urlencoded."""
    return content_type.lower().startswith("multipart/form-data")


def encode_fields(form: FormData) -> bytes:
    """A form without files, as `application/x-www-form-urlencoded`."""
    return urlencode([(name, str(value)) for name, value in form.multi_items()]).encode()


class Multipart:
    """A form as `multipart/form-data` (RFC 7578), with the client's boundary and parts' headers."""

    def __init__(self, form: FormData, content_type: str) -> None:
        match = _BOUNDARY.search(content_type)
        boundary = (match[1] or match[2] if match else "").encode("latin-1")
        self._parts = [
            (b"--%s\r\n%s\r\n\r\n" % (boundary, _head(name, value)), value)
            for name, value in form.multi_items()
        ]
        self._end = b"--%s--\r\n" % boundary

    def __len__(self) -> int:
        sizes = [len(head) + _size(value) + len(b"\r\n") for head, value in self._parts]
        return sum(sizes) + len(self._end)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets, a bounded number at a time; files are read as they go."""
        for head, value in self._parts:
            yield head
            if isinstance(value, UploadFile):
                at = 0
                while piece := _read(value, at):
                    at += len(piece)
                    yield piece
                yield b"\r\n"
            else:
                yield value.encode() + b"\r\n"
        yield self._end


def _head(name: str, value: UploadFile | str) -> bytes:
    if isinstance(value, UploadFile) and value.headers:
        return b"\r\n".join(b"%s: %s" % line for line in value.headers.raw)
    # As browsers escape it.
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'Content-Disposition: form-data; name="{quoted}"'.encode()


def _read(value: UploadFile, at: int) -> bytes:
    # In one step: the same file may be on its way to another upstream.
    value.file.seek(at)
    return value.file.read(_PIECE)


def _size(value: UploadFile | str) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if value.file.closed:
        raise RuntimeError("the request's form was parsed, and its files are closed")
    position = value.file.tell()
    size = value.file.seek(0, 2)
    value.file.seek(position)
    return int(size)
