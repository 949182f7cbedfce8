"""The upstreams: nginx with one worker, and for streams and WebSockets two programs of apps/.

Also the nginx contestant's configuration, since both are nginx and share their frame.
"""

import os
import pwd
import socket
import sys
from pathlib import Path

from benchmarks.payloads import (
    DOWNLOAD_PATH,
    SMALL_BODY,
    SMALL_PATH,
    UPLOAD_ANSWER,
    UPLOAD_PATH,
    UPLOAD_SIZE,
    download_body,
)
from benchmarks.processes import HOST, Server, StartError, free_port

FRAME = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 4096;
pid {directory}/{name}.pid;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    {http}
}}
"""

# `return` alone answers before the body is there. The mirror module reads it all first, and only
# then does the file handler refuse the POST, and its refusal is turned into the answer.
UPSTREAM = """
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    server {{
        listen {host}:{port} backlog=2048;
        location = {small} {{ return 200 '{small_body}'; }}
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

# Unbuffered, because every other contestant streams, and event streams need it; then it is
# proxy_buffer_size that each read is limited to, and 4 kB would halve the downloads.
PROXY = """
    map $http_upgrade $connection_header {{ default upgrade; "" ""; }}
    upstream target {{ server {target}; keepalive 100; keepalive_requests 1000000000; }}
    server {{
        listen {host}:{port} backlog=2048;
        location / {{
            proxy_pass http://target;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_header;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffering off;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
        }}
    }}
"""


def _nginx(name: str, nginx: str, directory: Path, port: int, http: str) -> Server:
    # Started by root, nginx would drop to a user who cannot read the temporary directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = directory / f"{name}.conf"
    config.write_text(FRAME.format(directory=directory, name=name, user=user, http=http))
    return Server(name, [nginx, "-e", "stderr", "-p", str(directory), "-c", str(config)], port)


def start_upstream(nginx: str, directory: Path) -> Server:
    (directory / "download").write_bytes(download_body())
    port = free_port()
    http = UPSTREAM.format(
        host=HOST,
        port=port,
        directory=directory,
        small=SMALL_PATH,
        small_body=SMALL_BODY.decode(),
        upload=UPLOAD_PATH,
        answer=UPLOAD_ANSWER.decode(),
        download=DOWNLOAD_PATH,
    )
    return _nginx("upstream", nginx, directory, port, http)


def start_event_source() -> Server:
    return _program("event source", "benchmarks.apps.event_source")


def start_echo_server() -> Server:
    return _program("echo server", "benchmarks.apps.echo_server")


def _program(name: str, module: str) -> Server:
    port = free_port()
    return Server(name, [sys.executable, "-m", module, str(port)], port)


def start_nginx_proxy(nginx: str, directory: Path, target: str) -> Server:
    port = free_port()
    address = target.removeprefix("http://")
    http = PROXY.format(host=HOST, port=port, target=address)
    return _nginx(f"proxy-{port}", nginx, directory, port, http)


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
