"""The upstreams: nginx with one worker, and for streams and WebSockets two programs of apps/."""

import socket
import sys
from pathlib import Path

from benchmarks.nginx import start_nginx
from benchmarks.payloads import (
    DOWNLOAD_PATH,
    IDLE_PATH,
    SMALL_BODY,
    SMALL_PATH,
    UPLOAD_ANSWER,
    UPLOAD_PATH,
    UPLOAD_SIZE,
    download_body,
)
from benchmarks.processes import HOST, Server, StartError, free_port

# `return` alone answers before the body is there. The mirror module reads it all first, and only
# then does the file handler refuse the POST, and its refusal is turned into the answer.
UPSTREAM = """
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    server {{
        listen {host}:{port} backlog=2048;
        location = {small} {{ return 200 '{small_body}'; }}
        location = {idle} {{ return 200 '{small_body}'; }}
        location = {upload} {{
            mirror /_read_the_body;
            alias {directory}/download;
            error_page 405 = @stored;
        }}
        location = /_read_the_body {{ internal; return 204; }}
        location @stored {{ add_header x-received $request_length; return 200 '{answer}'; }}
        location = {download} {{
            default_type application/octet-stream;
            alias {directory}/download;
        }}
    }}
"""


def start_upstream(nginx: str, directory: Path) -> Server:
    (directory / "download").write_bytes(download_body())
    port = free_port()
    http = UPSTREAM.format(
        host=HOST,
        port=port,
        directory=directory,
        small=SMALL_PATH,
        idle=IDLE_PATH,
        small_body=SMALL_BODY.decode(),
        upload=UPLOAD_PATH,
        answer=UPLOAD_ANSWER.decode(),
        download=DOWNLOAD_PATH,
    )
    return start_nginx("upstream", nginx, directory, port, http)


def start_event_source() -> Server:
    return _program("event source", "benchmarks.apps.event_source")


def start_echo_server() -> Server:
    return _program("echo server", "benchmarks.apps.echo_server")


def _program(name: str, module: str) -> Server:
    port = free_port()
    return Server(name, [sys.executable, "-m", module, str(port)], port)


def check_upload_is_read(server: Server) -> None:
    """Half an upload must get no answer, or the upload scenario would measure no uploads."""
    head = f"POST {UPLOAD_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {UPLOAD_SIZE}\r\n\r\n"
    half = b"0" * (UPLOAD_SIZE // 2)
    with socket.create_connection((HOST, server.port), timeout=0.2) as connection:
        connection.sendall(head.encode() + half)
        try:
            early = connection.recv(1024)
        except TimeoutError:
            pass
        else:
            raise StartError(f"the upstream answers before the upload is there: {early[:60]!r}")
        connection.settimeout(5)
        connection.sendall(half)
        if not connection.recv(1024).startswith(b"HTTP/1.1 200"):
            raise StartError("the upstream does not answer a whole upload")
