"""Play the demonstration: servers up, eight acts, servers down (with SERVE=1 on Ctrl-C only)."""

import http.client
import os
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import READ_TIMEOUT, acts
from .chat import chat
from .client import UnexpectedError
from .fleet import fleet
from .gateway import Gateway, standalone
from .screen import Screen
from .services import Service

OUTAGE = 10.0


def play(
    screen: Screen,
    front: Service,
    upstream: Service,
    instances: list[Service],
    gateway: Gateway,
) -> None:
    """The eight acts, in order."""
    acts.home(screen, front)
    acts.login(screen, front, upstream)
    acts.stream(screen, front)
    chat(screen, front)
    acts.transfers(screen, front)
    acts.failures(screen, front, upstream)
    fleet(screen, front, instances)
    standalone(screen, gateway, upstream, instances)


def introduce(screen: Screen, front: Service, upstream: Service) -> None:
    """Say who is who."""
    try:
        release = version("asgi-relay")
    except PackageNotFoundError:
        release = "(from a checkout)"
    screen.line(screen.paint(f"asgi-relay {release}, shown with real servers on this machine", "1"))
    screen.line()
    screen.line(f"   upstream  {upstream.url}   an auth service that knows nothing of any proxy")
    screen.line(f"   front     {front.url}   a Ravyn app, which has among its routes")
    screen.line(f'{"":38}Include("/auth", app=Relay("{upstream.url}"))')
    screen.line(f"   client    {'this process':<23}talks to the front: → is sent, ← is received")


def invite(screen: Screen, front: Service, upstream: Service) -> None:
    """Print commands to try, and what to expect of each."""
    auth = f"{front.url}/auth"
    screen.line()
    screen.line(screen.paint("The servers stay up until Ctrl-C. Try in another terminal:", "1"))
    for about, command in (
        ("a session cookie without a Domain", f"curl -i -c jar.txt -d user=ada {auth}/login"),
        ("whose session it is", f"curl -b jar.txt {auth}/me"),
        ("a word every 150 ms", f"curl -N {auth}/chat"),
        (
            "a chat: one in each of two terminals, /leave ends it",
            f"{_python()} -m websockets 'ws{auth.removeprefix('http')}/room?user=ada'",
        ),
        ("the upstream's count and SHA-256", f"head -c 200M /dev/zero | curl -T - {auth}/upload"),
        ("200 MB", f"curl -o /dev/null '{auth}/download?mb=200'"),
        ("one of three upstreams", f"curl {front.url}/fleet/instance"),
        ("how those three are", f"curl {front.url}/targets"),
        (f"504 after {READ_TIMEOUT:g} s", f"curl -i {auth}/hang"),
        (
            f"502; the upstream is back after {OUTAGE:g} s",
            f"kill -9 {upstream.pid}; sleep 1; curl -i {auth}/me",
        ),
    ):
        screen.line()
        screen.line("   " + screen.paint(f"# {about}", "2"))
        screen.line(f"   {command}")


def _python() -> str:
    """This interpreter, as one would type it: it has the package websockets."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def stay(screen: Screen, front: Service, upstream: Service) -> None:
    """Stay up until interrupted; an upstream that someone has killed comes back after a while."""
    invite(screen, front, upstream)
    while front.pid:
        if not upstream.pid:
            screen.line(f"\n   the upstream has gone; it is started again in {OUTAGE:g} s")
            time.sleep(OUTAGE)
            upstream.start()
            screen.line(f"   the upstream is back, as process {upstream.pid}")
        time.sleep(0.2)
    raise UnexpectedError("the front has ended by itself")


def main() -> int:
    """0 when all was as promised, 1 after a surprise, 130 when interrupted."""
    screen = Screen()
    serve = os.environ.get("SERVE", "") not in ("", "0")
    # A SIGTERM ends the servers in the same orderly way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    upstream = Service("upstream", "examples.demo.upstream:app")
    instances = [Service(name, "examples.demo.instance:app") for name in "abc"]
    front = Service("front", "examples.demo.front:app")
    gateway = Gateway()
    done = False
    try:
        upstream.start()
        for instance in instances:
            instance.start(INSTANCE=instance.name)
        urls = " ".join(instance.url for instance in instances)
        front.start(UPSTREAM_URL=upstream.url, INSTANCE_URLS=urls)
        introduce(screen, front, upstream)
        play(screen, front, upstream, instances, gateway)
        done = True
        screen.line()
        screen.line(screen.paint("All of it went as promised.", "1;32"))
        if serve:
            stay(screen, front, upstream)
        return 0
    except (UnexpectedError, OSError, http.client.HTTPException, ValueError) as problem:
        screen.line()
        screen.failed(f"not as promised: {problem}")
        for service in (upstream, *instances, front, gateway):
            if words := service.last_words():
                screen.line(f"\n   the {service.name} wrote:\n{words}")
        return 1
    except KeyboardInterrupt:
        screen.line("\n   interrupted; the servers are being ended")
        return 0 if done else 130
    finally:
        for service in (gateway, front, *instances, upstream):
            service.stop()


if __name__ == "__main__":
    sys.exit(main())
