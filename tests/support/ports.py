"""Ports that nobody else is given while they are held."""

from __future__ import annotations

import socket


def reserve(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket that holds a port (0: a free one) until it is closed.

    Bound and not listening it refuses. A server that shares addresses or ports can listen there
    beside it, and goes without getting in the way of the next one.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if port:
        # What a server that was there has left may still be in its last wait.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A free port is chosen without sharing: another test's would do otherwise.
    sock.bind((host, port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def port_of(sock: socket.socket) -> int:
    """The port that it holds."""
    return int(sock.getsockname()[1])
