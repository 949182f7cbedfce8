"""The acts of the demonstration: each plays requests through the front and checks the answers."""

import hashlib
import time
from collections.abc import Iterator

from . import READ_TIMEOUT, client
from .client import Answer, expect
from .payload import MEGABYTE, REPLY, blocks, checksum
from .screen import Progress, Screen
from .services import Service

MEGABYTES = 200
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def home(screen: Screen, front: Service) -> None:
    """The front's own route."""
    screen.act("A page of the front's own", "It has routes beside the relayed ones.")
    screen.request("GET /")
    answer = client.ask(front.url, "GET", "/")
    screen.answer(f"{answer.status}  {answer.text}")
    expect(answer.status == 200, f"the front's own page gave {answer.status} instead of 200")


def login(screen: Screen, front: Service, upstream: Service) -> None:
    """Cookies: one is rewritten, one is left alone, and the session works."""
    screen.act(
        "A login whose Set-Cookie is rewritten",
        "The upstream makes its session cookie for Domain=auth.internal, which a browser that talks"
        " to the front would refuse. The Relay is given rewrite_set_cookie_domain=lambda _:"
        ' "", which drops the Domain.',
    )
    play_login(screen, front, upstream)


def play_login(screen: Screen, front: Service, upstream: Service) -> None:
    """The requests of it, and what is expected of the answers."""
    path, form = "/login?next=%2Fhome", b"user=ada&password=lovelace"
    direct = client.ask(upstream.url, "POST", path, form, FORM)
    screen.request(f"POST /auth{path}   {form.decode()}")
    relayed = client.ask(front.url, "POST", f"/auth{path}", form, FORM)
    screen.answer(f"{relayed.status}")
    expect(relayed.status == 200, f"the login gave {relayed.status} instead of 200: {relayed.text}")

    sent = direct.headers.get_all("set-cookie") or []
    received = relayed.headers.get_all("set-cookie") or []
    for before, after in zip(sent, received, strict=False):
        screen.fact("upstream sent", f"Set-Cookie: {before}")
        screen.fact("client got", f"Set-Cookie: {after}")
    wanted = [line.replace("; Domain=auth.internal", "") for line in sent]
    expect(len(sent) == 2 and wanted != sent, f"the upstream's own cookies are odd: {sent}")
    expect(received == wanted, f"the client should have got these cookies: {wanted}")
    screen.passed("two cookies, each on its own line; the Domain is gone and all else is as it was")

    screen.line("     what the upstream saw of this request:")
    seen = relayed.json()["seen"]
    for name, value in seen.items():
        screen.fact(f"  {name}", value)
    expect(seen["request"] == f"POST {path}", f"the upstream should have seen POST {path}")
    host = front.url.removeprefix("http://")
    expect(seen["x-forwarded-host"] == host, f"X-Forwarded-Host should have been {host}")

    cookie = received[0].partition(";")[0]
    screen.request(f"GET /auth/me   Cookie: {cookie}")
    answer = client.ask(front.url, "GET", "/auth/me", headers={"Cookie": cookie})
    screen.answer(f"{answer.status}  {answer.text}")
    expect(answer.status == 200 and answer.json() == {"user": "ada"}, "the session should be ada's")


def stream(screen: Screen, front: Service) -> None:
    """Server-sent events that arrive one by one."""
    screen.act(
        "A token stream (server-sent events)",
        "The upstream writes a word every 150 ms, as a language model would. Nothing holds them"
        " back: each is shown with the time at which the client got it.",
    )
    play_stream(screen, front)


def play_stream(screen: Screen, front: Service) -> None:
    """The request of it, and what is expected of the answer."""
    screen.request("GET /auth/chat")
    began = time.perf_counter()
    arrivals: list[float] = []
    with client.opened(front.url, "GET", "/auth/chat") as response:
        kind = response.headers.get("content-type", "")
        screen.answer(f"{response.status}  {kind}")
        expect(response.status == 200, f"the stream gave {response.status} instead of 200")
        while line := response.readline():
            # A line that begins with a colon is a keep-alive comment.
            if line.startswith(b"data:"):
                arrivals.append(time.perf_counter() - began)
                screen.line(f"     {arrivals[-1] * 1000:7.0f} ms   {line.decode().strip()}")
    words = len(REPLY.split())
    expect(len(arrivals) == words, f"{words} events were expected, and {len(arrivals)} came")
    spread = arrivals[-1] - arrivals[0]
    expect(spread > 1.0, f"the events came within {spread:.2f} s, so something held them back")
    screen.passed(f"{len(arrivals)} events over {spread:.1f} s, each when it was sent")


