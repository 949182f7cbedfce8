"""A scripted upstream on raw sockets: it does what a script says and records all that it saw.

It owns the listener, the connections and the record. What to do to a request is in `scripts`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

from .exchange import Exchange, PeerGoneError, Request, Script
from .ports import port_of, reserve
from .waiting import PATIENCE
from .wire import ClosedError, MalformedError, Reader, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType


class Connection:
    """One accepted connection: its requests, and how it ended."""

    def __init__(self, upstream: Upstream, sock: socket.socket, index: int) -> None:
        self.upstream = upstream
        self.index = index
        self.requests: list[Request] = []
        self.peer: object = None
        """Where it came from, as the socket module tells it."""
        self.closed_by_peer = threading.Event()
        self.closed_at = 0.0
        """time.monotonic() of the moment at which the peer's FIN or RST was noticed."""
        self.error: Exception | None = None
        """What ended it, if not its script: the peer's FIN or RST, a failed handshake."""
        self.sock = sock
        self.reader = Reader(sock)
        self.leaving = threading.Event()
        """Set when the test closes the connection, or stops the upstream."""
        self.thread = threading.Thread(target=self._serve, name=f"upstream-{index}", daemon=True)
        self._linger_on_close = True

    @property
    def received(self) -> int:
        """Octets taken from the peer so far."""
        return self.reader.received

    def wait_closed(self, timeout: float = PATIENCE) -> float:
        """Wait until the peer has closed or reset; the time.monotonic() at which it was noticed."""
        if not self.closed_by_peer.wait(timeout):
            raise AssertionError(f"connection {self.index} is still open after {timeout} s")
        return self.closed_at

    def wait_done(self, timeout: float = PATIENCE) -> None:
        """Wait until its script is over too; `error` is final then."""
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise AssertionError(f"connection {self.index} is still being served")

    def close(self) -> None:
        """Send FIN from any thread, idle or not, and wait until the connection is done with."""
        self.leaving.set()
        self._shut(socket.SHUT_RDWR)
        self._join()

    def reset(self) -> None:
        """Send RST from any thread, and wait until the connection is done with."""
        self.leaving.set()
        self.reset_on_close()
        self._shut(socket.SHUT_RD)
        self._join()

    def reset_on_close(self) -> None:
        self._linger_on_close = False
        # An on/off pair of C ints: close at once, dropping what is unsent, with RST.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _join(self) -> None:
        if threading.current_thread() is not self.thread:
            self.thread.join(PATIENCE)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            # Not SSLSocket's method, which forgets the TLS state under the reading thread.
            socket.socket.shutdown(self.sock, how)

    def peer_closed(self) -> None:
        """The watcher or the reading thread has seen it, whichever comes first."""
        if not self.leaving.is_set() and not self.closed_by_peer.is_set():
            self.closed_at = time.monotonic()
            self.closed_by_peer.set()
            self.upstream.changed()

    def _serve(self) -> None:
        try:
            self._handshake()
            greeting = self.upstream.on_connect
            if greeting is None or greeting(self):
                while self._exchange():
                    pass
        except (ClosedError, ConnectionError) as error:
            self.error = error
            self.peer_closed()
        except (OSError, PeerGoneError) as error:
            self.error = error
        except BaseException as error:  # a MalformedError request among them: nothing may send one
            self.upstream.errors.append(error)
        finally:
            self._finish()

    def _handshake(self) -> None:
        if self.upstream.tls is not None:
            # In two steps: a handshake that fails within `wrap_socket` closes the descriptor there,
            # behind the back of whoever watches it.
            self.sock = secure = self.upstream.tls.wrap_socket(
                self.sock, server_side=True, do_handshake_on_connect=False
            )
            self.reader = Reader(secure)
            secure.do_handshake()

    def _exchange(self) -> bool:
        """Serve one request; whether there may be another."""
        transcript = self.reader.start_transcript()
        first, headers = parse_head(self.reader.head())
        parts = first.split(b" ")
        if len(parts) != 3:
            raise MalformedError(f"request line: {first!r}")
        request = Request(*parts, headers=headers, connection=self, transcript=transcript)
        self.requests.append(request)
        self.upstream.record(request)
        exchange = Exchange(request)
        self.upstream.script(exchange)
        if not exchange.body_read:
            self._discard()
            return False
        return not exchange.closing

    def _discard(self) -> None:
        """Close in steps: with octets unread it would be an RST, which overtakes the answer."""
        if self._linger_on_close:
            self._shut(socket.SHUT_WR)
            while not self.leaving.is_set():
                self.reader.some()

    def _finish(self) -> None:
        self.upstream.unwatch(self)
        if isinstance(self.sock, ssl.SSLSocket) and self._linger_on_close:
            self.sock.settimeout(0)  # say close_notify, and do not wait for the peer's
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()
        self.sock.close()


