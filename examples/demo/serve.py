"""One server process of the demonstration: ``python -m examples.demo.serve <module:app> <fd>``.

The socket comes from the parent, already listening, so that the port is known before the server is
up. Standard input is a pipe from the parent; when it closes, whatever became of the parent, the
server ends too.
"""

import os
import signal
import socket
import sys
import threading

import uvicorn


def end_with_parent() -> None:
    """Wait for the parent's end of the pipe to close, then ask uvicorn to stop."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve the app on the inherited socket until told to stop."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    config = uvicorn.Config(sys.argv[1], log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])


if __name__ == "__main__":
    main()
