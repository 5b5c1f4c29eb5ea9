"""What one rendering of a stranger's template may cost: a clock, and a scale for whatever grows.

* time: a second of this thread's processor time, looked at between steps.
* memory: a string holds at most 4 Mi characters; all that is made in one rendering, 64 Mi units (a unit is a character
  or a sixteenth of an element). Nothing is given back, so that no pattern of use can exceed it.
* nesting: a list weighs what its elements weigh, again wherever they appear, so that `[a, a]` of `[a, a]` is no bomb.

Not covered: Python's own memory for each object, with which the worst case is some hundred megabytes.
"""

from __future__ import annotations

import re
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import chain
from string import Formatter
from types import GeneratorType
from typing import Any

from jinja2.utils import Namespace
from markupsafe import Markup

SECONDS = 1.0
MAX_TEXT = 1 << 22
MAX_WEIGHT = 1 << 23
MAX_UNITS = 1 << 26
MAX_WRITTEN = 400_000
"""Weight of a list or dict that may become text: escaping can make ten characters of one."""
MAX_BITS = 4096
MAX_PRODUCT = 100_000_000
ELEMENT, OBJECT = 16, 64
MAX_DEPTH = 100
MAX_LAZY = 20
ESCAPED = 5
"""Characters that HTML escaping makes of one, at most."""

CONTAINERS = (list, tuple, dict, set, frozenset, KeysView, ValuesView, ItemsView)
WIDE_PERCENT = re.compile(r"%(?:\((?![^()]*\))|(?:\([^()]*\))?[#0\- +]*(?:\*|\d{4}|\d*\.(?:\*|\d{4})))")
WIDE_BRACE = re.compile(r"\{|\d{4}")


class TooMuch(Exception):
    """Not a ValueError or TypeError, which some filters turn into a default."""


