"""Bytes and their times into server-sent events and theirs (WHATWG HTML, section 9.2).

An event's time is that of the read that completed its last data line. Not covered: event names and ids, lines that end
in a carriage return alone; no OpenAI-compatible server sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def events(reads: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Each event's time and data, the lines of its data joined; comments and other fields are left out.

    An event at the end of the stream counts also without the empty line after it.
    """
    at, data = 0.0, list[str]()
    for when, line in _lines(reads):
        if line.startswith("data:"):
            at = when
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield at, "\n".join(data)
            data.clear()
    if data:
        yield at, "\n".join(data)


def _lines(reads: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Whole lines, and what is left at the end; characters may be cut between reads, lines are whole again."""
    held, at = b"", 0.0
    for at, data in reads:
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            yield at, line.removesuffix(b"\r").decode("utf-8", "replace")
    if held:
        yield at, held.decode("utf-8", "replace")
