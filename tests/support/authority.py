"""A certificate authority of the tests' own, for upstreams and servers that speak TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

from .servers import Certificate

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """Issues certificates; `pem` is what a client must trust to accept them."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self._directory = directory
        self.pem = directory / "authority.pem"
        self._ca.cert_pem.write_to_path(self.pem)

    def certificate(self, *names: str, rsa_key: bool = False) -> Certificate:
        """PEM files of a certificate for these host names or addresses."""
        stem = "-".join(names).replace(":", "_")
        chain = self._directory / f"{stem}.pem"
        key = self._directory / f"{stem}.key"
        kind = trustme.KeyType.RSA if rsa_key else trustme.KeyType.ECDSA
        issued = self._ca.issue_cert(*names, key_type=kind)
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return Certificate(chain, key)

    def server(self, *names: str, client_certificate: bool = False) -> ssl.SSLContext:
        """For `Upstream(tls=…)`: it is one of `names`, and may want a certificate of the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued = self.certificate(*(names or ("127.0.0.1", "localhost")))
        context.load_cert_chain(issued.chain, issued.key)
        if client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def client(self) -> ssl.SSLContext:
        """For `Client(tls=…)`: it trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context
