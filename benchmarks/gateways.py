"""The gateways, and how each is started: one process, one worker or thread, two listeners.

All keep 100 connections to the upstream, pass responses on as they come, tell the upstream the
client's address, write no access log, and take TLS 1.2 and 1.3 with their own defaults for
ciphers, sessions and tickets. Two of them tell it no more than that, unless they are started with
the headers that `asgi-relay serve` sends of its own accord.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.apps import settings
from benchmarks.certificate import Certificate
from benchmarks.nginx import start_nginx
from benchmarks.processes import HOST, Server, free_port
from benchmarks.tools import Tools


@dataclass(frozen=True)
class Setting:
    """What contestants are started with."""

    tools: Tools
    directory: Path
    certificate: Certificate | None
    """None where no scenario has TLS, or no certificate could be made."""


GATEWAY = """
server:
  workers: 1
  listeners:
    - {{host: {host}, port: {port}}}
    {tls}
routes:
  - targets: {target}
    timeout: {{connect: {connect:g}, read: {idle:g}}}
    limits:
      max_connections: {connections}
      max_keepalive_connections: {kept}
      keepalive_expiry: {kept_seconds:g}
"""
GATEWAY_TLS = """- host: {host}
      port: {port}
      ssl: {{certificates: [{{cert_file: {chain}, key_file: {key}}}]}}"""

# Unbuffered, because every other contestant streams, and event streams need it; then it is
# proxy_buffer_size that each read is limited to, and 4 kB would halve the downloads.
NGINX = """
    map $http_upgrade $connection_header {{ default upgrade; "" ""; }}
    upstream target {{ server {target}; keepalive {kept}; keepalive_requests 1000000000; }}
    server {{
        listen {host}:{port} backlog=2048;
        {tls}
        location / {{
            proxy_pass http://target;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_header;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            {more}
            proxy_buffering off;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
        }}
    }}
"""
# 1.22, Debian 12's, has no TLS 1.3 unless it is told to.
NGINX_TLS = """listen {host}:{port} ssl backlog=2048;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;"""
# What the gateway tells an upstream beside the client's address.
NGINX_MORE = """proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-Id $request_id;"""

# Its buffers have 16 kB of their own accord.
HAPROXY = """
global
    nbthread 1
    maxconn 4000
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect {connect:g}s
    timeout client {idle:g}s
    timeout server {idle:g}s
    timeout tunnel {idle:g}s
    timeout http-keep-alive {idle:g}s
frontend clients
    bind {host}:{port} backlog 2048
    {tls}
    {more}
    default_backend target
backend target
    server target {target} pool-max-conn {kept} pool-purge-delay {kept_seconds:g}s
"""
HAPROXY_MORE = """http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id"""
HAPROXY_TLS = "bind {host}:{port} ssl crt {both} backlog 2048"


def start_asgi_relay(setting: Setting, target: str) -> Server:
    port, tls_port, config = _configure("gateway", GATEWAY, GATEWAY_TLS, setting, target)
    argv = [sys.executable, "-m", "asgi_relay", "serve", "-c", str(config)]
    return Server("asgi-relay serve", argv, port, tls_port=tls_port)


def start_haproxy(setting: Setting, target: str, more: str = "") -> Server:
    port, tls_port, config = _configure(
        "haproxy",
        HAPROXY.replace("{more}", more),
        HAPROXY_TLS,
        setting,
        target.removeprefix("http://"),
    )
    argv = [setting.tools["haproxy"], "-q", "-db", "-f", str(config)]
    return Server("HAProxy", argv, port, tls_port=tls_port)


def start_nginx_proxy(setting: Setting, target: str, more: str = "") -> Server:
    port, tls_port, config = _configure(
        "nginx",
        NGINX.replace("{more}", more),
        NGINX_TLS,
        setting,
        target.removeprefix("http://"),
    )
    nginx, http = setting.tools["nginx"], config.read_text()
    return start_nginx(f"proxy-{port}", nginx, setting.directory, port, http, tls_port=tls_port)


def _configure(
    name: str, text: str, tls: str, setting: Setting, target: str
) -> tuple[int, int | None, Path]:
    """The port, that with TLS if there is a certificate, and the file with the configuration."""
    port, tls_port, certificate = free_port(), None, setting.certificate
    if certificate is not None:
        tls_port = free_port()
        tls = tls.format(host=HOST, port=tls_port, **vars(certificate))
    text = text.format(
        host=HOST,
        port=port,
        tls=tls if certificate else "",
        target=target,
        connect=settings.CONNECT_TIMEOUT,
        idle=settings.IDLE_TIMEOUT,
        connections=settings.MAX_CONNECTIONS,
        kept=settings.KEPT_ALIVE,
        kept_seconds=settings.KEPT_ALIVE_SECONDS,
    )
    config = setting.directory / f"{name}-{port}.conf"
    config.write_text(text)
    return port, tls_port, config


STARTERS: dict[str, Callable[[Setting, str], Server]] = {
    "gateway": start_asgi_relay,
    "nginx": start_nginx_proxy,
    "nginx-headers": partial(start_nginx_proxy, more=NGINX_MORE),
    "haproxy": start_haproxy,
    "haproxy-headers": partial(start_haproxy, more=HAPROXY_MORE),
}
"""Those contestants that are no ASGI app, by key."""
