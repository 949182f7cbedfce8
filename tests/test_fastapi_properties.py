"""Whatever clients and endpoints come up with: paths stay octet by octet, bodies stay whole."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_relay.fastapi._body import Upload, streamed
from asgi_relay.fastapi._scope import with_headers, with_path

# The same examples each time: a run that fails can be repeated.
bounded = settings(max_examples=100, derandomize=True, database=None, deadline=None)

HEX = "0123456789abcdefABCDEF"
PLAIN = st.sampled_from("ab/.;=:@!$&'()*+,-_~")
ESCAPED = st.builds(
    lambda high, low: f"%{high}{low}", st.sampled_from("2346"), st.sampled_from(HEX)
)
TARGETS = st.lists(PLAIN | ESCAPED, max_size=30).map(lambda pieces: "/" + "".join(pieces))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FORBIDDEN = {*b' "#<>[]^`{|}', 0x7F, *range(32)}
QUERIES = st.text("ab=&%/?+", max_size=10)


def scope_of(target: str, query: str = "", root_path: str = "") -> dict[str, Any]:
    return {
        "type": "http",
        "path": unquote(target),
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [],
    }


@bounded
@given(TARGETS, QUERIES, st.integers(0, 40))
def test_the_decoded_end_of_the_clients_path_gets_its_octets_back(
    target: str, query: str, cut: int
) -> None:
    slashes = [at for at, octet in enumerate(target) if octet == "/"]
    tail = target[slashes[cut % len(slashes)] :]
    changed = with_path(scope_of(target, query, "/mount"), unquote(tail), True)
    if "%" in target:
        assert unquote_to_bytes(changed["raw_path"]) == unquote_to_bytes(tail)
        assert changed["raw_path"].endswith(tail.encode())
    assert changed["query_string"] == query.encode()
    assert changed["root_path"] == ""


@bounded
@given(TEXTS, QUERIES, st.booleans())
def test_any_path_becomes_a_target_that_means_the_same(
    path: str, query: str, forward: bool
) -> None:
    before, _, own = path.partition("?")
    changed = with_path(scope_of("/elsewhere", query), path, forward)
    raw, sent = changed["raw_path"], changed["query_string"]
    assert (raw + b"?" + sent).isascii()
    assert not set(raw + sent) & FORBIDDEN
    wanted = before if path.startswith("/") else f"/{before}"
    assert unquote_to_bytes(raw) == unquote_to_bytes(wanted.encode())
    own_octets = sent.removesuffix(query.encode()).removesuffix(b"&") if forward else sent
    if not forward or not query:
        assert unquote_to_bytes(sent) == unquote_to_bytes(own.encode())
    else:
        assert sent.endswith(query.encode())
        assert unquote_to_bytes(own_octets) in (
            unquote_to_bytes(own.encode()),
            unquote_to_bytes(own.encode()).removesuffix(b"&"),
        )


@bounded
@given(st.dictionaries(st.sampled_from(["A", "a", "X-Forwarded-For", "Host"]), st.just("new")))
def test_headers_that_are_given_do_not_mix_with_the_clients(given_: dict[str, str]) -> None:
    lines = [(b"a", b"1"), (b"a", b"2"), (b"b", b"3"), (b"host", b"h"), (b"content-length", b"0")]
    scope = {"headers": lines, "client": ("192.0.2.1", 1)}
    added = with_headers(scope, given_, None)
    assert added == (scope, [(name.lower().encode(), b"new") for name in given_])
    changed, own = with_headers(scope, None, given_)
    kept = [(b"host", b"h"), (b"content-length", b"0")]
    forwarded = [(b"x-forwarded-for", b"new")] * ("X-Forwarded-For" in given_)
    assert {**changed, "headers": lines} == scope
    assert changed["headers"] == kept + forwarded
    assert sorted(own + forwarded) == sorted(added[1])


@bounded
@given(st.lists(st.binary(max_size=100_000), max_size=8), st.lists(st.integers(0, 9), max_size=4))
def test_an_upload_is_the_same_from_its_start_or_is_refused(
    pieces: list[bytes], stops: list[int]
) -> None:
    async def run() -> None:
        left = list(pieces)

        async def receive() -> dict[str, Any]:
            if left:
                return {"type": "http.request", "body": left.pop(0), "more_body": True}
            return {"type": "http.disconnect"}

        upload = Upload(receive, None)
        upload.begin()
        for stop in stops:
            for _ in range(stop):
                await upload.receive()
            read = sum(map(len, pieces)) - sum(map(len, left))
            if read + 512 * (len(pieces) - len(left)) > 256 * 1024:
                upload.release()
                with pytest.raises(Exception, match="too long"):
                    upload.begin()
                return
            upload.release()
            upload.begin()
        got = []
        while (message := await upload.receive())["type"] == "http.request":
            got.append(message["body"])
        assert got == pieces

    asyncio.run(run())


@bounded
@given(st.lists(st.binary(min_size=1, max_size=10), max_size=5))
def test_what_is_made_here_ends_and_then_the_client_is_heard(pieces: list[bytes]) -> None:
    async def made() -> Any:
        for piece in pieces:
            yield piece

    async def client() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def run() -> None:
        receive = streamed(made(), client)
        got = []
        while (message := await receive())["more_body"]:
            got.append(message["body"])
        assert got == pieces
        assert (await receive())["type"] == "http.disconnect"

    anyio.run(run)
