"""Reading a Countdown problem that a person typed, and telling them how to mend one that cannot be used.

Understands `3 7 17 -> 38`, commas, `and`, `=`, `to` or an arrow sign before the target, and `Make 38 from 3, 7, 17`.
Not covered: problems in words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from raison.errors import ProblemError
from raison.records import Problem
from raison.tasks.countdown_problem import LEVELS, Numbers, make_problem, reachable, solve

MAX_NUMBER = 999
_MAX_CHARS = 200
_MAX_TARGET_DIGITS = 15

_SIGNED = r"[-+−]?[0-9]+(?:\.[0-9]+)?"
_LIST = rf"({_SIGNED}(?:(?:[ ,;]|\band\b)+{_SIGNED})*)"
_FORMS = (
    (re.compile(rf"{_LIST}[ ,]*(?:->|=>|→|=|\bto\b|\bmake\b)[ ]*({_SIGNED})[ ?.]*", re.IGNORECASE), 1, 2),
    (re.compile(rf"(?:make |get )?({_SIGNED}) (?:from|with|using|out of):? {_LIST}[ ?.]*", re.IGNORECASE), 2, 1),
)
_HOW = 'write the numbers, an arrow and the target, as in "3 7 17 -> 38"'


def read_problem(text: str) -> Problem:
    """The problem in canonical form, with a gold answer.

    Raises ProblemError when the text is malformed, the numbers are not two to four whole numbers in 1..999, or no
    expression makes the target.
    """
    numbers, target = _numbers_and_target(text)
    ordered = tuple(sorted(numbers))
    gold = solve(ordered, target)
    if not gold:
        raise ProblemError(_unreachable(numbers, target))
    return make_problem(numbers, target, gold)


def _numbers_and_target(text: str) -> tuple[Numbers, int]:
    if len(text) > _MAX_CHARS:
        raise ProblemError(f"the problem has {len(text):,} characters: {_HOW}")
    flat = " ".join(text.split())
    for form, list_group, target_group in _FORMS:
        match = form.fullmatch(flat)
        if match:
            numbers = tuple(_whole(word, "number") for word in re.findall(_SIGNED, match[list_group]))
            target = _whole(match[target_group], "target")
            _check_ranges(numbers, target)
            return numbers, target
    raise ProblemError(f"cannot read {ascii(flat) if flat else 'an empty problem'}: {_HOW}")


def _whole(word: str, role: str) -> int:
    digits = word.lstrip("+-−")
    if not digits.isdigit():
        raise ProblemError(f"{word} is not a whole number: {_HOW}")
    if len(digits) > _MAX_TARGET_DIGITS:
        raise ProblemError(f"the {role} {digits[:12]}... is too large: use at most {_MAX_TARGET_DIGITS} digits")
    return int(digits) if word[0] not in "-−" else -int(digits)


def _check_ranges(numbers: Numbers, target: int) -> None:
    if len(numbers) not in LEVELS:
        raise ProblemError(
            f"{len(numbers)} number{'s' if len(numbers) != 1 else ''} given: a problem has two, three or four; {_HOW}"
        )
    for number in numbers:
        if not 1 <= number <= MAX_NUMBER:
            raise ProblemError(f"the number {number} cannot be used: numbers go from 1 to {MAX_NUMBER}")
    if target < 1:
        raise ProblemError(f"the target {target} cannot be used: it must be 1 or more")


def _unreachable(numbers: Numbers, target: int) -> str:
    ordered = tuple(sorted(numbers))
    found = reachable(ordered)
    most = max(found)
    if target > most:
        return f"{target} is out of reach: {_listed(numbers)} make at most {most} ({solve(ordered, most)})."
    near = min(found, key=lambda value: (abs(value - target), value))
    return f"{target} cannot be made from {_listed(numbers)}; the nearest target is {near} ({solve(ordered, near)})."


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
