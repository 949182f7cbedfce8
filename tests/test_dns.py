"""Names: several addresses are tried in turn, and with `dns_refresh` each is a target of its own.

The relay is a process of its own, with a resolver of ours preloaded: a name's addresses are the
lines of a file, and change when the test says so. All of 127.0.0.0/8 is this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .support import scripts
from .support.fleet import Backend
from .support.processes import ROOT
from .support.upstream import Upstream
from .support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .support.authority import Authority

SOURCE = ROOT / "tests" / "programs" / "resolver.c"


class Names:
    """The resolver's names: `names.set("pool.test", "127.0.0.1", "127.0.0.2")`."""

    def __init__(self, directory: Path, library: Path) -> None:
        self.directory = directory
        self.library = library

    def set(self, name: str, *addresses: str) -> None:
        new = self.directory / "new"
        new.write_text("".join(f"{address}\n" for address in addresses))
        # In one step: the resolver may be reading.
        new.rename(self.directory / name)

    def forget(self, name: str) -> None:
        (self.directory / name).unlink()

    def hang(self, name: str) -> None:
        """Whoever asks for it has no answer, until `answer`."""
        os.mkfifo(self.directory / name)

    def answer(self, name: str, *addresses: str) -> None:
        """Answer who has asked, or is the first to ask; later ones at once."""
        opened: list[int] = []

        def is_read() -> bool:
            with contextlib.suppress(OSError):
                opened.append(os.open(self.directory / name, os.O_WRONLY | os.O_NONBLOCK))
            return bool(opened)

        wait_until(is_read, f"somebody who asks for {name}")
        with os.fdopen(opened[0], "w") as waiting:
            self.set(name, *addresses)
            waiting.writelines(f"{address}\n" for address in addresses)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resolver") / "resolver.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.fixture
def names(tmp_path: Path, library: Path) -> Names:
    return Names(tmp_path, library)


class Resolving:
    """The process with the relay (see `programs/resolving.py`)."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen

    def order(self, order: str) -> Any:
        assert self._popen.stdin is not None
        self._popen.stdin.write(order + "\n")
        self._popen.stdin.flush()
        return json.loads(self.hear())

    def hear(self) -> str:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, "the relay's process has ended"
        return line.strip()

    def ask(self, count: int = 1) -> Counter[str]:
        return Counter(self.order(f"ask {count}"))

    @property
    def targets(self) -> dict[str, str]:
        """The states of the targets."""
        found: dict[str, str] = self.order("status")
        return found


@contextlib.contextmanager
def resolving(names: Names, url: str | list[str], **settings: Any) -> Iterator[Resolving]:
    url = url if isinstance(url, str) else json.dumps(url)
    environment = {"LD_PRELOAD": str(names.library), "NAMES": str(names.directory)}
    command = [sys.executable, "-m", "tests.programs.resolving", url, json.dumps(settings)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            relay = Resolving(popen)
            assert relay.hear() == "ready"
            yield relay
        finally:
            popen.kill()


@contextlib.contextmanager
def backends(*hosts: str) -> Iterator[tuple[Backend, ...]]:
    """Backends on these addresses and one port; each answers with its address."""
    first = Backend(hosts[0], hosts[0])
    others = [Backend(host, host, first.port) for host in hosts[1:]]
    try:
        for one in (first, *others):
            one.start()
        yield (first, *others)
    finally:
        for one in (first, *others):
            one.close()


@contextlib.contextmanager
def silent_at(host: str, port: int) -> Iterator[None]:
    """An address where a connect never ends: its queue is full (see `upstream.silent`)."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, port))
        listener.listen(0)
        while True:
            filler = stack.enter_context(socket.socket(family))
            filler.settimeout(0.2)
            try:
                filler.connect((host, port))
            except TimeoutError:
                break
        yield


ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
refreshed: dict[str, Any] = {"dns_refresh": 0.05, "balance": "round_robin"}


# -- several addresses of one target ---------------------------------------------------------------


@pytest.mark.parametrize("order", [(TWO, ONE), (ONE, TWO)])
def test_the_address_that_accepts_is_found(names: Names, order: tuple[str, ...]) -> None:
    with backends(ONE) as (one,):
        names.set("app.test", *order)
        with resolving(names, f"http://app.test:{one.port}") as relay:
            assert relay.ask(3) == {f"200 {ONE}": 3}
            # One target, by its name.
            assert relay.targets == {f"http://app.test:{one.port}": "healthy"}


@pytest.mark.parametrize("only", ["127.0.0.1", "::1"])
def test_one_of_two_families_is_enough(names: Names, only: str) -> None:
    """As with `localhost`, whose ::1 nobody listens on."""
    with backends(only) as (one,):
        names.set("app.test", "::1", "127.0.0.1")
        with resolving(names, f"http://app.test:{one.port}") as relay:
            assert relay.ask(2) == {f"200 {only}": 2}


