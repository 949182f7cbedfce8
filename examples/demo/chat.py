"""The act with WebSockets: two clients of a chat, from the handshake to the close codes.

They are the package websockets' sync clients, and each line that is shown names one of them.
"""

import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from . import client
from .client import TIMEOUT, UnexpectedError, expect
from .room import FAREWELL
from .screen import Screen
from .services import Service

OFFERED = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
GOING_HOME = 3001, "going home"


class Guest:
    """One who chats: an open WebSocket, and a name before each line."""

    def __init__(self, screen: Screen, front: Service, name: str) -> None:
        self._screen = screen
        self._name = name
        path = f"/auth/room?user={name}"
        screen.request(f"{name}  GET {path}   Sec-WebSocket-Protocol: {', '.join(OFFERED)}")
        url = f"ws://{urlsplit(front.url).netloc}{path}"
        try:
            # No proxy of the environment's: this is about the front and nobody else.
            self._socket: ClientConnection = connect(
                url, subprotocols=OFFERED, proxy=None, open_timeout=TIMEOUT
            )
        except InvalidHandshake as refusal:
            raise UnexpectedError(f"the front does not open the WebSocket: {refusal}") from refusal
        self.subprotocol = self._socket.subprotocol
        screen.answer(f"{name}  101  Sec-WebSocket-Protocol: {self.subprotocol}")

    def say(self, text: str) -> None:
        """Send a message."""
        self._screen.request(f"{self._name}  {text}")
        self._socket.send(text)

    def hear(self, wanted: str) -> None:
        """Wait for a message, which must be the wanted one."""
        try:
            text = self._socket.recv(TIMEOUT)
        except ConnectionClosed as closed:
            raise UnexpectedError(f"{wanted!r} was to come, and then {closed}") from closed
        self._screen.answer(f"{self._name}  {text!s}")
        expect(text == wanted, f"{self._name} should have heard {wanted!r}")

    def be_closed(self) -> tuple[int, str]:
        """Wait for the other side's close: its code and its reason."""
        try:
            text = self._socket.recv(TIMEOUT)
        except ConnectionClosed as closed:
            expect(closed.rcvd is not None, "the connection ended without a close frame")
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
            self._screen.answer(f"{self._name}  close {code}  {reason}")
            return code, reason
        raise UnexpectedError(f"a close was to come, and not {text!r}")

    def close(self, code: int, reason: str) -> None:
        """Leave."""
        self._screen.request(f"{self._name}  close {code}  {reason}")
        self._socket.close(code, reason)

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def chat(screen: Screen, front: Service) -> None:
    """Two guests, a few words, and two ways to part."""
    screen.act(
        "A chat over WebSocket",
        "Two clients in one room of the upstream's, through the same Relay. The upstream is asked"
        " first: it is the one that chooses a subprotocol, and only then the front accepts. Close"
        " codes and reasons cross as they are.",
    )
    play_chat(screen, front)


def play_chat(screen: Screen, front: Service) -> None:
    """What they say, and what is expected to arrive."""
    with ExitStack() as guests:
        ada = guests.enter_context(Guest(screen, front, "ada"))
        bob = guests.enter_context(Guest(screen, front, "bob"))
        chosen = {ada.subprotocol, bob.subprotocol}
        expect(chosen == {"chat.v2"}, f"the upstream chooses chat.v2, and not {chosen}")
        ada.hear("bob has come")
        ada.say("is it you who relays this?")
        bob.hear("ada: is it you who relays this?")
        bob.say("no, and I have not noticed that anybody does")
        ada.hear("bob: no, and I have not noticed that anybody does")
        bob.say("/leave")
        parting = bob.be_closed()
        expect(
            parting == (FAREWELL, "come again, bob ♥"), f"bob was told {parting} as he was closed"
        )
        ada.hear("bob has left")
        ada.close(*GOING_HOME)
    seen = _how_ada_left(front)
    screen.fact("upstream saw", f"ada {seen}")
    wanted = f"closed with {GOING_HOME[0]} {GOING_HOME[1]}"
    expect(seen == wanted, f"the upstream should have seen: {wanted}")
    screen.passed("the upstream's subprotocol, every message, both close codes and their reasons")


def _how_ada_left(front: Service) -> str | None:
    """What the upstream says of it, which it may learn a moment after the client has gone."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        answer = client.ask(front.url, "GET", "/auth/guests").json()
        if "ada" in answer:
            return str(answer["ada"])
        time.sleep(0.02)
    return None
