"""The event of a WebSocket on `logger`: one INFO line when a handshake or a session fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from asgi_relay import Timeout

from .support import scripts
from .support.front import relayed
from .support.records import Records
from .support.session import Session, given
from .support.upstream import Upstream, refusing, silent
from .support.waiting import wait_until
from .support.websocket import Accept, Through, WebSocketClient, echo, through

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support.exchange import Script


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra=` put into a record."""
    plain = logging.LogRecord("", 0, "", 0, "", (), None)
    known = {*vars(plain), "message"}
    return {key: value for key, value in vars(record).items() if key not in known}


def assert_event(record: logging.LogRecord, url: str, error: str) -> None:
    """A line of INFO whose text tells the same as its fields."""
    assert record.levelno == logging.INFO
    found = fields(record)
    assert set(found) == {"event", "url", "error"}
    assert (found["event"], found["url"]) == ("websocket_error", url)
    assert error in found["error"]
    line = record.getMessage()
    assert line == f"reverse_proxy.websocket_error url={url!r} error={found['error']!r}"
    assert "\n" not in line


def logged(script: Script, target: str = "/x", **settings: Any) -> tuple[str, Records]:
    """The upstream's URL and what was logged for one handshake."""
    records = Records()
    with Upstream(script) as upstream:
        given(Session(target), upstream.url, logger=records.logger, **settings)
        return upstream.url, records


# -- handshakes ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ways")
def test_what_goes_well_is_not_logged() -> None:
    records = Records()
    with through(Accept(echo), logger=records.logger) as ends:
        ends.client.send_text("hello")
        assert ends.client.receive_message() == "hello"
        ends.client.finish_close(4999, "no fault of anyone's")
        # The client's server answers by itself: the upstream may not have, yet. Which of its
        # connection's ends is first closed is nobody's concern.
        ends.peer.connection.wait_done()
    assert records.all == []


@pytest.mark.parametrize("status", [401, 302, 404])
def test_a_refusal_is_an_answer_and_not_logged(status: int) -> None:
    _, records = logged(scripts.answer(status))
    assert records.all == []


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (scripts.close, "RemoteProtocolError"),
        (scripts.reset, "ReadError"),
        (scripts.say(b"?\r\n\r\n"), "RemoteProtocolError"),
        (Accept(accept=b"wrong"), "RemoteProtocolError"),
        (Accept(subprotocol="never-offered"), "RemoteProtocolError"),
    ],
    ids=["fin", "rst", "garbage", "accept", "subprotocol"],
)
def test_a_handshake_that_fails_is_logged(script: Script, kind: str) -> None:
    url, records = logged(script)
    (record,) = records.all
    assert_event(record, f"{url}/x", kind)


def test_a_handshake_without_an_answer_is_logged() -> None:
    url, records = logged(scripts.hang, timeout=Timeout(read=0.2))
    (record,) = records.all
    assert_event(record, f"{url}/x", "ReadTimeout")


def test_a_connection_that_fails_is_logged() -> None:
    records = Records()
    with refusing() as url:
        given(Session("/x"), url, logger=records.logger)
        assert_event(records.all[0], f"{url}/x", "ConnectError")
    with silent() as url:
        given(Session("/x"), url, logger=records.logger, timeout=Timeout(connect=0.2))
        assert_event(records.all[1], f"{url}/x", "ConnectTimeout")
    assert len(records.all) == 2


# -- sessions --------------------------------------------------------------------------------------

BREAKS: dict[str, Callable[[Through], None]] = {
    "fin": lambda ends: ends.peer.vanish(),
    "rst": lambda ends: ends.peer.reset(),
    "utf-8": lambda ends: ends.peer.send_text(b"\xff"),
    "opcode": lambda ends: ends.peer.send_frame(3),
    "mask": lambda ends: ends.peer.send_text("x", mask=True),
    "close": lambda ends: ends.peer.close(999),
    "size": lambda ends: ends.peer.send_binary(bytes(2000)),
}


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("break_it", BREAKS.values(), ids=BREAKS)
def test_a_session_that_breaks_is_logged_once(break_it: Callable[[Through], None]) -> None:
    records = Records()
    with through(logger=records.logger, ws_max_message_size=1000) as ends:
        break_it(ends)
        assert ends.client.expect_close()[0] == 1011
        url = f"{ends.upstream.url}/"
        wait_until(lambda: bool(records.all), "the event")
    (record,) = records.all
    assert_event(record, url, "")
    assert fields(record)["error"]


@pytest.mark.usefixtures("ways")
def test_a_session_that_times_out_is_logged() -> None:
    records = Records()
    with through(logger=records.logger, ws_ping_interval=0.1, ws_ping_timeout=2) as ends:
        assert ends.client.expect_close()[0] == 1011
        wait_until(lambda: bool(records.all), "the event")
    assert len(records.all) == 1


@pytest.mark.usefixtures("ways")
def test_an_upstream_that_closes_with_a_code_of_its_own_is_no_event() -> None:
    records = Records()
    with through(logger=records.logger) as ends:
        ends.peer.close(1011, "its own fault")
        assert ends.client.answer_close() == (1011, "its own fault")
    assert records.all == []


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("leave", [WebSocketClient.vanish, WebSocketClient.reset])
def test_a_client_that_leaves_is_no_event(leave: Callable[[WebSocketClient], None]) -> None:
    records = Records()
    with through(logger=records.logger) as ends:
        leave(ends.client)
        ends.peer.answer_close()
    assert records.all == []


def test_a_client_that_leaves_during_the_handshake_is_no_event() -> None:
    records = Records()
    with (
        Upstream(scripts.hang) as upstream,
        relayed(upstream.url, logger=records.logger) as front,
    ):
        with WebSocketClient(front.port) as client:
            client.start()
            connection = upstream.wait_requests().connection
        connection.wait_closed()
    assert records.all == []


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/x?token=secret", "/x?token=***"),
        ("/x?secret", "/x?***"),
        ("/x?a=secret&b", "/x?a=***&***"),
    ],
)
def test_query_values_are_masked(target: str, shown: str) -> None:
    url, records = logged(scripts.close, target)
    (record,) = records.all
    assert fields(record)["url"] == url + shown
    assert "secret" not in repr(vars(record))


def test_no_credential_is_in_any_line_or_field() -> None:
    records = Records()
    session = Session(
        "/x?token=secret",
        headers=[
            (b"host", b"relay.test"),
            (b"authorization", b"Bearer secret"),
            (b"cookie", b"session=secret"),
            (b"sec-websocket-key", b"secretsecretsecretsecrA=="),
        ],
        subprotocols=["bearer.secret"],
    )
    with refusing() as url:
        secret = url.replace("http://", "ws://user:secret@")
        extra = {"X-Api-Key": "secret"}
        given(session, secret, logger=records.logger, extra_request_headers=extra)
    assert records.all
    for record in records.all:
        assert "secret" not in repr(vars(record))
    assert b"secret" not in session.body


def test_a_choice_of_subprotocol_is_not_told_to_the_log() -> None:
    _, records = logged(Accept(subprotocol="bearer.secret"))
    assert "secret" not in repr(vars(records.all[0]))


def test_a_line_break_in_a_path_or_a_reason_does_not_break_the_line() -> None:
    _, records = logged(scripts.close, "/%0d%0areverse_proxy.forged%00'")
    (line,) = records.lines
    assert line.startswith("reverse_proxy.websocket_error ")
    assert not {"\n", "\r"} & set(line)
