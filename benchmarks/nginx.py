"""Starting nginx with one worker: for the upstream, and as a contestant."""

import os
import pwd
from pathlib import Path

from benchmarks.processes import Server

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


def start_nginx(
    name: str, nginx: str, directory: Path, port: int, http: str, *, tls_port: int | None = None
) -> Server:
    """`http` is what goes into the block of that name."""
    # Started by root, nginx would drop to a user who cannot read the temporary directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = directory / f"{name}.conf"
    config.write_text(FRAME.format(directory=directory, name=name, user=user, http=http))
    argv = [nginx, "-e", "stderr", "-p", str(directory), "-c", str(config)]
    return Server(name, argv, port, tls_port=tls_port)
