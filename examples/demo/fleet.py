"""The act with several upstreams: one of three is killed while clients ask, and nobody notices."""

import http.client
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

from . import client
from .client import TIMEOUT, expect
from .screen import Screen
from .services import Service

CLIENTS = 4
PHASE = 1.5
BAR = 24


class Load:
    """Clients that ask again and again; what they got is counted by the phase."""

    def __init__(self, front: Service) -> None:
        self._netloc = urlsplit(front.url).netloc
        self._counts: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._netloc, timeout=TIMEOUT)
        while not self._over.is_set():
            try:
                connection.request("GET", "/fleet/instance")
                response = connection.getresponse()
                body = response.read().decode()
                answer = body if response.status == 200 else f"status {response.status}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                answer = type(error).__name__
            self._counts[answer] += 1
        connection.close()

    def phase(self) -> Counter[str]:
        """Let them ask for a while; the answers by who gave them."""
        self._counts = Counter()
        time.sleep(PHASE)
        return self._counts


def states(front: Service) -> dict[str, str]:
    """The states of the targets, as the front's `relay.status()` has them."""
    targets = client.ask(front.url, "GET", "/targets").json()["targets"]
    return {url: target["state"] for url, target in targets.items()}


def fleet(screen: Screen, front: Service, instances: list[Service]) -> None:
    """Kill one of three under load, and start it again."""
    screen.act(
        "Three upstreams, one of which is killed under load",
        "Relay([a, b, c], health_check=HealthCheck(…), max_retries=2, retry_exceptions="
        "[TransportError]): what was on its way to the one that is gone is asked of another, and"
        f" then it gets nothing more until it is back. {CLIENTS} clients ask all the time.",
    )
    names = [instance.name for instance in instances]
    victim = instances[1]
    with Load(front) as load:
        _show(screen, names, "all three are up", load.phase())
        screen.line(f"     {victim.name}'s process is killed")
        victim.crash()
        down = load.phase()
        _show(screen, names, f"{victim.name} is down", down)
        expect(states(front)[victim.url] != "healthy", f"{victim.name} should not be healthy")
        screen.line(f"     {victim.name} is started again, on the same port")
        victim.start()
        _wait_until_healthy(front, victim)
        back = load.phase()
        _show(screen, names, f"{victim.name} is back", back)
        expect(back[victim.name] > 0, f"{victim.name} is back and should get requests")
    for url, state in states(front).items():
        screen.line(f"     {url}  {state}")
    screen.passed("every single request was answered with 200; no client saw the failure")


def _show(screen: Screen, names: list[str], title: str, counts: Counter[str]) -> None:
    total = sum(counts.values())
    screen.line(f"     {title}: {total} requests")
    for name in names:
        bar = screen.paint("━" * round(BAR * counts[name] / max(total, 1)), "32")
        screen.line(f"       {name}  {counts[name]:6}  {bar}".rstrip())
    others = {answer: count for answer, count in counts.items() if answer not in names}
    expect(not others, f"while {title}, not all answers were good: {others}")


def _wait_until_healthy(front: Service, instance: Service) -> None:
    deadline = time.monotonic() + TIMEOUT
    while states(front)[instance.url] != "healthy":
        expect(time.monotonic() < deadline, f"{instance.name} should be healthy again")
        time.sleep(0.05)
