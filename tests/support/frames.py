"""WebSockets as octets (RFC 6455): what the scripted peers of both ends have in common.

Writing a frame checks nothing, so that wrong ones can be written too; reading is strict.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import MalformedError, value

if TYPE_CHECKING:
    from .exchange import Request
    from .wire import Reader

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NO_CODE = 1005
"""What a close frame without a code is reported as."""

_MASK_BLOCK = 1 << 20


@dataclass(frozen=True)
class Frame:
    """A frame as it came, its payload unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def control(self) -> bool:
        return self.opcode >= CLOSE

    @property
    def code(self) -> int:
        """The code of a close frame, 1005 where it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else NO_CODE

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key."""
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest)


def check_handshake(request: Request) -> None:
    """MalformedError unless a request is a handshake that RFC 6455 §4.1 allows."""
    tokens = b",".join(request.values("connection")).lower().replace(b" ", b"").split(b",")
    key = value(request.headers, "sec-websocket-key") or b""
    if not (
        request.method == b"GET"
        and request.version == b"HTTP/1.1"
        and (request.value("upgrade") or b"").lower() == b"websocket"
        and b"upgrade" in tokens
        and request.value("sec-websocket-version") == b"13"
        and len(base64.b64decode(key, validate=True)) == 16
        and not request.values("content-length")
        and not request.values("transfer-encoding")
        and b"" not in request.values("sec-websocket-protocol")
    ):
        raise MalformedError(f"not a handshake: {request.line!r} {request.headers!r}")


def close_payload(code: int | None, reason: str | bytes = b"") -> bytes:
    """Of a close frame, with nothing checked; None is no code at all."""
    said = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else struct.pack("!H", code) + said


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes | None = None,
    rsv: int = 0,
    length: int | None = None,
) -> bytes:
    """One frame; `length` is what it says of its payload, right or wrong, and `rsv` 0 to 7."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size, masked = len(payload) if length is None else length, 0x80 * (mask is not None)
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    return head + payload if mask is None else head + mask + xor(payload, mask)


def xor(payload: bytes, mask: bytes) -> bytes:
    """The payload masked, or unmasked."""
    if not any(mask):
        return payload
    # By way of numbers, block by block: 100 MB in a second.
    size = min(-(-len(payload) // 4) * 4, _MASK_BLOCK)
    key = int.from_bytes(mask * (size // 4), "big")
    blocks = []
    for start in range(0, len(payload), _MASK_BLOCK):
        block = payload[start : start + _MASK_BLOCK]
        number = int.from_bytes(block, "big") ^ (key >> 8 * (size - len(block)))
        blocks.append(number.to_bytes(len(block), "big"))
    return b"".join(blocks)


def read(reader: Reader, *, masked: bool) -> Frame:
    """The next frame; MalformedError if nobody should send it, ClosedError where there is none."""
    first, second = reader.exactly(2)
    opcode, size = first & 0x0F, second & 0x7F
    if size == 126:
        size = _long(reader, 2, at_least=126)
    elif size == 127:
        size = _long(reader, 8, at_least=65536)
    if bool(second & 0x80) is not masked:
        raise MalformedError(f"a frame that is {'not ' * masked}masked")
    mask = reader.exactly(4) if masked else b""
    payload = reader.exactly(size)
    frame = Frame(opcode, xor(payload, mask) if masked else payload, bool(first & 0x80))
    _check(frame, rsv=first >> 4 & 7)
    return frame


def _long(reader: Reader, octets: int, *, at_least: int) -> int:
    size = int.from_bytes(reader.exactly(octets), "big")
    if size < at_least:
        raise MalformedError(f"a length of {size} in {octets} octets")
    return size


def _check(frame: Frame, rsv: int) -> None:
    if rsv or frame.opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
        raise MalformedError(f"reserved: opcode {frame.opcode}, bits {rsv}")
    if frame.control and (len(frame.payload) > 125 or not frame.fin):
        raise MalformedError(f"a control frame of {len(frame.payload)} octets, fin {frame.fin}")
    if frame.opcode == CLOSE and frame.payload:
        if len(frame.payload) == 1 or not _may_be_sent(frame.code):
            raise MalformedError(f"a close frame of {frame.payload!r}")
        frame.payload[2:].decode()


def _may_be_sent(code: int) -> bool:
    """RFC 6455 §7.4, and what IANA has registered since."""
    return 3000 <= code < 5000 or (1000 <= code <= 1014 and code not in {1004, 1005, 1006})
