"""What can go wrong on the way to an upstream, as one tree.

The names are httpx's where httpx has one, so that `retry_exceptions` reads the same. Before the
response has started these are answered with 502 or 504 and never raised; after that they are
raised out of the app, so that the server cuts the response short where the client can see it.
"""

from __future__ import annotations


class RelayError(Exception):
    """The base of all errors of this package."""


class TransportError(RelayError):
    """The exchange with the upstream failed."""


class TimeoutException(TransportError, TimeoutError):
    """Something took longer than `timeout` allows. The client gets 504."""


class ConnectTimeout(TimeoutException):
    """No connection within `timeout.connect`: resolving, connecting and TLS together."""


class ReadTimeout(TimeoutException):
    """The upstream sent nothing for `timeout.read`."""


class WriteTimeout(TimeoutException):
    """The upstream took nothing of the request for `timeout.write`."""


class PoolTimeout(TimeoutException):
    """No connection came free within `timeout.pool`."""


class NetworkError(TransportError):
    """The network failed. The client gets 502."""


class ConnectError(NetworkError):
    """No connection: refused, unreachable. No octet of the request was sent."""


class NameResolutionError(ConnectError):
    """The upstream's name cannot be resolved."""


class TLSError(ConnectError):
    """The TLS handshake failed: an untrusted certificate, a wrong name, no common version."""


class ReadError(NetworkError):
    """The connection broke while the response was read."""


class WriteError(NetworkError):
    """The connection broke while the request was written."""


class ProtocolError(TransportError):
    """One side broke HTTP's rules."""


class RemoteProtocolError(ProtocolError):
    """The upstream did: a malformed or incomplete answer. The client gets 502."""


class TooManyRedirects(TransportError):
    """The upstream redirected more than 20 times. The client gets 502."""
