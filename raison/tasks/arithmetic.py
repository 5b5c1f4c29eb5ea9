"""Arithmetic with carried steps: `487 + 356`, worked digit by digit as on paper. The smallest task that needs thinking.

`level` is the number of digits of the first operand (1 to 8). Sums and differences take two numbers of that many
digits, products a factor of half as many. Written steps follow the school methods, units first: `7 + 6 = 13 write 3
carry 1`. The answer is one plain integer and nothing else; or, for models without think tags, work of any kind and one
last line `#### 843`. Beside this strict reading stands the lenient one, the last number in the answer
(word_problems.py), which is never paid.
Not covered: division, decimals, more than two operands.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from raison.errors import ProblemError, UserError
from raison.records import Demonstration, Problem, Verdict
from raison.tasks.answer import BLANKS
from raison.tasks.split import is_held_out
from raison.tasks.word_problems import MARK, last_number

VERSION = 2
_NAME = "arithmetic"
_CHECKER = f"{_NAME}@{VERSION}"
_MAX_DIGITS = 16
_MAX_CHARS = 1 << 16
_PROBLEM = re.compile(r"([0-9]+) ?([-+*x×−]) ?([0-9]+)(?: ?= ?\??)?")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_COMPUTE: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
_HOW = 'write two whole numbers and a sign, as in "487 + 356"'


class Arithmetic:
    """Implements Task, Parses, Demonstrates and Documents. `held_out` chooses the side of a split by content."""

    name = _NAME
    version = VERSION
    levels = (1, 2, 3, 4, 5, 6, 7, 8)

    def __init__(self, held_out: bool = False) -> None:
        self.held_out = held_out

    def sample(self, seed: int, level: int) -> Problem:
        """Problem number `seed` with `level` digits. Raises UserError for a level not in 1..8."""
        if level not in self.levels:
            raise UserError(f"arithmetic has levels 1 to {self.levels[-1]} (digits), not {level}")
        rng = random.Random(f"{_NAME}:{level}:{seed}")
        while True:
            sign = rng.choice("+-*")
            a, b = _digits(rng, level), _digits(rng, (level + 1) // 2 if sign == "*" else level)
            if sign == "-":
                a, b = max(a, b), min(a, b)
            if is_held_out(_split_key(a, sign, b)) == self.held_out:
                return _problem(a, sign, b)

    def parse(self, text: str) -> Problem:
        """A problem that a person typed. Raises ProblemError saying what to mend."""
        match = _PROBLEM.fullmatch(" ".join(text.split())) if len(text) <= 100 else None
        if match is None:
            raise ProblemError(f"cannot read {text[:40]!a}: {_HOW}")
        if max(len(match[1]), len(match[3])) > _MAX_DIGITS:
            raise ProblemError(f"the numbers are too long: use at most {_MAX_DIGITS} digits")
        sign = {"x": "*", "×": "*", "−": "-"}.get(match[2], match[2])
        return _problem(int(match[1]), sign, int(match[3]))

    def check(self, problem: Problem, answer: str) -> Verdict:
        """Judge an answer such as `843`, or work that ends in a line `#### 843`. Never raises for any string."""
        if len(answer) > _MAX_CHARS:
            return Verdict(False, "the answer is much longer than any right one", _CHECKER, False)
        reason = _objection(problem.gold, answer)
        lenient = last_number(answer) == int(problem.gold)
        return Verdict(not reason, reason or "the right number", _CHECKER, lenient)

    def demonstrate(self, problem: Problem, seed: int) -> Demonstration:
        """The school method, step by step. There is one order of working, so `seed` changes nothing."""
        a, sign, b = problem.meta["a"], problem.meta["sign"], problem.meta["b"]
        steps = "\n".join(_steps(a, sign, b))
        return Demonstration(steps, problem.gold, f"{steps}\n{MARK} {problem.gold}")

    def document(self, seed: int) -> str:
        """One worked problem of one to four digits with its answer, never from the other side of the split."""
        problem = self.sample(seed, 1 + seed % 4)
        return f"{problem.prompt}\n{self.demonstrate(problem, seed).thinking}\n{problem.prompt} = {problem.gold}\n"


def _objection(gold: str, answer: str) -> str:
    work, mark, given = answer.strip(BLANKS).rpartition(MARK)
    if mark and (MARK in work or work.rpartition("\n")[2].strip(BLANKS)):
        return f"there is more than one {MARK}, or none at the beginning of the last line"
    given = given.strip(BLANKS)
    if not _INTEGER.fullmatch(given):
        return f"the answer is not one plain integer, nor is its last line {MARK} and one"
    return "" if given == gold else f"it is not {given[:24]}"


def _digits(rng: random.Random, count: int) -> int:
    return rng.randint(10 ** (count - 1), 10**count - 1) if count > 1 else rng.randint(0, 9)


def _problem(a: int, sign: str, b: int) -> Problem:
    return Problem(_NAME, f"{a} {sign} {b}", str(_COMPUTE[sign](a, b)), {"a": a, "sign": sign, "b": b})


def _split_key(a: int, sign: str, b: int) -> str:
    if sign != "-":
        a, b = min(a, b), max(a, b)
    return f"{_NAME}:{a} {sign} {b}"


def _steps(a: int, sign: str, b: int) -> list[str]:
    if sign == "+":
        return _sum_steps(a, b)
    if sign == "*":
        return _product_steps(a, b)
    if a < b:
        return [*_difference_steps(b, a), f"{a} is less than {b} so {a - b}"]
    return _difference_steps(a, b)


def _units_first(a: int, b: int) -> list[tuple[int, int]]:
    """The digits of both numbers in pairs, units first, the shorter one filled with zeros."""
    width = max(len(str(a)), len(str(b)))
    return [(int(x), int(y)) for x, y in zip(f"{a:0{width}d}"[::-1], f"{b:0{width}d}"[::-1], strict=True)]


def _sum_steps(a: int, b: int) -> list[str]:
    steps, carry = [], 0
    for x, y in _units_first(a, b):
        carried = f" + {carry}" if carry else ""
        total = x + y + carry
        carry = total // 10
        steps.append(f"{x} + {y}{carried} = {total} write {total % 10}" + (f" carry {carry}" if carry else ""))
    return [*steps, f"{a} + {b} = {a + b}"]


def _difference_steps(a: int, b: int) -> list[str]:
    steps, borrow = [], 0
    for x, y in _units_first(a, b):
        borrowed = f" - {borrow}" if borrow else ""
        need = x < y + borrow
        top = x + 10 if need else x
        digit = top - y - borrow
        borrow = int(need)
        steps.append(f"{top} - {y}{borrowed} = {digit} write {digit}" + (" borrow 1" if need else ""))
    return [*steps, f"{a} - {b} = {a - b}"]


def _product_steps(a: int, b: int) -> list[str]:
    """One row of digit products for each digit of b, then the running sum of the rows."""
    steps: list[str] = []
    total = 0
    for place, digit in enumerate(reversed(str(b))):
        factor = int(digit)
        steps += _row_steps(a, factor)
        row = a * factor * 10**place
        if place:
            steps.append(f"{a} * {factor}{'0' * place} = {row}")
            steps.append(f"{total} + {row} = {total + row}")
        total += row
    return [*steps, f"{a} * {b} = {total}"]


def _row_steps(a: int, factor: int) -> list[str]:
    steps, carry = [], 0
    for digit in map(int, reversed(str(a))):
        carried = f" + {carry}" if carry else ""
        total = digit * factor + carry
        carry = total // 10
        steps.append(f"{digit} * {factor}{carried} = {total} write {total % 10}" + (f" carry {carry}" if carry else ""))
    return [*steps, f"{a} * {factor} = {a * factor}"]
