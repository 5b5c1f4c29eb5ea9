r"""When two answers say the same: numbers, fractions, expressions, equations, sets and texts brought to one form.

An answer's form is what it comes to: `1/2`, `0.5`, `\frac{1}{2}` and `2 * 1 / 4` are the number 1/2. A true equation
is its value (`18 - 4 = 14` is 14), a false one stands for its two sides. `{1, 2}`, `2, 1` and `1 or 2` are one set;
`(1, 2)` and intervals keep their order and their brackets. Of a text that ends in `\boxed{}`, `#### ...` or "the answer
is ...", that part is read. What is none of these is compared as text, up to case, blanks and outer punctuation. Two
valid Countdown expressions of one target are so equivalent, whatever their operands.

Equal forms are an equivalence relation by construction. Not covered: algebra with letters, units, percentages; those
need `math-verify` (math_equivalence.py), which asks pairs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol, TypeAlias

from raison.tasks.answer import BLANKS, NotAnExpression, parse_expression, parse_number, unwrap

Form: TypeAlias = tuple[object, ...]
"""Hashable: a kind and what it holds."""

_MOST_CHARS, _MOST_PARTS = 512, 64
_FRACTION = re.compile(r"\\[dt]?frac *\{([^{}]*)\} *\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|displaystyle|[,;:! ])|[$~]")
_SIGNS = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\{", "{"), ("\\}", "}"), ("−", "-"))
_BOXED = re.compile(r"\\boxed *\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(
    r"(?:^|\n)####[ \t]*([^\n]+)|\b(?:final )?answer(?: is)?[ \t]*[:=]?[ \t]+([^\n]+?)[ \t]*\.?[ \t]*$", re.I
)
_NAMED = re.compile(r"[A-Za-z]\w? *= *")
_BRACKETS = {"{": "}", "(": ")", "[": "]"}
_SEPARATOR = re.compile(r",(?![0-9]{3}(?![0-9]))|, +|;|\bor\b|\band\b")


class Equivalence(Protocol):
    def find(self, answer: str, known: Sequence[str]) -> int | None:
        """Index of the first of `known` that says the same as `answer`, None where none does."""
        ...


class SameForm:
    """Answers are equivalent when their forms are equal."""

    def find(self, answer: str, known: Sequence[str]) -> int | None:
        wanted = form(answer)
        return next((i for i, text in enumerate(known) if form(text) == wanted), None)


def form(answer: str) -> Form | None:
    """What an answer comes to; None for one that is empty, which has no voice. Never raises."""
    text = _said(answer.strip(BLANKS))
    if not text:
        return None
    return _read(text) or ("text", _folded(text))


def _said(text: str) -> str:
    """The part of a longer answer that is the answer, and the whole of a short one."""
    boxed = _BOXED.findall(text)
    if boxed:
        return str(boxed[-1]).strip(BLANKS)
    found = _SAID.findall(text[-4 * _MOST_CHARS :])
    return (found[-1][0] or found[-1][1]).strip(BLANKS) if found else unwrap(text)


def _read(text: str) -> Form | None:
    """Mathematics that can be brought to a value, or None."""
    if len(text) > _MOST_CHARS:
        return None
    plain = _plain(text)
    value = _value(plain)
    if value is not None:
        return ("value", value)
    return _equation(plain) or _collection(plain)


def _plain(text: str) -> str:
    """LaTeX's spellings of what the grammar of answers knows, in that grammar."""
    text = _FRACTION.sub(r"(\1)/(\2)", _SPACING.sub("", text))
    for spelling, sign in _SIGNS:
        text = text.replace(spelling, sign)
    return _NAMED.sub("", text.strip(BLANKS + "."), count=1) if _NAMED.match(text) else text.strip(BLANKS + ".")


def _value(text: str) -> Fraction | None:
    number = parse_number(text)
    if number is not None:
        return number
    negative = text.startswith("-")
    try:
        value = parse_expression(text[negative:]).value
    except NotAnExpression:
        return None
    # A sign before a sum would bind its first term alone.
    return (
        value if not negative else -value if text[1:].lstrip()[:1] == "(" or not re.search(r"[-+]", text[1:]) else None
    )


def _equation(text: str) -> Form | None:
    left, equals, right = text.partition("=")
    values = (_value(left.strip(BLANKS)), _value(right.strip(BLANKS))) if equals else (None, None)
    if None in values:
        return None
    return ("value", values[0]) if values[0] == values[1] else ("equation", *values)


def _collection(text: str) -> Form | None:
    """`{1, 2}` and `1, 2` in any order; `(1, 2)`, `[1, 2)` in theirs."""
    opening, closing = text[:1], text[-1:]
    bracketed = len(text) > 2 and opening in _BRACKETS and closing in _BRACKETS.values()
    parts = [part.strip(BLANKS) for part in _SEPARATOR.split(text[1:-1] if bracketed else text)]
    if not (1 < len(parts) <= _MOST_PARTS or (opening == "{" and bracketed)) or not all(parts):
        return None
    forms = [("value", value) if (value := _value(part)) is not None else ("text", _folded(part)) for part in parts]
    if bracketed and opening != "{":
        return ("ordered", opening + closing, *forms)
    if not bracketed and any(kind == "text" for kind, _ in forms):
        return None  # a sentence with commas
    return ("set", *sorted(set(forms), key=str))


def _folded(text: str) -> str:
    """A text without case, runs of blanks, marks of weight and outer punctuation: `**(A)**.` is `a`."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text.strip(" .,;:!?*_`\"'()[]") or text
