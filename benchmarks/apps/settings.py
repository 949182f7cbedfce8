"""The same settings for every contestant, each given through that contestant's own options.

The defaults would not do: most pools hold 100 connections, and 1,000 event streams need 1,000;
some keep only 20 connections alive, and 32 clients would measure reconnecting. So all get a pool
that never gets in the way.
"""

import os

UPSTREAM = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:8000")
MAX_CONNECTIONS = 2_000
KEPT_ALIVE = 100
KEPT_ALIVE_SECONDS = 60.0
CONNECT_TIMEOUT = 5.0
IDLE_TIMEOUT = 60.0
LARGEST_MESSAGE = 16 * 1024 * 1024
