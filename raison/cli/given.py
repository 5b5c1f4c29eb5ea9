"""What is typed after an option: lists and whole numbers, checked with the option's name in the error.

Not covered: what argparse checks by itself (parser.py).
"""

from __future__ import annotations

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


def known_words(text: str, known: Iterable[str], what: str) -> list[str]:
    """Raises UserError for one that is not known, and for one twice."""
    found = words(text)
    for word in found:
        if word not in known:
            raise UserError(f'there is no {what} "{word}": {nearest(word, known)}')
        if found.count(word) > 1:
            raise UserError(f'the {what} "{word}" is there twice')
    return found
