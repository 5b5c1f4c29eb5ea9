"""One line of progress that costs next to nothing, for work whose times are measured while it is shown.

On a terminal the line is rewritten; elsewhere one is printed now and then. Not covered: anything richer, whose drawing
would take milliseconds from the event loop that is being timed.
"""

from __future__ import annotations

import time

from rich.console import Console

from raison.bench.endpoint.run import Progress
from raison.progress import clock_time

EVERY = 10.0
"""Seconds between lines where there is no terminal."""
ERASE = "\r\x1b[K"


class Ticker:
    def __init__(self, console: Console) -> None:
        self._file, self._live = console.file, console.is_terminal
        self._said = time.monotonic()

    def note(self, text: str) -> None:
        self._write(f"· {text}")

    def tell(self, progress: Progress) -> None:
        if not self._live and time.monotonic() - self._said < EVERY:
            return
        failed = f", {progress.failed} failed" if progress.failed else ""
        done = f"{progress.done} of {progress.requests}{failed}, {clock_time(progress.seconds)}"
        self._write(f"  {progress.cell}: {done}; ^C ends it and keeps what there is")

    def clear(self) -> None:
        if self._live:
            self._file.write(ERASE)

    def _write(self, line: str) -> None:
        self._said = time.monotonic()
        self._file.write(f"{ERASE}{line}" if self._live else f"{line}\n")
        self._file.flush()