def transfers(screen: Screen, front: Service) -> None:
    """A large body each way, checked byte by byte."""
    screen.act(
        f"{MEGABYTES} MB each way",
        "Bodies are streamed, never collected, so the front does not grow. The time includes"
        " SHA-256 at the receiving end.",
    )
    play_transfers(screen, front)


def play_transfers(screen: Screen, front: Service) -> None:
    """The requests of it, and what is expected of the answers."""
    wanted, before = checksum(MEGABYTES), front.peak_memory()

    screen.request(f"PUT /auth/upload   Content-Length: {MEGABYTES * MEGABYTE}")
    progress = Progress(screen, MEGABYTES * MEGABYTE)

    def counted() -> Iterator[bytes]:
        for block in blocks(MEGABYTES):
            yield block
            progress.advance(len(block))

    length = {"Content-Length": str(MEGABYTES * MEGABYTE)}
    answer = client.ask(front.url, "PUT", "/auth/upload", counted(), length)
    speed = progress.finish()
    screen.answer(f"{answer.status}  {answer.text}")
    expect(answer.status == 200, f"the upload gave {answer.status} instead of 200")
    whole = {"bytes": MEGABYTES * MEGABYTE, "sha256": wanted}
    expect(answer.json() == whole, f"the upstream should have counted and hashed {whole}")
    screen.passed(f"uploaded at {speed:.0f} MB/s; the upstream's checksum is the client's")

    screen.request(f"GET /auth/download?mb={MEGABYTES}")
    progress, digest = Progress(screen, MEGABYTES * MEGABYTE), hashlib.sha256()
    with client.opened(front.url, "GET", f"/auth/download?mb={MEGABYTES}") as response:
        while chunk := response.read1(256 * 1024):
            digest.update(chunk)
            progress.advance(len(chunk))
    speed = progress.finish()
    screen.answer(f"{response.status}  sha256 {digest.hexdigest()}")
    expect(digest.hexdigest() == wanted, f"the download should have had the checksum {wanted}")
    screen.passed(f"downloaded at {speed:.0f} MB/s; the checksum is right")
    grown = front.peak_memory() - before
    if before:
        screen.passed(
            f"{2 * MEGABYTES} MB relayed, and the {front.name}'s memory grew by {grown:.0f} MB"
        )
    expect(grown < 64, f"the {front.name}'s memory grew by {grown:.0f} MB, so a body was collected")


def failures(screen: Screen, front: Service, upstream: Service) -> None:
    """An upstream that hangs, goes down, and comes back."""
    screen.act(
        "An upstream that hangs, goes down, and comes back",
        f"The Relay is given timeout=Timeout(read={READ_TIMEOUT:g}). The client always gets an"
        " answer, and never one that shows an internal address.",
    )
    answer, took = _timed(screen, front, "/auth/hang")
    expect(answer.status == 504, f"a hanging upstream should be a 504, not {answer.status}")
    expect(answer.text == "Gateway Timeout", f"the 504 should not say {answer.text!r}")
    in_time = READ_TIMEOUT * 0.9 < took < READ_TIMEOUT + 5
    expect(in_time, f"the 504 should have come after {READ_TIMEOUT:g} s, not {took:.1f}")

    screen.line("     the upstream's process is killed")
    upstream.crash()
    answer, _ = _timed(screen, front, "/auth/me")
    expect(answer.status == 502, f"an upstream that is down should be a 502, not {answer.status}")
    named = answer.text.startswith("Upstream error")
    expect(named, f"the 502 should begin with Upstream error, not with {answer.text!r}")
    port = upstream.url.rpartition(":")[2]
    expect(port not in answer.text, "the 502 shows the upstream's address")

    screen.line("     the upstream is started again, on the same port")
    upstream.start()
    answer, _ = _timed(screen, front, "/auth/me")
    expect(answer.status == 401, f"the upstream is back and says 401, not {answer.status}")
    screen.passed("504, 502, and business as usual: the front was never restarted")


def _timed(screen: Screen, front: Service, path: str) -> tuple[Answer, float]:
    screen.request(f"GET {path}")
    began = time.perf_counter()
    answer = client.ask(front.url, "GET", path)
    took = time.perf_counter() - began
    text = f"{answer.status}  {answer.text}   (after {took:.2f} s)"
    screen.answer(text, good=answer.status < 500)
    return answer, took
