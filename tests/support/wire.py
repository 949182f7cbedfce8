"""HTTP/1.1 as octets: what the scripted upstream and the raw client have in common.

Strict on purpose: a head that a lenient parser would forgive is what these tests look for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

Headers = list[tuple[bytes, bytes]]
HeaderItems = Iterable[tuple[bytes | str, bytes | str]]

RECORD_LIMIT = 4 * 1024 * 1024
"""How much of one message is kept; what comes after it is counted only."""

_PIECE = 256 * 1024
_HEAD_LIMIT = 1024 * 1024
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class MalformedError(ValueError):
    """Octets that are not HTTP/1.1 (RFC 9112)."""


class ClosedError(EOFError):
    """The stream ended where more octets were needed."""


class Reader:
    """Reads a socket through a buffer, and keeps a transcript of what has been consumed."""

    def __init__(self, sock: socket.socket) -> None:
        self.received = 0
        """Octets taken off the socket, consumed or not."""
        self._sock = sock
        self._buffer = bytearray()
        self._transcript = bytearray()

    @property
    def pending(self) -> int:
        """Octets that have been taken off the socket already and not been consumed."""
        return len(self._buffer)

    def take_pending(self) -> bytes:
        """What has been taken off the socket already and not been consumed."""
        return self._take(len(self._buffer))

    def start_transcript(self) -> bytearray:
        """Begin a transcript of its own; it grows as octets are consumed, up to RECORD_LIMIT."""
        self._transcript = bytearray()
        return self._transcript

    def head(self) -> bytes:
        """A message head with its empty line."""
        return self._through(b"\r\n\r\n")

    def line(self) -> bytes:
        """One line without its CRLF."""
        return self._through(b"\r\n")[:-2]

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        return self._take(count)

    def some(self, limit: int = _PIECE) -> bytes:
        """Between 1 and `limit` octets, as soon as there are any."""
        if not self._buffer:
            self._fill(limit)
        return self._take(min(limit, len(self._buffer)))

    def _through(self, mark: bytes) -> bytes:
        seen = 0
        while (found := self._buffer.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self._buffer)
            if seen > _HEAD_LIMIT:
                raise MalformedError(f"no {mark!r} within {_HEAD_LIMIT} octets")
            self._fill()
        return self._take(found + len(mark))

    def _fill(self, limit: int = _PIECE) -> None:
        data = self._sock.recv(limit)
        if not data:
            raise ClosedError("the peer has closed")
        self.received += len(data)
        self._buffer += data

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._transcript += data[: max(0, RECORD_LIMIT - len(self._transcript))]
        return data


def parse_head(raw: bytes) -> tuple[bytes, Headers]:
    """The first line and the headers, names in their case and values less optional whitespace."""
    first, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers: Headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or re.search(rb"[\r\n\0]", value):
            raise MalformedError(f"not a header line: {line!r}")
        headers.append((name, value.strip(b" \t")))
    return first, headers


def values(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[bytes]:
    """Every value of a header, in order."""
    wanted = name.lower().encode()
    return [value for key, value in headers if key.lower() == wanted]


def value(headers: Iterable[tuple[bytes, bytes]], name: str) -> bytes | None:
    """The value of a header that may be there at most once."""
    found = values(headers, name)
    if len(found) > 1:
        raise MalformedError(f"{name} is there {len(found)} times: {found!r}")
    return found[0] if found else None


def is_chunked(headers: Headers) -> bool:
    """Whether the body is chunked; a second framing beside it is an error (RFC 9112 §6.1)."""
    coding = value(headers, "transfer-encoding")
    if coding is None:
        return False
    if coding.lower() != b"chunked" or values(headers, "content-length"):
        raise MalformedError(f"framing that nobody should send: {headers!r}")
    return True


def content_length(headers: Headers) -> int | None:
    length = value(headers, "content-length")
    if length is not None and not length.isdigit():
        raise MalformedError(f"content-length: {length!r}")
    return None if length is None else int(length)


def read_length(reader: Reader, count: int) -> Iterator[bytes]:
    """The pieces of a body of known length, as they arrive."""
    while count:
        piece = reader.some(min(count, _PIECE))
        count -= len(piece)
        yield piece


def read_chunked(reader: Reader) -> Iterator[bytes]:
    """The pieces of a chunked body, as they arrive; returns only after the last chunk."""
    while True:
        size_line = reader.line().partition(b";")[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size_line):
            raise MalformedError(f"chunk size: {size_line!r}")
        size = int(size_line, 16)
        yield from read_length(reader, size)
        if size == 0:
            while reader.line():  # trailers
                pass
            return
        if reader.exactly(2) != b"\r\n":
            raise MalformedError("a chunk that is longer than its size")


def read_to_end(reader: Reader) -> Iterator[bytes]:
    """The pieces of a body that the end of the connection ends."""
    try:
        while True:
            yield reader.some()
    except ClosedError:
        return


def status_head(status: int, headers: HeaderItems = ()) -> bytes:
    """The head of a response, with the reason phrase of its status."""
    known = status in HTTPStatus.__members__.values()
    return head(f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Unknown'}", headers)


def head(first: bytes | str, headers: HeaderItems = ()) -> bytes:
    """A message head, with nothing checked, so that wrong ones can be written too."""
    lines = [octets(first)]
    lines += [octets(name) + b": " + octets(text) for name, text in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def octets(text: bytes | str) -> bytes:
    """Text as it goes over the wire."""
    return text.encode("latin-1") if isinstance(text, str) else text
