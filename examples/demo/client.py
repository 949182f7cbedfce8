"""The client of the demonstration: a few lines over http.client, so that nothing in it is clever.

Also the one way in which the demonstration fails: an ``UnexpectedError`` that says why.
"""

import http.client
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0


class UnexpectedError(Exception):
    """Something was not as the demonstration promises."""


def expect(condition: bool, sentence: str) -> None:
    """Raise an UnexpectedError that says the sentence unless the condition holds."""
    if not condition:
        raise UnexpectedError(sentence)


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace").strip()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@contextmanager
def opened(
    base: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request on a connection of its own and give the response to read from."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, headers or {})
        yield connection.getresponse()
    finally:
        connection.close()


def ask(
    base: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send a request and read the whole response."""
    with opened(base, method, path, body, headers) as response:
        return Answer(response.status, response.headers, response.read())
