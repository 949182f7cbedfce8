"""A demonstration: an auth service, a Ravyn app that relays to it, and real requests through both.

``python -m examples.demo`` plays it once; with ``SERVE=1`` in the environment it stays up after it.
"""

# Seconds; short, so that nobody waits long for the 504. The front sets it, the acts expect it.
READ_TIMEOUT = 2.0