@pytest.mark.parametrize(
    "silent",
    [["::1"], [TWO], [TWO, THREE]],
    ids=["other-family", "same-family", "two"],
)
def test_an_address_that_never_answers_holds_nobody_up(names: Names, silent: list[str]) -> None:
    """It has 250 ms to itself, however long `timeout.connect` is (RFC 8305)."""
    with backends(ONE) as (one,), contextlib.ExitStack() as stack:
        for host in silent:
            stack.enter_context(silent_at(host, one.port))
        names.set("app.test", *silent, ONE)
        with resolving(names, f"http://app.test:{one.port}", timeout=60) as relay:
            begun = time.monotonic()
            assert relay.ask() == {f"200 {ONE}": 1}
            assert time.monotonic() - begun < 15


def test_each_address_has_its_share_of_the_time_that_a_slow_resolver_leaves(names: Names) -> None:
    silent = [f"127.0.0.{number}" for number in range(2, 12)]
    with backends(ONE) as (one,), contextlib.ExitStack() as stack, ThreadPoolExecutor() as threads:
        for host in silent:
            stack.enter_context(silent_at(host, one.port))
        names.hang("app.test")
        with resolving(names, f"http://app.test:{one.port}", timeout=3) as relay:
            asking = threads.submit(relay.ask)
            # Ten times 250 ms are more than is left then.
            time.sleep(0.8)
            names.answer("app.test", *silent, ONE)
            assert asking.result() == {f"200 {ONE}": 1}


def test_a_name_is_resolved_again_for_each_new_connection(names: Names) -> None:
    with backends(ONE, TWO) as (one, two):
        names.set("app.test", ONE)
        with resolving(names, f"http://app.test:{one.port}") as relay:
            assert relay.ask() == {f"200 {ONE}": 1}
            names.set("app.test", TWO)
            one.kill()
            assert relay.ask(2) == {f"200 {TWO}": 2}
        assert two.requests == 2


def test_a_name_that_nobody_knows_is_a_502(names: Names) -> None:
    with resolving(names, "http://nobody.test:8000") as relay:
        (answer,) = relay.ask()
    assert answer.startswith("502 Upstream error")


# -- a target for each address ---------------------------------------------------------------------


def test_each_address_is_a_target(names: Names) -> None:
    with backends(ONE, TWO, THREE) as three:
        port = three[0].port
        names.set("pool.test", ONE, TWO, THREE)
        with resolving(names, f"http://pool.test:{port}/base", **refreshed) as relay:
            urls = {f"http://{one.authority}/base" for one in three}
            wait_until(lambda: set(relay.targets) == urls, "the addresses")
            assert relay.ask(9) == {f"200 {one.host}": 3 for one in three}


def test_host_stays_the_names(names: Names) -> None:
    with Upstream(scripts.reflect) as upstream:
        names.set("pool.test", ONE)
        url = f"http://pool.test:{upstream.port}/base"
        with resolving(names, url, **refreshed) as relay:
            wait_until(lambda: list(relay.targets) == [f"{upstream.url}/base"], "the address")
            relay.ask()
        request = upstream.requests[-1]
        assert request.value("host") == f"pool.test:{upstream.port}".encode()
        assert request.target == b"/base/"


def test_the_name_that_a_certificate_is_for_stays_the_names(
    names: Names, authority: Authority
) -> None:
    with Upstream(scripts.ok, tls=authority.server("pool.test")) as upstream:
        names.set("pool.test", ONE)
        url = f"https://pool.test:{upstream.port}"
        settings = {**refreshed, "verify": str(authority.pem)}
        with resolving(names, url, **settings) as relay:
            wait_until(lambda: list(relay.targets) == [upstream.url], "the address")
            assert relay.ask() == {"200 ok": 1}
        # Its address alone is not in the certificate.
        with resolving(names, upstream.url, **settings) as relay:
            assert relay.ask()["200 ok"] == 0


def test_targets_come_and_go_with_the_addresses(names: Names) -> None:
    with backends(ONE, TWO, THREE) as (one, two, three):
        names.set("pool.test", ONE, TWO)
        with resolving(names, f"http://pool.test:{one.port}", **refreshed) as relay:
            wait_until(lambda: set(relay.targets) == {one.url, two.url}, "the addresses")
            names.set("pool.test", TWO, THREE)
            wait_until(lambda: set(relay.targets) == {two.url, three.url}, "the others")
            assert relay.ask(4) == {f"200 {TWO}": 2, f"200 {THREE}": 2}


