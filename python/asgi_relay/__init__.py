"""A reverse proxy that mounts in any ASGI app, with its engine in Rust.

`Relay` is an ASGI app: mount it, and what is asked for below the mount is answered by the
upstream. Everything else here configures it or tells what went wrong.
"""

from .balancing import (
    ConsistentHash,
    HealthCheck,
    PassiveHealth,
    RelayStatus,
    StickyCookie,
    Target,
    TargetChange,
    TargetSet,
    TargetStatus,
)
from .config import Limits, Timeout
from .exceptions import (
    ConnectError,
    ConnectTimeout,
    NameResolutionError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ReadError,
    ReadTimeout,
    RelayError,
    RemoteProtocolError,
    TimeoutException,
    TLSError,
    TooManyRedirects,
    TransportError,
    WriteError,
    WriteTimeout,
)
from .relay import Relay
from .transports import ASGITransport

__version__ = "0.1.0"

__all__ = [
    "ASGITransport",
    "ConnectError",
    "ConnectTimeout",
    "ConsistentHash",
    "HealthCheck",
    "Limits",
    "NameResolutionError",
    "NetworkError",
    "PassiveHealth",
    "PoolTimeout",
    "ProtocolError",
    "ReadError",
    "ReadTimeout",
    "Relay",
    "RelayError",
    "RelayStatus",
    "RemoteProtocolError",
    "StickyCookie",
    "TLSError",
    "Target",
    "TargetChange",
    "TargetSet",
    "TargetStatus",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "WriteError",
    "WriteTimeout",
    "__version__",
]
