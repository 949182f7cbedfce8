"""Several WebSockets through one relay, for what takes its time with each of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .lending import lending
from .websocket import Accept, WebSocketClient, through

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .websocket import UpstreamPeer


@contextlib.contextmanager
def abreast(count: int, **settings: Any) -> Iterator[list[tuple[WebSocketClient, UpstreamPeer]]]:
    """Both ends of so many, opened and lent as by `through`."""
    accept = Accept()
    with through(accept, **settings) as ends, contextlib.ExitStack() as stack:
        pairs = [(ends.client, ends.peer)]
        for number in range(1, count):
            client = stack.enter_context(WebSocketClient(ends.front.port))
            client.open()
            peer = accept.peer(number)
            stack.callback(peer.vanish)
            lending.lend(client, peer)
            pairs.append((client, peer))
        yield pairs
