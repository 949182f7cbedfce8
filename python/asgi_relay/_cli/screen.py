"""What is printed, line by line: colours on a terminal only, columns, and no failure of its own."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


class Screen:
    """A stream that people read (https://no-color.org is respected)."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            # A locale without these letters gets escapes, not a traceback.
            stream.reconfigure(errors="backslashreplace")
        self._terminal = stream.fileno() if stream is not None and stream.isatty() else None
        self._coloured = (
            self._terminal is not None
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def has_hung_up(self) -> bool:
        """Whether it was a terminal that has been closed since."""
        if self._terminal is not None:
            try:
                os.tcgetpgrp(self._terminal)
            except OSError as error:
                # Another's terminal is a terminal still (ENOTTY).
                return error.errno == errno.EIO
        return False

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and text else text

    def line(self, text: str = "") -> None:
        """Print a line now. A reader that has left is no reason to stop serving."""
        try:
            with contextlib.suppress(ValueError):
                self._write(text + "\n")
        except OSError as failure:
            self._failure = failure

    def _write(self, text: str) -> None:
        stream = self._stream
        if stream is None:
            # The process was started with it closed.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if not isinstance(raw := getattr(stream, "buffer", None), io.RawIOBase):
            stream.write(text)
            stream.flush()
            return
        # Without a buffer (PYTHONUNBUFFERED) nobody else looks at how much was taken.
        left = memoryview(text.encode(stream.encoding, stream.errors or "strict"))
        while left:
            if (count := raw.write(left)) is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            left = left[count:]

    def finish(self) -> OSError | None:
        """Why not all was printed, if so; nothing more can be then."""
        if self._failure is not None and self._stream is not None:
            # What its buffer holds would fail once more at the end of the process.
            with contextlib.suppress(OSError):
                self._stream.close()
        return self._failure

    def say(self, text: str, colour: str = "") -> None:
        """Print what happens, behind the time and the program's name."""
        # As the engine writes its events.
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for number, row in enumerate(text.splitlines()):
            head = f"{now} asgi-relay: " if number == 0 else "  "
            self.line(head + (self.paint(row, colour) if colour and number == 0 else row))

    def refuse(self, mistakes: Exception | str) -> None:
        """Print why it does not go on, a line for each mistake."""
        for mistake in str(mistakes).splitlines():
            self.line(self.paint("error: ", RED) + mistake)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], usual: str = "") -> None:
        """Print columns; those with nothing but the usual in them are left out."""
        used = [
            number
            for number in range(len(titles))
            if any(row[number] not in ("", usual) for row in rows)
        ]
        widths = {number: max(len(row[number]) for row in (titles, *rows)) for number in used}
        for index, row in enumerate((titles, *rows)):
            cells = (row[number].ljust(widths[number]) for number in used)
            text = "   ".join(cells).rstrip()
            self.line("  " + (self.paint(text, DIM) if index == 0 else text))
