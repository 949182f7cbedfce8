"""Each implementation of HTTP under each kind of event loop once, where more would add nothing."""

EACH = (
    "uvicorn-asyncio-h11",
    "uvicorn-uvloop-httptools",
    "hypercorn-asyncio",
    "hypercorn-trio",
    "granian",
)
"""Some of `SERVERS`."""
