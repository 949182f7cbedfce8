"""``python -m asgi_relay`` is the command ``asgi-relay``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