def test_a_resolver_that_fails_changes_nothing(names: Names) -> None:
    with backends(ONE, TWO) as (one, two):
        names.set("pool.test", ONE, TWO)
        with resolving(names, f"http://pool.test:{one.port}", **refreshed) as relay:
            wait_until(lambda: set(relay.targets) == {one.url, two.url}, "the addresses")
            names.forget("pool.test")
            for _ in range(5):
                assert relay.ask(2) == {f"200 {ONE}": 1, f"200 {TWO}": 1}
            assert set(relay.targets) == {one.url, two.url}
            # And it goes on when there is an answer again.
            names.set("pool.test", TWO)
            wait_until(lambda: set(relay.targets) == {two.url}, "the other")


def test_a_name_that_is_known_later_is_found(names: Names) -> None:
    with (
        backends(ONE) as (one,),
        resolving(names, f"http://pool.test:{one.port}", **refreshed) as relay,
    ):
        (answer,) = relay.ask()
        assert answer.startswith(("502 ", "503 "))
        names.set("pool.test", ONE)
        wait_until(lambda: set(relay.targets) == {one.url}, "the address")
        assert relay.ask() == {f"200 {ONE}": 1}


# -- at the start ----------------------------------------------------------------------------------


def test_nobody_waits_for_a_name_that_hangs_who_can_go_elsewhere(names: Names) -> None:
    with backends(ONE, TWO) as (one, two):
        slow = f"http://slow.test:{one.port}"
        names.set("pool.test", ONE)
        names.hang("slow.test")
        several = [f"http://pool.test:{one.port}", slow]
        with resolving(names, several, **refreshed, timeout=60) as relay:
            # It has no address yet, and gets nothing.
            assert relay.targets == {one.url: "healthy", slow: "unhealthy"}
            assert relay.ask(4) == {f"200 {ONE}": 4}
            # Nor does anybody's next resolution wait for it.
            names.set("pool.test", THREE)
            wait_until(lambda: f"http://{THREE}:{one.port}" in relay.targets, "the new address")
            assert slow in relay.targets
            names.set("pool.test", ONE)
            names.answer("slow.test", TWO)
            wait_until(lambda: set(relay.targets) == {one.url, two.url}, "the other name")
            assert set(relay.ask(4)) == {f"200 {ONE}", f"200 {TWO}"}


def test_but_each_that_is_known_has_its_first_check_before(names: Names) -> None:
    with backends(ONE, TWO) as (one, two):
        two.freeze()
        names.set("pool.test", ONE, TWO)
        names.hang("slow.test")
        several = [f"http://pool.test:{one.port}", f"http://slow.test:{one.port}"]
        check = {"interval": 3600, "timeout": 2}
        settings = {**refreshed, "timeout": 60, "health_check": check}
        with resolving(names, several, **settings) as relay:
            states = {one.url: "healthy", two.url: "unhealthy", several[1]: "unhealthy"}
            assert relay.targets == states
            assert relay.ask(3) == {f"200 {ONE}": 3}
            # One that comes later has it before its first request.
            two.thaw()
            names.set("pool.test", ONE)
            names.answer("slow.test", TWO)
            wait_until(lambda: relay.targets.get(two.url) == "healthy", "its check")
            assert two.probes


def test_where_there_is_nobody_else_it_is_waited_for(names: Names) -> None:
    with backends(ONE) as (one,), ThreadPoolExecutor() as threads:
        names.hang("slow.test")
        slow = f"http://slow.test:{one.port}"

        def answer_late() -> None:
            # Longer than anybody waits who could go elsewhere.
            time.sleep(2)
            names.answer("slow.test", ONE)

        answering = threads.submit(answer_late)
        with resolving(names, slow, **refreshed, timeout=60) as relay:
            assert relay.targets == {one.url: "healthy"}
            assert relay.ask(3) == {f"200 {ONE}": 3}
            answering.result()


def test_each_address_is_checked_by_itself(names: Names) -> None:
    check = {"interval": 0.05, "fall": 1}
    with backends(ONE, TWO) as (one, two):
        two.kill()
        names.set("pool.test", ONE, TWO)
        url = f"http://pool.test:{one.port}"
        with resolving(names, url, **refreshed, health_check=check) as relay:
            wait_until(
                lambda: relay.targets == {one.url: "healthy", two.url: "unhealthy"}, "the checks"
            )
            assert relay.ask(4) == {f"200 {ONE}": 4}
            two.start()
            wait_until(lambda: set(relay.targets.values()) == {"healthy"}, "the other")
            assert relay.ask(4) == {f"200 {ONE}": 2, f"200 {TWO}": 2}


def test_an_address_is_no_name(names: Names) -> None:
    with (
        backends(ONE) as (one,),
        resolving(names, one.url, **refreshed) as relay,
    ):
        assert relay.ask(3) == {f"200 {ONE}": 3}
        assert relay.targets == {one.url: "healthy"}
