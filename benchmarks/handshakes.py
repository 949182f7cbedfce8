"""The load on TLS: a new connection and a whole handshake for each small GET.

wrk takes its sessions up again on a new connection, and so measures half a handshake. Here no
session is remembered. Threads, as OpenSSL lets others run while it computes.
Called as ``python -m benchmarks.handshakes PORT PATH THREADS SECONDS``; prints a line of JSON.
"""

import json
import socket
import ssl
import sys
import threading
import time

from benchmarks.payloads import SMALL_BODY
from benchmarks.processes import HOST

TIMEOUT = 10.0


class Run:
    """What all threads have in common: what they ask, and what came of it."""

    def __init__(self, port: int, path: str, seconds: float) -> None:
        self.address = (HOST, port)
        self.request = f"GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode()
        self.began = time.perf_counter()
        self.ends = self.began + seconds
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The checks before the run have looked at the certificate; here it would cost the load.
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.took: list[float] = []
        """Seconds, one for each exchange, from before the connection to its end."""
        self.received = 0
        self.errors = {"connect": 0, "read": 0, "wrong": 0}

    def work(self) -> None:
        while (now := time.perf_counter()) < self.ends:
            try:
                connection = socket.create_connection(self.address, TIMEOUT)
            except OSError:
                self.errors["connect"] += 1
                continue
            try:
                got = self._exchange(connection)
            except OSError:
                self.errors["read"] += 1
                continue
            self.received += len(got)
            self.took.append(time.perf_counter() - now)
            if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(SMALL_BODY):
                self.errors["wrong"] += 1

    def _exchange(self, connection: socket.socket) -> bytes:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.context.wrap_socket(connection, suppress_ragged_eofs=True) as secured:
            secured.sendall(self.request)
            got = b""
            while part := secured.recv(65_536):
                got += part
        return got


def play(port: int, path: str, threads: int, seconds: float) -> dict[str, object]:
    run = Run(port, path, seconds)
    workers = [threading.Thread(target=run.work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    passed = time.perf_counter() - run.began
    took = sorted(run.took)
    return {
        "count": len(took),
        "seconds": passed,
        "bytes": run.received,
        "p50_ms": took[len(took) // 2] * 1e3 if took else 0,
        "p99_ms": took[len(took) * 99 // 100] * 1e3 if took else 0,
        "errors": run.errors,
    }


if __name__ == "__main__":
    _, port, path, threads, seconds = sys.argv
    print(json.dumps(play(int(port), path, int(threads), float(seconds))))
