"""What crosses the wire, shared by the upstreams, the floor and the checks, so that all agree."""

SMALL_PATH = "/small"
UPLOAD_PATH = "/upload"
DOWNLOAD_PATH = "/download"
EVENTS_PATH = "/events"
ECHO_PATH = "/echo"
BULK_PATH = "/bulk"
HELD_PATH = "/held"
IDLE_PATH = "/idle"

SMALL_BODY = b'{"id":4711,"user":"ada","roles":["reader","writer"],"active":true}'
UPLOAD_SIZE = 16 * 1024
UPLOAD_ANSWER = b'{"stored":true}'
DOWNLOAD_SIZE = 10_000_000
FIRST_EVENT = b"data: hello\n\n"

# Every WebSocket offers it, because fastapi-reverse-proxy refuses those that offer none.
SUBPROTOCOL = "bench"
ECHO_MESSAGE = b'{"room":"lobby","from":"ada","text":"is anybody out there now?"}'
"""64 bytes, sent as text."""
BULK_SIZE = 1_000_000

# The upstream says in this header how many bytes it has really taken, so that a contestant
# cannot win by losing the body.
RECEIVED_HEADER = "x-received"


def download_body() -> bytes:
    """The 10 MB file: no two blocks alike, so a lost, doubled or swapped block is noticed."""
    lines = b"".join(b"%015d\n" % n for n in range(DOWNLOAD_SIZE // 16 + 1))
    return lines[:DOWNLOAD_SIZE]


def bulk_message() -> bytes:
    """The 1 MB message, sent as binary."""
    return download_body()[:BULK_SIZE]
