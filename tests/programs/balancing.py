"""Forks with a relay to several in use: `python -m tests.programs.balancing <URL>…`.

It prints, line by line, what parent and child saw of their targets.
"""

from __future__ import annotations

import sys

from asgi_relay import HealthCheck, Relay

from .forking import get, in_child, say, status_of


def main(*urls: str) -> None:
    relay = Relay(urls, balance="round_robin", health_check=HealthCheck())

    def use(count: int) -> None:
        for _ in range(count):
            assert get(relay).startswith("200")

    def requests() -> int:
        return sum(target["requests"] for target in relay.status()["targets"].values())

    def tell(who: str, count: int) -> None:
        states = {target["state"] for target in relay.status()["targets"].values()}
        say(who, *states, count, "requests")

    def child() -> None:
        before = requests()
        use(2)
        tell("child", requests() - before)

    use(4)
    tell("parent", requests())
    say("status", status_of(in_child(child)))
    use(2)
    tell("parent", requests())


if __name__ == "__main__":
    main(*sys.argv[1:])
