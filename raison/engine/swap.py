"""Room outside the cache for what sequences had computed when they were put back to wait.

Its pages are numbered behind the cache's own, so that to copy out and back is one more copy of a step's plan
(cache.py). Copying a page is a hundred times as fast as computing it again, so that everything is kept that there is
room for. Pages that others hold too are not copied: a prompt's are found again by name, as long as they are there. Not
covered: disks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Copies = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a waiting sequence has outside the cache."""

    tokens: int
    """Computed when it was put back."""
    pages: Mapping[int, int]
    """Number of a page in the sequence -> in the room."""


class SwapRoom:
    """Pages first ... first + count - 1."""

    def __init__(self, first: int, count: int) -> None:
        self.total = count
        self.kept = self.restored = 0
        """Tokens that went out, and that came back."""
        self._free = list(range(first + count - 1, first - 1, -1))

    @property
    def available(self) -> int:
        return len(self._free)

    def keep(self, pages: Mapping[int, int], tokens: int, page_size: int) -> tuple[Swapped | None, Copies]:
        """Room for `pages` (number in the sequence -> in the cache), the first first, as far as it goes."""
        kept = {index: self._free.pop() for index in sorted(pages)[: len(self._free)]}
        if not kept:
            return None, []
        self.kept += sum(min(page_size, tokens - index * page_size) for index in kept)
        return Swapped(tokens, kept), [(pages[index], room) for index, room in kept.items()]

    def restore(self, swapped: Swapped, blocks: list[int], found: int, page_size: int) -> tuple[int, Copies]:
        """Tokens that a sequence has again, of which `found` pages were in the cache; `blocks` are all of its pages."""
        stop = found
        while stop in swapped.pages:
            stop += 1
        tokens = max(found * page_size, min(stop * page_size, swapped.tokens))
        self.restored += tokens - found * page_size
        self.give_up(swapped)
        return tokens, [(swapped.pages[index], blocks[index]) for index in range(found, stop)]

    def give_up(self, swapped: Swapped) -> None:
        self._free.extend(swapped.pages.values())
