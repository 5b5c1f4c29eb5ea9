"""Countdown problems: what a set of numbers can reach, which problems are held out, and how one is drawn.

A problem is two to four positive whole numbers and a target; each number is used at most once, with + - * / on exact
fractions. Reachability is computed over absolute values: since |a + b| and |a - b| of signed numbers are the sum and
the difference of absolute values, this loses no positive target and halves the work.

Differs from the television game: fractions and negative intermediate results are allowed. Problems whose target is one
of the numbers are never drawn (there is nothing to do), though a person may type one.
Not covered: reading what a person typed (countdown_text.py), judging answers (countdown.py), writing a search down.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import gcd

from raison.errors import UserError
from raison.records import Problem
from raison.tasks.split import is_held_out

NAME = "countdown"
LEVELS = (2, 3, 4)

Numbers = tuple[int, ...]
Value = tuple[int, int]
"""A non-negative fraction in lowest terms: numerator, denominator."""

_MAX_DRAWS = 10_000


def make_problem(numbers: Numbers, target: int, gold: str = "") -> Problem:
    """The problem with the prompt every stage uses: `3 7 17 -> 38`."""
    prompt = f"{' '.join(map(str, numbers))} -> {target}"
    return Problem(NAME, prompt, gold, {"numbers": list(numbers), "target": target})


def sample_problem(
    seed: int, level: int, held_out: bool, low: int = 1, high: int = 20, target_low: int = 1, target_high: int = 99
) -> Problem:
    """Problem number `seed` with `level` numbers: uniform in low..high, then a target uniform among those within reach.

    Only targets of the wanted side of the split count. Raises UserError for a level other than 2, 3, 4 or ranges that
    hold no problem.
    """
    if level not in LEVELS:
        raise UserError(f"countdown has levels 2, 3 and 4 (how many numbers), not {level}")
    rng = random.Random(f"{NAME}:{level}:{seed}")
    for _ in range(_MAX_DRAWS):
        numbers = tuple([rng.randint(low, high) for _ in range(level)])
        targets = targets_of(tuple(sorted(numbers)), target_low, target_high, held_out)
        if targets:
            target = rng.choice(targets)
            return make_problem(numbers, target, solve(tuple(sorted(numbers)), target))
    raise UserError(
        f"no countdown problem with {level} numbers in {low}..{high} has a target in {target_low}..{target_high}: "
        "widen the ranges"
    )


def split_key(numbers: Numbers, target: int) -> str:
    """What decides the side of the split: the same for every order of the numbers."""
    return f"{NAME}:{' '.join(map(str, sorted(numbers)))}->{target}"


@lru_cache(maxsize=16_384)
def targets_of(ordered: Numbers, low: int, high: int, held_out: bool) -> Numbers:
    """The targets in low..high that one may be asked for with these (sorted) numbers, on one side of the split."""
    inside = sorted(t for t in reachable(ordered) if low <= t <= high and t not in ordered)
    return tuple(t for t in inside if is_held_out(split_key(ordered, t)) == held_out)


def reachable(ordered: Numbers) -> set[int]:
    """Every positive integer that some expression over any of the (sorted) numbers makes."""
    found: set[int] = set()
    for size in range(1, len(ordered) + 1):
        for chosen in set(combinations(ordered, size)):
            found |= _integers(chosen)
    return found


@lru_cache(maxsize=16_384)
def solve(ordered: Numbers, target: int) -> str:
    """One expression for the target from as few of the (sorted) numbers as possible, or an empty string."""
    for size in range(1, len(ordered) + 1):
        for chosen in sorted(set(combinations(ordered, size))):
            found = _derive(chosen, (target, 1))
            if found is not None:
                return found[0]
    return ""


@lru_cache(maxsize=4_096)
def _values(chosen: Numbers) -> frozenset[Value]:
    """Absolute values of all expressions that use every one of the numbers exactly once."""
    if len(chosen) == 1:
        return frozenset({(chosen[0], 1)})
    found: set[Value] = set()
    for left, right in _partitions(chosen):
        for a, b in _values(left):
            for c, d in _values(right):
                ad, bc, bd = a * d, b * c, b * d
                found.add(_reduced(ad + bc, bd))
                found.add(_reduced(abs(ad - bc), bd))
                found.add(_reduced(a * c, bd))
                if bc:
                    found.add(_reduced(ad, bc))
                if ad:
                    found.add(_reduced(bc, ad))
    return frozenset(found)


def _integers(chosen: Numbers) -> set[int]:
    """The positive integers among `_values(chosen)`, without making the fractions of the last step."""
    if len(chosen) == 1:
        return {chosen[0]}
    found: set[int] = set()
    for left, right in _partitions(chosen):
        for a, b in _values(left):
            for c, d in _values(right):
                ad, bc, bd = a * d, b * c, b * d
                if bd == 1:
                    found.update((a + c, abs(a - c), a * c))
                else:
                    found.update(n // bd for n in (ad + bc, abs(ad - bc), a * c) if n % bd == 0)
                if bc and ad % bc == 0:
                    found.add(ad // bc)
                if ad and bc % ad == 0:
                    found.add(bc // ad)
    found.discard(0)
    return found


def _reduced(numerator: int, denominator: int) -> Value:
    divisor = gcd(numerator, denominator)
    return (numerator // divisor, denominator // divisor)


@lru_cache(maxsize=16_384)
def _partitions(chosen: Numbers) -> tuple[tuple[Numbers, Numbers], ...]:
    """Every way to part the numbers into two non-empty heaps, in either order once."""
    pairs: dict[tuple[Numbers, Numbers], None] = {}
    for mask in range(1, 1 << (len(chosen) - 1)):
        right = tuple(n for i, n in enumerate(chosen) if mask >> i & 1)
        left = tuple(n for i, n in enumerate(chosen) if not mask >> i & 1)
        pairs[left, right] = None
    return tuple(pairs)


def _derive(chosen: Numbers, value: Value) -> tuple[str, int] | None:
    """An expression for the value with every number, and how tightly it binds: 1 a sum, 2 a product, 3 a number."""
    if len(chosen) == 1:
        return (str(chosen[0]), 3) if value == (chosen[0], 1) else None
    for first, second in _partitions(chosen):
        for left, right in ((second, first), (first, second)):
            for a in sorted(_values(left)):
                for operator, b in _missing(a, value):
                    if b in _values(right):
                        return _joined(left, a, operator, right, b)
    return None


def _missing(a: Value, value: Value) -> Iterator[tuple[str, Value]]:
    """Each (operator, b) with b >= 0 and |a operator b| == value, but for the heaps the other way round."""
    (an, ad), (vn, vd) = a, value
    difference = vn * ad - an * vd
    if difference >= 0:
        yield "+", _reduced(difference, vd * ad)
    if difference <= 0:
        yield "-", _reduced(-difference, vd * ad)
    if an:
        yield "*", _reduced(vn * ad, vd * an)
    if vn and an:
        yield "/", _reduced(an * vd, ad * vn)


def _joined(left: Numbers, a: Value, operator: str, right: Numbers, b: Value) -> tuple[str, int]:
    """`a operator b` with no more parentheses than the value needs."""
    derived_a, derived_b = _derive(left, a), _derive(right, b)
    assert derived_a is not None and derived_b is not None
    (text_a, binds_a), (text_b, binds_b) = derived_a, derived_b
    binds = 1 if operator in "+-" else 2
    if binds_a < binds:
        text_a = f"({text_a})"
    if binds_b < binds or (binds_b == binds and operator in "-/"):
        text_b = f"({text_b})"
    return f"{text_a} {operator} {text_b}", binds
