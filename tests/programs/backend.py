"""A backend of `tests.support.fleet`: an HTTP/1.1 server that says who it is, and does as told.

`python -I -S backend.py <name> <host> <port>` prints its port once it accepts. Orders come line
by line on stdin, and each is answered by one line on stdout; it ends with its stdin. Probes are
told apart by their user agent, and are answered like every other request.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would take longer than everything else
    from collections.abc import Iterator
    from typing import BinaryIO

PROBE = b"asgi-relay-health-check"


class Backend:
    def __init__(self, name: str) -> None:
        self.body = name.encode()
        self.status = "200 OK"
        self.delay = 0.0
        self.speaking = threading.Event()
        self.speaking.set()
        self.requests = 0
        self.probes = 0
        self.posted: list[str] = []

    def obey(self, order: str, value: str) -> str:
        """Change something or tell something: the line that answers the order."""
        if order == "count":
            return f"{self.requests} {self.probes}"
        if order == "posted":
            return " ".join(self.posted)
        if order == "status":
            self.status = value
        elif order == "delay":
            self.delay = float(value)
        elif order == "mute":
            self.speaking.clear()
        elif order == "speak":
            self.speaking.set()
        else:
            return f"unknown order {order}"
        return "done"

    def accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Whoever is at the other end may leave at any moment.
        try:
            with connection, connection.makefile("rb") as reader:
                while self.answer(reader.readline(), connection, reader):
                    pass
        except OSError:
            pass

    def answer(self, line: bytes, connection: socket.socket, reader: BinaryIO) -> bool:
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split(" ")
        headers = dict(read_headers(reader))
        read_body(reader, headers)
        if headers.get(b"user-agent") == PROBE:
            self.probes += 1
        else:
            self.requests += 1
        if method == "POST":
            self.posted.append(target)
        if self.delay:
            time.sleep(self.delay)
        self.speaking.wait()
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n\r\n".encode()
        connection.sendall(head if method == "HEAD" else head + self.body)
        return True


def read_headers(reader: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while line := reader.readline().rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        yield name.lower(), value.strip()


def read_body(reader: BinaryIO, headers: dict[bytes, bytes]) -> None:
    if b"transfer-encoding" in headers:
        while size := int(reader.readline(), 16):
            reader.read(size + 2)
        reader.readline()
    else:
        reader.read(int(headers.get(b"content-length", b"0")))


def main(name: str, host: str, port: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    # The port is one that an earlier process had, or that the test has bound and holds for us.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(1024)
    backend = Backend(name)
    threading.Thread(target=backend.accept, args=(listener,), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        order, _, value = line.strip().partition(" ")
        print(backend.obey(order, value), flush=True)
    # The threads may be in the middle of something; nobody waits for it.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
