"""What is typed after an option: lists and whole numbers, checked with the option's name in the error.

Not covered: what argparse checks by itself (parser.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from raison.errors import UserError, nearest


def words(text: str) -> list[str]:
    """`a, b` -> a and b; nothing where there is nothing."""
    return [word.strip() for word in text.split(",") if word.strip()]


def whole_number(word: str, option: str) -> int:
    """At least 1. Raises UserError that names the option."""
    if not word.strip().isdecimal() or int(word) < 1:
        raise UserError(f"{option} has {word!r}; give whole numbers of at least 1")
    return int(word)


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """A list of at least one. Raises UserError that names the option."""
    return tuple(whole_number(word, option) for word in text.split(","))


def size(word: str, option: str) -> int:
    """A count of which the thousands may be written as k: 100k. Raises UserError that names the option."""
    plain = word.strip().lower()
    return 1000 * whole_number(plain[:-1], option) if plain.endswith("k") else whole_number(plain, option)


def sizes(text: str, option: str) -> tuple[int, ...]:
    """A list of at least one. Raises UserError that names the option."""
    return tuple(size(word, option) for word in text.split(","))


def above_zero(word: str, option: str) -> float:
    """A number above 0. Raises UserError that names the option."""
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UserError(f"{option} has {word!r}; give numbers above 0")
    return value


def known_words(text: str, known: Iterable[str], what: str) -> list[str]:
    """Raises UserError for one that is not known, and for one twice."""
    found = words(text)
    for word in found:
        if word not in known:
            raise UserError(f'there is no {what} "{word}": {nearest(word, known)}')
        if found.count(word) > 1:
            raise UserError(f'the {what} "{word}" is there twice')
    return found