class Budget:
    """What may still be used, and the weights of the containers seen so far (kept alive, so that ids stay true)."""

    def __init__(self) -> None:
        self._units = MAX_UNITS
        self._wall = time.monotonic() + SECONDS
        self._cpu = time.thread_time() + SECONDS
        self._kept: dict[int, tuple[Any, int, int]] = {}

    def tick(self) -> None:
        """The thread's own clock is slow to ask; it is asked only once a second has passed at all."""
        if time.monotonic() > self._wall and time.thread_time() > self._cpu:
            raise TooMuch(f"it computes for more than {SECONDS:g} s")

    def spend(self, units: int) -> None:
        self._units -= units
        if self._units < 0:
            raise TooMuch("it makes too much text or too many elements")

    def room(self, length: int, limit: int = MAX_TEXT) -> None:
        if length > limit:
            raise TooMuch(f"a text, list or number would grow beyond {limit}")

    def weigh(self, value: Any) -> int:
        """Characters and elements in `value`, counted wherever they appear; raises TooMuch beyond MAX_WEIGHT.

        Depth is limited too: Python's hash of nested tuples recurses without asking whether there is stack left.
        """
        return self._measure(value)[0]

    def _measure(self, value: Any) -> tuple[int, int]:
        """Weight and depth."""
        if isinstance(value, str):
            return ELEMENT + len(value), 0
        if isinstance(value, Namespace):
            raise TooMuch("a namespace cannot be an element or be written as text")
        if not isinstance(value, CONTAINERS):
            return ELEMENT, 0
        known = self._kept.get(id(value))
        if known is not None:
            return known[1:]
        self.spend(OBJECT + ELEMENT * len(value))
        weight, depth = OBJECT, 0
        for item in chain(value, value.values()) if isinstance(value, dict) else value:
            more, below = self._measure(item)
            weight, depth = weight + more, max(depth, below)
        self.room(weight, MAX_WEIGHT)
        if depth >= MAX_DEPTH:
            raise TooMuch(f"lists are nested more than {MAX_DEPTH} deep")
        self._kept[id(value)] = (value, weight, depth + 1)
        return weight, depth + 1

    def made(self, value: Any, *sources: Any) -> Any:
        """Pass on what an operation made of `sources`, once it is paid for."""
        if isinstance(value, str):
            self.room(len(value))
            self.spend(len(value))
        elif isinstance(value, int):
            self.number(value)
        elif isinstance(value, CONTAINERS):
            self.weigh(value)
        elif isinstance(value, GeneratorType):
            return Lazy(value, self, sources)
        return value

    def number(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise TooMuch(f"a number has more than {MAX_BITS} bits")

    def each(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.tick()
            yield item

    def collect(self, items: Iterable[Any]) -> list[Any]:
        found = []
        for item in self.each(items):
            self.spend(ELEMENT)
            found.append(item)
        return found

    def writable(self, value: Any) -> int:
        """An upper bound of the length of `str(value)`; raises TooMuch when it could be out of all proportion."""
        if isinstance(value, str):
            return len(value)
        if isinstance(value, (*CONTAINERS, Namespace)):
            self.room(self.weigh(value), MAX_WRITTEN)
            return 10 * MAX_WRITTEN
        self.number(value)
        return MAX_BITS

    def write(self, value: Any) -> str:
        self.tick()
        self.writable(value)
        text = str(value)
        self.room(len(text))
        self.spend(len(text))
        return text

    def replaced(self, text: str, old: Any, new: Any) -> None:
        """Before `text.replace(old, new)`."""
        if isinstance(old, str) and isinstance(new, str):
            escaped = ESCAPED if isinstance(text, Markup) else 1
            self.room(len(text) + text.count(old) * len(new) * escaped)

    def joined(self, separator: str, items: Iterable[Any]) -> list[Any]:
        """The items, before they are joined."""
        found = self.collect(items)
        escaped = ESCAPED if isinstance(separator, Markup) else 1
        self.room(escaped * (len(separator) * len(found) + sum(map(self.writable, found))))
        return found

    def divided(self, text: str, separator: Any) -> None:
        """Before `text.split(separator)`."""
        parts = text.count(separator) if isinstance(separator, str) else len(text) // 2
        self.spend(ELEMENT * (1 + parts))

    def searched(self, text: str, other: Any) -> None:
        """Before a method whose worst case is the product of the two lengths."""
        if isinstance(other, str) and len(text) * len(other) > MAX_PRODUCT:
            raise TooMuch("a search in a very long text would take too long")

    def formatted(self, text: str, values: Any) -> None:
        """Before `text % values`: no wide or variable fields, and a modest sum of what could go in."""
        if WIDE_PERCENT.search(text):
            raise TooMuch("a format asks for a field wider than 999 characters, or for one of variable width")
        self._fields(text, text.count("%"), values)

    def braced(self, text: str, values: Any) -> None:
        """Before `text.format(...)`, the same."""
        if any(spec and WIDE_BRACE.search(spec) for _, _, spec, _ in Formatter().parse(text)):
            raise TooMuch("a format asks for a field wider than 999 characters, or for one of variable width")
        self._fields(text, text.count("{"), values)

    def _fields(self, text: str, count: int, values: Any) -> None:
        weight = self.weigh(values)
        self.room(weight, MAX_WRITTEN)
        self.room(len(text) + count * (MAX_BITS + weight))

    def repeated(self, left: Any, right: Any) -> None:
        """Before `left * right`."""
        for value, times in ((left, right), (right, left)):
            if isinstance(value, (str, list, tuple)) and isinstance(times, int) and times > 0:
                self.room((len(value) if isinstance(value, str) else self.weigh(value)) * times)

    def raised(self, left: Any, right: Any) -> None:
        """Before `left ** right`."""
        if isinstance(left, int) and isinstance(right, int):
            self.room(left.bit_length() * abs(right), MAX_BITS)


class Lazy(Iterator[Any]):
    """A filter's generator, with a look at the clock at every item.

    Generators of generators are limited in depth: Python frees them by recursion, without asking for its stack.
    """

    __slots__ = ("_budget", "_depth", "_items")

    def __init__(self, items: Iterator[Any], budget: Budget, sources: Iterable[Any]) -> None:
        self._items, self._budget = items, budget
        self._depth: int = 1 + max((source._depth for source in sources if isinstance(source, Lazy)), default=0)
        if self._depth > MAX_LAZY:
            raise TooMuch(f"more than {MAX_LAZY} filters wait for each other")

    def __next__(self) -> Any:
        self._budget.tick()
        return next(self._items)


def paid(mapping: Mapping[Any, Any] | Iterable[Any], budget: Budget) -> dict[Any, Any]:
    """`dict(mapping)`, one pair after the other: keys that were chosen to collide make it quadratic."""
    pairs = mapping.items() if isinstance(mapping, Mapping) else mapping
    made = {}
    for key, value in budget.each(pairs):
        made[key] = value
    return made
