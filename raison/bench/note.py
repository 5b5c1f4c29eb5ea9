"""What a benchmark says on its way: one line at a time, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]


def unheard(text: str) -> None:
    """Nobody listens."""