class Upstream:
    """Listens on a free loopback port, or a Unix socket: `with Upstream(script) as upstream:`."""

    def __init__(
        self,
        script: Script,
        *,
        on_connect: Callable[[Connection], bool] | None = None,
        tls: ssl.SSLContext | None = None,
        unix: Path | None = None,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """`on_connect` runs before the first request of a connection; False ends the connection.

        `receive_buffer` is SO_RCVBUF, for tests that measure how much a client manages to send.
        """
        self.script = script
        self.on_connect = on_connect
        self.tls = tls
        self.unix = unix
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        """What scripts raised; `with` raises the first of them at its end."""
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        # Nobody else is given the port of one that has been stopped.
        self._reserved = None if unix else reserve(host)
        family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if self._reserved is None:
            self._listener.bind(str(unix))
        else:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port_of(self._reserved)))
        self._listener.listen(1024)
        self._address = self._listener.getsockname()
        self._watched: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="upstream", daemon=True)

    @property
    def port(self) -> int:
        return int(self._address[1])

    @property
    def authority(self) -> str:
        """What the Host header of a request to it should be."""
        host = self._address[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """What Relay takes as its target."""
        if self.unix is not None:
            return f"http+unix://{quote(str(self.unix), safe='')}"
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    def __enter__(self) -> Upstream:
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._woken, select.EPOLLIN)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._reserved is not None:
            self._reserved.close()
        if self.errors and error is None:
            raise self.errors[0]
        # The test failed already: what went wrong here is often why.
        for connection in self.connections:
            if connection.error is not None:
                print(f"upstream connection {connection.index}: {connection.error!r}")
        for other in self.errors:
            traceback.print_exception(other)

    def stop(self) -> None:
        """Close everything; idempotent. The port then refuses, as one of a server that is down."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.changed()
        self._wake.send(b"x")
        self._thread.join(PATIENCE)
        for connection in self.connections:
            connection.close()
        self._epoll.close()
        for sock in (self._listener, self._wake, self._woken):
            sock.close()
        if self._reserved is not None:
            # It was shared with the listener, and is with nobody else.
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                self._reserved.setsockopt(socket.SOL_SOCKET, option, 0)

    def settle(self) -> None:
        """Wait until all that was sent here is recorded, once whoever sent it has gone."""
        # Connections are accepted in the order in which they came: this one behind all others.
        with socket.create_connection(self._address[:2]) as last:
            name = last.getsockname()
            self.wait_until(
                lambda: any(one.peer == name for one in self.connections), "the last connection"
            )
        for connection in self.connections:
            connection.wait_done()

    def wait_requests(self, count: int = 1, timeout: float = PATIENCE) -> Request:
        """Wait until the heads of `count` requests have been read; the last of them."""
        self.wait_until(lambda: len(self.requests) >= count, f"{count} request(s)", timeout)
        return self.requests[count - 1]

    def wait_connections(self, count: int = 1, timeout: float = PATIENCE) -> Connection:
        """Wait until `count` connections have been accepted; the last of them."""
        self.wait_until(lambda: len(self.connections) >= count, f"{count} connection(s)", timeout)
        return self.connections[count - 1]

    def wait_until(
        self, condition: Callable[[], bool], wanted: str, timeout: float = PATIENCE
    ) -> None:
        """Wait for anything that the record tells; it is looked at after each event."""
        with self._condition:
            if not self._condition.wait_for(condition, timeout):
                raise AssertionError(
                    f"waited {timeout} s for {wanted}: {len(self.connections)} connection(s), "
                    f"requests {[request.line for request in self.requests]}, errors {self.errors}"
                )

    def record(self, request: Request) -> None:
        with self._condition:
            self.requests.append(request)
            self._condition.notify_all()

    def changed(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def unwatch(self, connection: Connection) -> None:
        """Its descriptor is about to be closed, and may be another connection's a moment later."""
        with self._condition, contextlib.suppress(KeyError, OSError, ValueError):
            del self._watched[connection.sock.fileno()]
            self._epoll.unregister(connection.sock.fileno())

    def _watch(self) -> None:
        # EPOLLRDHUP tells of a FIN although nobody reads, and a script that waits does not read.
        while not self.stopping.is_set():
            numbers = {number for number, _ in self._epoll.poll()}
            accepting = self._listener.fileno() in numbers
            # Accepting comes last: it may reuse a number whose end is in the same batch.
            for number in numbers - {self._listener.fileno(), self._woken.fileno()}:
                with self._condition:
                    gone = self._watched.pop(number, None)
                    if gone is not None:
                        self._epoll.unregister(number)
                if gone is not None:
                    gone.peer_closed()
            if accepting:
                self._accept()

    def _accept(self) -> None:
        sock, peer = self._listener.accept()
        if not self.unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._condition:
            connection = Connection(self, sock, len(self.connections))
            connection.peer = peer
            self.connections.append(connection)
            self._watched[sock.fileno()] = connection
            self._epoll.register(sock, select.EPOLLRDHUP)
            # Before anybody is told of it, who may want to wait for its end.
            connection.thread.start()
            self._condition.notify_all()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """The URL of a port that refuses."""
    with reserve() as sock:
        yield f"http://127.0.0.1:{port_of(sock)}"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The URL of a port where a connect never ends: its queue is full, so Linux drops the SYNs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
