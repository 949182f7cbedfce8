"""Before anything is measured: does the contestant relay each scenario's exchange rightly?

A proxy that answers 502 at once would otherwise win.
"""

import asyncio
import http.client
import ssl

from benchmarks.certificate import Certificate
from benchmarks.load import LoadError, hold, play_echoes
from benchmarks.payloads import (
    BULK_PATH,
    DOWNLOAD_PATH,
    RECEIVED_HEADER,
    SMALL_BODY,
    SMALL_PATH,
    UPLOAD_ANSWER,
    UPLOAD_PATH,
    UPLOAD_SIZE,
    download_body,
)
from benchmarks.processes import HOST, Server, StartError
from benchmarks.scenarios import Scenario

BULK_SECONDS = 0.5


def check(server: Server, scenario: Scenario, certificate: Certificate | None) -> str | None:
    """What is wrong, or None."""
    port, path = server.port, scenario.path
    try:
        if path == SMALL_PATH and scenario.tls:
            _exchange_secured(server.port_for(tls=True), path, certificate)
        elif path == SMALL_PATH:
            _exchange(port, "GET", path, SMALL_BODY)
        elif path == DOWNLOAD_PATH:
            _exchange(port, "GET", path, download_body())
        elif path == UPLOAD_PATH:
            received = _exchange(port, "POST", path, UPLOAD_ANSWER, b"0" * UPLOAD_SIZE)
            if int(received or 0) < UPLOAD_SIZE:
                return f"of {UPLOAD_SIZE} bytes sent, the upstream got {received}"
        elif path == BULK_PATH:
            load = play_echoes(scenario, port, BULK_SECONDS)
            if load.errors or not load.count:
                return f"{load.count} echoes of 1 MB came; errors: {load.errors}"
        else:
            asyncio.run(_hold_one(scenario, port))
    except (OSError, http.client.HTTPException, LoadError, StartError) as error:
        return str(error) or repr(error)
    return None


def _exchange(
    port: int, method: str, path: str, expected: bytes, body: bytes | None = None
) -> str | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    return _answered(connection, method, path, expected, body)


def _exchange_secured(port: int, path: str, certificate: Certificate | None) -> None:
    """A GET over TLS 1.3 from a client that trusts nothing but the bench's certificate."""
    if certificate is None:
        raise LoadError("there is no certificate")
    context = ssl.create_default_context(cafile=str(certificate.chain))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    connection = http.client.HTTPSConnection(HOST, port, timeout=20, context=context)
    _answered(connection, "GET", path, SMALL_BODY, None)


def _answered(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    expected: bytes,
    body: bytes | None,
) -> str | None:
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        got = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"{method} {path} got status {response.status}")
    if got != expected:
        raise LoadError(f"{method} {path}: a wrong body of {len(got)} bytes, not {len(expected)}")
    return response.getheader(RECEIVED_HEADER)


async def _hold_one(scenario: Scenario, port: int) -> None:
    async with hold(scenario, port, 1):
        pass
