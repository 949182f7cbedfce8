"""What an upstream can do to a request, well and badly: each is a Script, or makes one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from . import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .exchange import Exchange, Gate, Script


def answer(
    status: int = 200,
    headers: wire.HeaderItems = (("Content-Type", "text/plain"),),
    body: bytes = b"ok",
) -> Script:
    """Read the request whole, answer, and keep the connection alive."""
    fixed = list(headers)

    def script(exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        exchange.respond(status, fixed, body)

    return script


ok: Script = answer()


def echo(exchange: Exchange) -> None:
    """Answer with the request's own body."""
    exchange.respond(body=exchange.read_body())


def reflect(exchange: Exchange) -> None:
    """Answer with the request's octets as they came, head and body."""
    exchange.read_body()
    exchange.respond(headers=[("Content-Type", "message/http")], body=exchange.request.raw)


def say(octets: bytes, *, read: bool = True, close: bool = False) -> Script:
    """Answer with exactly these octets, having read the body or not, and close or not."""

    def script(exchange: Exchange) -> None:
        if read:
            exchange.read_body()
        exchange.send(octets)
        if close:
            exchange.close()

    return script


def close(exchange: Exchange) -> None:
    """Read the request and close before the head."""
    exchange.read_body()
    exchange.close()


def reset(exchange: Exchange) -> None:
    """Read the request and reset before the head."""
    exchange.read_body()
    exchange.reset()


def hang(exchange: Exchange) -> None:
    """Read the request and never answer."""
    exchange.read_body()
    exchange.hang()


def unread(exchange: Exchange) -> None:
    """Never read more than came with the head, and never answer: writes to it stop somewhere."""
    exchange.hang()


def header_bomb(count: int = 10_000, size: int = 1000) -> Script:
    """A head that has no end worth waiting for."""
    lines = [(f"X-{number}", "x" * size) for number in range(count)]
    return say(wire.status_head(200, lines), close=True)


def cut_length(sent: bytes = b"cut", promised: int = 1000, *, rst: bool = False) -> Script:
    """Promise a length and end the connection short of it."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start(length=promised)
        exchange.send(sent)
        _end(exchange, rst)

    return script


def cut_chunked(*chunks: bytes, tail: bytes = b"", rst: bool = False) -> Script:
    """Send chunks, `tail` as it is (a chunk's beginning, say), and end without the last chunk."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start()
        for data in chunks or (b"cut",):
            exchange.chunk(data)
        exchange.send(tail)
        _end(exchange, rst)

    return script


def drip(
    gate: Gate,
    chunks: Iterable[bytes],
    *,
    status: int = 200,
    headers: wire.HeaderItems = (),
    length: int | None = None,
) -> Script:
    """Send the head at once, and each piece of the body when the gate lets it pass."""
    fixed, pieces = list(headers), list(chunks)

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start(status, fixed, length)
        for data in pieces:
            exchange.wait(gate)
            exchange.send(data if length is not None else wire.chunk(data))
        if length is None:
            exchange.end()

    return script


def stall(sent: bytes = b"some", *, length: int | None = None) -> Script:
    """Send a head and some of the body, then nothing more."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start(length=length)
        exchange.send(sent if length is not None else wire.chunk(sent))
        exchange.hang()

    return script


def flood(size: int, piece: bytes = b"\0" * 65536) -> Script:
    """Send `size` octets as fast as they are taken."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.start(length=size)
        left = size
        while left:
            part = piece[:left]
            exchange.send(part)
            left -= len(part)

    return script


def gated(gate: Gate, script: Script) -> Script:
    """Read the request, wait for the gate, then do as `script` does."""

    def wait(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.wait(gate)
        script(exchange)

    return wait


def early(status: int = 413, body: bytes = b"too much") -> Script:
    """Answer on the head alone, leaving the request's body where it is, and close politely."""

    def script(exchange: Exchange) -> None:
        exchange.respond(status, [("Connection", "close")], body)

    return script


def in_turn(*scripts: Script) -> Script:
    """The n-th request, over all connections, is the n-th script's; the last script keeps on."""
    turns = itertools.count()

    def script(exchange: Exchange) -> None:
        scripts[min(next(turns), len(scripts) - 1)](exchange)

    return script


def by_connection(*scripts: Script) -> Script:
    """The n-th connection's requests are the n-th script's; the last script keeps on."""

    def script(exchange: Exchange) -> None:
        scripts[min(exchange.connection.index, len(scripts) - 1)](exchange)

    return script


def by_path(routes: Sequence[tuple[bytes, Script]] | dict[bytes, Script]) -> Script:
    """The first script whose target, up to its query, is the request's; 404 for the others."""
    table = dict(routes)

    def script(exchange: Exchange) -> None:
        path = exchange.request.target.partition(b"?")[0]
        table.get(path, answer(404, body=b"no such path"))(exchange)

    return script


def _end(exchange: Exchange, rst: bool) -> None:
    if rst:
        exchange.reset()
    else:
        exchange.close()
