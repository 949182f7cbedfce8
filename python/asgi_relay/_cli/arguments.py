"""What can be typed: commands, options and their help. Errors here end the process with 2."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from .._engine import Configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = "A reverse proxy for HTTP and WebSockets, from a YAML file or from the command line."
EXAMPLES = """\
examples:
  asgi-relay serve --to http://127.0.0.1:9000
  asgi-relay serve --to http://127.0.0.1:9000 --host 0.0.0.0 --port 443 --cert c.pem --key k.pem
  asgi-relay serve -c gateway.yaml
  asgi-relay check -c gateway.yaml
  asgi-relay schema > gateway.schema.json
"""
SERVE = """\
Serve what a file says, or everything to one upstream with --to. What is given here wins over the
file."""
SIGNALS = """\
SIGTERM or SIGINT (Ctrl-C) stops it: requests in flight have server.shutdown_grace seconds (30) to
finish; a second one ends it at once. SIGHUP, or a change of the file or of a certificate that it
names, puts the new configuration in place as a whole; a bad one changes nothing. SIGUSR1 opens
the access log again. There is one where the file has access_log: it goes to standard output or to
its path, and everything else to standard error.
"""
CHECK = """\
Read a file as a start would, print its routes, and connect to each target, with TLS where the
route has it. Exits with 1 if the file has a mistake or a target cannot be reached."""
SCHEMA = "Print the JSON Schema of the file, for editors that complete and check YAML with it."


class Options(argparse.Namespace):
    """What was typed."""

    command: str
    config: Path | None = None
    host: str | None = None
    port: int | None = None
    to: str | None = None
    cert: Path | None = None
    key: Path | None = None
    workers: int | None = None
    offline: bool = False

    def read(self) -> Configuration:
        """The configuration that they name; raises GatewayError with all that is wrong in it."""
        certificate = (self.cert, self.key) if self.cert and self.key else None
        return Configuration(
            self.config,
            host=self.host,
            port=self.port,
            target=self.to,
            certificate=certificate,
            workers=self.workers,
        )


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the arguments; ends the process where they make no sense, or ask for help."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "asgi-relay", description=ABOUT, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"asgi-relay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    serve = commands.add_parser(
        "serve", help="start the gateway", description=SERVE, epilog=SIGNALS, formatter_class=raw
    )
    add = serve.add_argument
    add("-c", "--config", type=Path, metavar="FILE", help="the configuration, in YAML")
    add("--to", type=_text, metavar="URL", help="the upstream of all requests, in place of routes")
    add("--host", type=_text, help="where to listen (127.0.0.1)")
    add("--port", type=_port, help="the port there (8000); 0 takes one that is free")
    add("--cert", type=Path, metavar="FILE", help="serve with TLS: the certificate chain, in PEM")
    add("--key", type=Path, metavar="FILE", help="its private key, in PEM")
    add("--workers", type=_workers, metavar="N", help="threads (one for each core)")

    check = commands.add_parser(
        "check", help="try a configuration", description=CHECK, formatter_class=raw
    )
    check.add_argument(
        "-c", "--config", type=Path, metavar="FILE", required=True, help="the configuration"
    )
    check.add_argument("--offline", action="store_true", help="do not connect to the targets")

    commands.add_parser("schema", help="print the JSON Schema of the file", description=SCHEMA)

    options = parser.parse_args(arguments, Options())
    if options.command == "serve":
        if options.config is None and options.to is None:
            serve.error("name a configuration with -c, or an upstream with --to")
        if (options.cert is None) != (options.key is None):
            serve.error("--cert and --key belong together")
    return options


def _text(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8") from None
    return argument


def _port(argument: str) -> int:
    return _whole(argument, 0, 65535)


def _workers(argument: str) -> int:
    return _whole(argument, 1, 1024)


def _whole(argument: str, least: int, most: int) -> int:
    if not (argument.isascii() and argument.isdigit() and least <= int(argument) <= most):
        raise argparse.ArgumentTypeError(
            f"found {argument!r}; allowed is a whole number from {least} to {most}"
        )
    return int(argument)
