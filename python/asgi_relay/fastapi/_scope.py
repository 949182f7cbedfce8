"""The scope that the engine reads: the request's own, changed as `proxy_pass` is asked to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_to_bytes

from .._parameters import header_values
from .._pump import Scope

Lines = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")
Headers = Mapping[str, str]

# What stands as it is in a path, and in a query (RFC 3986 §3.3 and §3.4); `%` is looked at apart.
_PATH = "/%:@!$&'()*+,;=~"
_QUERY = _PATH + "?"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED = re.compile(rb"%[0-9A-Fa-f]{2}|.", re.DOTALL)
_SLASH = ord("/")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# Of the client's own connection: no argument replaces these.
_KEPT = _FRAMING | {b"host"}
_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})
# True of certain octets alone (RFC 9110 §8.4, RFC 9530).
_OF_OCTETS = frozenset(
    {b"content-encoding", b"content-digest", b"repr-digest", b"digest", b"content-md5"}
)


def with_path(scope: Scope, path: str | None, forward_query: bool) -> Scope:
    """A scope that asks for `path` instead of its own, or for all of its own.

    A query behind a `?` in `path` comes before the client's.
    """
    query = scope.get("query_string") or b"" if forward_query else b""
    if path is None:
        if query == scope.get("query_string", b"") and not scope.get("root_path"):
            return scope
        changed = {"root_path": "", "query_string": query}
        if raw_path := scope.get("raw_path"):
            changed["path"] = raw_path.decode("latin-1")
        return {**scope, **changed}
    if not isinstance(path, str):
        raise TypeError(f"path: a {type(path).__name__} is not a str or None")
    raw, own_query = _octets_of(scope, path if path.startswith("/") else f"/{path}")
    query = b"&".join(part for part in (own_query, query) if part)
    changed = {"path": raw.decode("ascii"), "raw_path": raw, "root_path": "", "query_string": query}
    return {**scope, **changed}


def _octets_of(scope: Scope, path: str) -> tuple[bytes, bytes]:
    """A path and its query, encoded."""
    tail = _client_tail(scope, path)
    if tail is not None and tail[0] == "":
        return tail[1], b""
    before, _, query = path.partition("?")
    tail = _client_tail(scope, before)
    raw = _encoded(before, _PATH) if tail is None else _encoded(tail[0], _PATH) + tail[1]
    return raw, _encoded(query, _QUERY)


def _client_tail(scope: Scope, path: str) -> tuple[str, bytes] | None:
    """What of `path` is no end of the client's path, and that end in the client's octets.

    Frameworks hand `{path:path}` to an endpoint decoded; here its `%2F` comes back.
    """
    raw_path: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    if b"%" not in raw_path:
        return None
    wanted, octets = path.encode(), unquote_to_bytes(raw_path)
    # Servers put U+FFFD in the place of what is no UTF-8.
    shown = octets.decode("utf-8", "replace").encode()
    common = 0
    for ours, theirs in zip(reversed(wanted), reversed(shown), strict=False):
        if ours != theirs:
            break
        common += 1
    # Slashes are the same in both; the first of them that is no `%2F` is where the end begins.
    count = wanted[len(wanted) - common :].count(b"/")
    pieces = _ENCODED.findall(raw_path)
    slashes = [at for at, octet in enumerate(octets) if octet == _SLASH]
    for left, at in zip(range(count, 0, -1), slashes[len(slashes) - count :], strict=True):
        if pieces[at] == b"/":
            return wanted.rsplit(b"/", left)[0].decode(), b"".join(pieces[at:])
    return None


def _encoded(text: str, safe: str) -> bytes:
    return _LONE_PERCENT.sub("%25", quote(text, safe=safe)).encode("ascii")


def with_headers(
    scope: Scope, additional: Headers | None, override: Headers | None
) -> tuple[Scope, Lines]:
    """A scope with the client's headers that stay, and the lines that are given beside them.

    override: stand for the client's; what frames its body stays, and its Host. What is computed
        from X-Forwarded-* is computed from theirs.
    additional: replace all of the same names, X-Forwarded-* among them the computed ones.
    """
    given: Lines = []
    if override is not None:
        own = _lines("override_headers", override)
        given = [line for line in own if line[0] not in _FORWARDED]
        forwarded = [line for line in own if line[0] in _FORWARDED]
        kept = [line for line in scope["headers"] if line[0] in _KEPT]
        scope = {**scope, "headers": kept + forwarded}
    if additional:
        given += _lines("additional_headers", additional)
    return scope, given


def _lines(parameter: str, headers: Headers) -> Lines:
    """The lines of a mapping, checked; the connection's own among them the engine leaves out."""
    lines = []
    for name, value in header_values(parameter, headers):
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{parameter}: {name!r} is not a header name (RFC 9110 §5.1)")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"{parameter}: the value of {name!r} has characters that are not allowed"
            )
        lines.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return lines


def with_body(scope: Scope, length: int | None, *, clients: bool) -> Scope:
    """A scope whose body has so many octets; with `None` there is none at all.

    clients: they are those of the client, of which all that it has said stays true.
    """
    gone = _FRAMING if clients else _FRAMING | _OF_OCTETS
    lines = [line for line in scope["headers"] if line[0] not in gone]
    if length is not None:
        lines.append((b"content-length", b"%d" % length))
    return {**scope, "headers": lines}


def with_method(scope: Scope, method: str) -> Scope:
    """A scope with another method."""
    if not isinstance(method, str):
        raise TypeError(f"method: a {type(method).__name__} is not a str or None")
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"method: {method!r} is not a token (RFC 9110 §9.1)")
    return {**scope, "method": method.upper()}


def body_octets(body: object) -> bytes:
    """The `override_body` parameter; text as UTF-8, lists and dictionaries as JSON."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, list | dict):
        return json.dumps(body).encode()
    raise TypeError(f"override_body: a {type(body).__name__} is not bytes, str, list, dict or None")


def host_of(lines: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The client's Host."""
    return next((value for name, value in lines if name == b"host"), None)
