"""The certificate of the gateways' TLS listeners: made for each run, for no longer than that."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import HOST, StartError

DAYS = 2


@dataclass(frozen=True)
class Certificate:
    """ECDSA on P-256, signed by itself; the paths of PEM files."""

    chain: Path
    key: Path
    both: Path
    """Both in one file, as HAProxy wants them."""


def make_certificate(openssl: str, directory: Path) -> Certificate:
    made = Certificate(directory / "tls.crt", directory / "tls.key", directory / "tls.pem")
    argv = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    argv += ["-nodes", "-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{HOST}"]
    argv += ["-days", str(DAYS), "-out", str(made.chain), "-keyout", str(made.key)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"openssl made no certificate: {done.stderr.strip()}")
    made.both.write_text(made.chain.read_text() + made.key.read_text())
    return made
