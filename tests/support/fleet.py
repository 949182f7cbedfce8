"""Several upstreams for one relay: what they serve, and who answered.

`upstreams` are scripted ones in this process: enough where no server has to die. `fleet` are real
ones, each a process of its own (`programs/backend.py`), to be killed, frozen and started again.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from asgi_relay import Relay, Target

from . import scripts
from .direct import Call
from .front import Front, relayed
from .ports import port_of, reserve
from .upstream import Upstream
from .waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .client import Client
    from .exchange import Request, Script

PROGRAM = Path(__file__).parents[1] / "programs" / "backend.py"
PROBE_AGENT = b"asgi-relay-health-check"


class Backend:
    """A server as a process of its own; `name` is what it answers everything with."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        """With port 0 it gets a free one, and has it to itself for as long as this lives."""
        self.name = name
        self.host = host
        self._reserved = reserve(host, port)
        self.port = port_of(self._reserved)
        self._popen: subprocess.Popen[str] | None = None

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def launch(self) -> None:
        """Begin to start it; `ready` waits for it."""
        arguments = [self.name, self.host, str(self.port)]
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it accepts."""
        assert self._hear() == str(self.port), f"{self.name} did not start"

    def start(self) -> None:
        self.launch()
        self.ready()

    def kill(self) -> None:
        """SIGKILL, and wait: its port refuses, and its connections are reset."""
        if self._popen is not None:
            self._popen.kill()
            with self._popen:  # closes the pipes, and waits
                pass
            self._popen = None

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting, and nothing is ever answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def tell(self, order: str) -> str:
        """Have it do something, from when this returns; its answer (see the program)."""
        assert self._popen is not None
        assert self._popen.stdin is not None
        self._popen.stdin.write(order + "\n")
        self._popen.stdin.flush()
        return self._hear()

    @property
    def requests(self) -> int:
        """How many requests it got since it was started, probes not counted."""
        return int(self.tell("count").split()[0])

    @property
    def probes(self) -> int:
        return int(self.tell("count").split()[1])

    @property
    def posted(self) -> list[str]:
        """The target of each POST that it got."""
        return self.tell("posted").split()

    def close(self) -> None:
        """End it, and give its port back."""
        self.kill()
        self._reserved.close()

    def _hear(self) -> str:
        assert self._popen is not None
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def _signal(self, number: signal.Signals) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)


@contextlib.contextmanager
def fleet(*names: str) -> Iterator[tuple[Backend, ...]]:
    """Backends of these names, all of them accepting: `with fleet("a", "b") as (a, b):`."""
    backends = tuple(Backend(name) for name in names)
    try:
        for backend in backends:
            backend.launch()
        for backend in backends:
            backend.ready()
        yield backends
    finally:
        for backend in backends:
            backend.close()


@contextlib.contextmanager
def upstreams(*scripted: str | Script) -> Iterator[tuple[Upstream, ...]]:
    """Scripted upstreams in this process; a name stands for a script that answers with it."""
    with contextlib.ExitStack() as stack:
        yield tuple(
            stack.enter_context(Upstream(says(one) if isinstance(one, str) else one))
            for one in scripted
        )


def says(name: str) -> Script:
    return scripts.answer(body=name.encode())


def asked(upstream: Upstream) -> list[Request]:
    """What an upstream was asked, without the probes."""
    return [one for one in list(upstream.requests) if one.value("user-agent") != PROBE_AGENT]


def probed(upstream: Upstream) -> list[Request]:
    """The probes that it got."""
    return [one for one in list(upstream.requests) if one.value("user-agent") == PROBE_AGENT]


# -- a relay to them -------------------------------------------------------------------------------

AnyTarget = Upstream | Backend | Target | str


def targets(several: Iterable[AnyTarget]) -> list[str | Target]:
    """What Relay takes for them."""
    return [one if isinstance(one, str | Target) else one.url for one in several]


def relay_to(*several: AnyTarget, **settings: Any) -> Relay:
    """`Relay([…], **settings)`, to be called with no server between."""
    return Relay(targets(several), **{"shutdown_grace": 0.5, **settings})


def balanced(*several: AnyTarget, **settings: Any) -> contextlib.AbstractContextManager[Front]:
    """A relay to several, behind the shared server (see `front`)."""
    return relayed(cast("Any", targets(several)), **settings)


def status_of(relay: Relay, target: AnyTarget) -> dict[str, Any]:
    """What `relay.status()` tells of one target."""
    (url,) = targets([target])
    return dict(relay.status()["targets"][url if isinstance(url, str) else url.url])


def state_of(relay: Relay, target: AnyTarget) -> str:
    return str(status_of(relay, target)["state"])


def wait_in_flight(front: Front, target: AnyTarget, count: int) -> None:
    wait_until(
        lambda: bool(status_of(front.relay, target)["in_flight"] == count), f"{count} in flight"
    )


@contextlib.contextmanager
def asking(front: Front, count: int = 1, target: str = "/") -> Iterator[list[Client]]:
    """Clients that have sent a request, and have not read the answer."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.client()) for _ in range(count)]
        for client in clients:
            client.start("GET", target)
        yield clients


async def ask(relay: Relay, target: str = "/", **options: Any) -> Call:
    """One exchange with no server between; `options` are those of `Call`."""
    return await Call(target=target, **options)(relay)


async def answers(relay: Relay, count: int, **options: Any) -> list[str]:
    """The bodies of so many answers, one after another; all of them have to be good."""
    calls = [await ask(relay, **options) for _ in range(count)]
    assert {call.status for call in calls} == {200}, Counter(call.status for call in calls)
    return [call.body.decode() for call in calls]


async def until(condition: Callable[[], bool], wanted: str) -> None:
    """Let the loop run until `condition` holds: for what sends no event, as another process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for {wanted}")
        await _a_moment()


async def _a_moment() -> None:
    await anyio.sleep(0.005)
