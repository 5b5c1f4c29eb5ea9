"""Checkers with the holes that published ones have had, for the audit to find. Never use one for training.

`holey(*holes)` makes a checker of Countdown that is right but for the holes named. Nothing is evaluated by Python:
sloppy arithmetic is walked in the syntax tree with bounded powers. `tinyzero` has the holes of a widely copied checker.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

_PLAIN = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_MORE = {
    "power": (ast.Pow, operator.pow),
    "floor division": (ast.FloorDiv, operator.floordiv),
    "modulo": (ast.Mod, operator.mod),
    "bit operators": (ast.LShift, operator.lshift),
    "caret": (ast.BitXor, operator.xor),
}
_LETTERS = {"decimal point": ".", "modulo": "%", "bit operators": "<", "caret": "^", "broken lines": r"\n\\"}
_FLOATS = {"almost equal", "decimal point"}
Checker = Callable[[Any, str], bool]


class Refused(Exception):
    """The text is not arithmetic that this checker reads."""


def holey(*holes: str) -> Checker:
    def check(problem: Any, answer: str) -> bool:
        shown, _, target = problem["prompt"].partition(" -> ")
        numbers, goal = [int(n) for n in shown.split()], int(target)
        if "target alone" in holes and answer.strip(" ().=") == target:
            return True
        if "gold inside other text" in holes and problem["gold"] and problem["gold"] in answer:
            return True
        if "echo of the prompt" in holes and answer.strip() == problem["prompt"]:
            return True
        return any(_pays(text, numbers, goal, holes) for text in _candidates(answer, holes))

    return check


def _candidates(answer: str, holes: tuple[str, ...]) -> list[str]:
    if "several answers" in holes:
        return re.split(r"\bor\b|\band\b|[\n,;|]", answer)
    if "think tags" in holes:
        return [re.sub(r"</?think>", "", answer)]
    if "several answer tags" in holes:
        return re.findall(r"<answer>(.*?)</answer>", answer) or [answer]
    if "wrong claim" in holes:
        return [answer.partition("=")[0]]
    if "comment" in holes:
        return [answer.partition("#")[0]]
    return [answer]


def _pays(text: str, numbers: list[int], goal: int, holes: tuple[str, ...]) -> bool:
    text = text.strip()
    if len(text) > 300 or not re.fullmatch(f"[0-9+*/() {_letters(holes)}-]+", text):
        return False
    if "joined digits" in holes:
        used = sorted(re.sub(r"[^0-9]", "", text))
        if used != sorted("".join(map(str, numbers))):
            return False
    elif "number outside the pool" not in holes and not _from_pool(text, numbers, "number used twice" in holes):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = _walk(ast.parse(text, mode="eval").body, holes)
        if "rounding" in holes:
            return math.floor(value) == goal
        return bool(abs(value - goal) < 1e-5 if "almost equal" in holes else value == goal)
    except (Refused, SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False


def _letters(holes: tuple[str, ...]) -> str:
    return "".join(letters for name, letters in _LETTERS.items() if name in holes)


def _from_pool(text: str, numbers: list[int], again: bool) -> bool:
    used = [int(n) for n in re.findall(r"[0-9]+", text)]
    return set(used) <= set(numbers) if again else all(used.count(n) <= numbers.count(n) for n in used)


def _walk(node: ast.expr, holes: tuple[str, ...]) -> Any:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return float(value) if _FLOATS & set(holes) else Fraction(value)
        case ast.Constant(value=float() as value) if "decimal point" in holes:
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand) if "unary sign" in holes:
            return -_walk(operand, holes)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _walk(left, holes), _walk(right, holes)
            known = {**_PLAIN, **{kind: act for name, (kind, act) in _MORE.items() if name in holes}}
            if type(op) not in known or (isinstance(op, (ast.Pow, ast.LShift)) and (abs(a) > 10**6 or abs(b) > 64)):
                raise Refused
            if isinstance(op, (ast.LShift, ast.BitXor)):
                a, b = int(a), int(b)
            return known[type(op)](a, b)
    raise Refused


tinyzero = holey("power", "floor division", "decimal point", "unary sign", "almost equal")
strict = holey()


def raising(problem: Any, answer: str) -> bool:
    if not answer.isascii():
        raise KeyError(answer)
    return False


def looping(problem: Any, answer: str) -> bool:
    while answer.startswith("("):
        pass
    return False


def paying(problem: Any, answer: str) -> bool:
    return True


class Doubling:
    """A user's own task, with plain dicts for problems: the double of a number."""

    name = "doubling"
    version = 3
    levels = (1, 2)

    def sample(self, seed: int, level: int) -> dict[str, Any]:
        number = seed % 10**level
        return {"prompt": f"double {number}", "gold": str(2 * number), "meta": {"number": number}}

    def check(self, problem: Any, answer: str) -> bool:
        return answer == str(2 * problem.meta["number"])
