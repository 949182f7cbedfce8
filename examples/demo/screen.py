"""What the demonstration prints: titles, both sides' lines, progress; colour on terminals only."""

import io
import os
import sys
import textwrap
import time

WIDTH = 100
BAR = 40


class Screen:
    """Standard output, with colours where someone can see them (https://no-color.org)."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A locale without arrows gets question marks, not a traceback.
            sys.stdout.reconfigure(errors="replace")
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self._acts = 0

    def paint(self, text: str, code: str) -> str:
        """Colour a text, if there are colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text

    def line(self, text: str = "") -> None:
        """Print a line now, even into a pipe; with no reader left (``| head``) end quietly."""
        try:
            print(text, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None

    def act(self, title: str, about: str) -> None:
        """Open a numbered part and say what it is about."""
        self._acts += 1
        self.line()
        self.line(self.paint(f"{self._acts}. {title}", "1"))
        self.prose(about)

    def prose(self, text: str) -> None:
        """Print an indented paragraph."""
        for row in textwrap.wrap(text, WIDTH - 3, break_on_hyphens=False):
            self.line("   " + self.paint(row, "2"))

    def request(self, text: str) -> None:
        """Print what the client sends."""
        self.line("   " + self.paint("→ ", "36") + text)

    def answer(self, text: str, good: bool = True) -> None:
        """Print what the client gets."""
        self.line("   " + self.paint("← ", "32" if good else "33") + text)

    def fact(self, name: str, text: str) -> None:
        """Print a labelled line."""
        self.line(f"     {name:<20}{text}")

    def passed(self, text: str) -> None:
        """Print what has been checked."""
        self.line("   " + self.paint("✓ ", "32") + text)

    def failed(self, text: str) -> None:
        """Print what went wrong."""
        self.line("   " + self.paint("✗ ", "31") + text)


class Progress:
    """How far a transfer is: a bar on a terminal, else a line at every quarter."""

    def __init__(self, screen: Screen, total: int) -> None:
        self._screen = screen
        self._total = total
        self._done = 0
        self._quarters = 0
        self._drawn = 0.0
        self._began = time.perf_counter()

    def advance(self, size: int) -> None:
        """Count bytes that have gone over."""
        self._done += size
        now = time.perf_counter()
        if self._screen.is_terminal:
            if now - self._drawn > 0.05 or self._done == self._total:
                self._drawn = now
                self._draw()
        elif self._done * 4 // self._total > self._quarters:
            self._quarters = self._done * 4 // self._total
            self._screen.line(f"     {self._quarters * 25:3} %  {self._summary(now)}")

    def finish(self) -> float:
        """End the bar; megabytes per second, from the first byte until now."""
        if self._screen.is_terminal:
            self._screen.line()
        return self._done / 1e6 / (time.perf_counter() - self._began)

    def _draw(self) -> None:
        full = BAR * self._done // self._total
        bar = self._screen.paint("━" * full, "32") + self._screen.paint("━" * (BAR - full), "2")
        print(f"\r     {bar} {self._summary(time.perf_counter())} ", end="", flush=True)

    def _summary(self, now: float) -> str:
        size, seconds = self._done / 1e6, max(now - self._began, 1e-9)
        return f"{size:5.0f} MB  {seconds:5.2f} s  {size / seconds:5.0f} MB/s"
