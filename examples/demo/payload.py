"""What the demonstration sends: the words of its token stream, and a large body, cheap to make.

Each block of the body is different: one that is lost, doubled or out of place changes the checksum.
"""

import hashlib
import random
from collections.abc import Iterator

REPLY = "Relay hands each word on in the moment in which the upstream sends it."

MEGABYTE = 1_000_000
BLOCK = 100_000
_NOISE = random.Random(1815).randbytes(BLOCK)


def blocks(megabytes: int) -> Iterator[bytes]:
    """Make the body, block by block."""
    for index in range(megabytes * MEGABYTE // BLOCK):
        yield index.to_bytes(8, "big") + _NOISE[8:]


def checksum(megabytes: int) -> str:
    """SHA-256 of the whole body."""
    digest = hashlib.sha256()
    for block in blocks(megabytes):
        digest.update(block)
    return digest.hexdigest()
