"""A second opinion on answers, for the audit: is an answer that a checker paid for really right?

Shares no code with answer.py, so that one mistake cannot hide in both. Countdown expressions are read by Python's own
parser into a syntax tree, of which only the four operations on plain whole numbers are walked; nothing is evaluated by
Python. For other tasks an answer is right when it is the gold text, or the same number.
Not covered: tasks with many right answers other than Countdown; for those only the gold answer counts as right.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from fractions import Fraction

from raison.records import Problem

_ALLOWED = re.compile(r"[0-9+\-*/() ]{1,256}")
_PLAIN_NUMBER = re.compile(r"\$?([-+]?)\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?(?:/[1-9][0-9]*)?)\.?")
_WRAPPED = re.compile(r"(?:\\boxed\{(.*)\}|<answer>(.*)</answer>)")


def is_countdown(problem: Problem) -> bool:
    """True for problems judged as Countdown: their meta has a list `numbers` and an integer `target`."""
    numbers, target = problem.meta.get("numbers"), problem.meta.get("target")
    return isinstance(numbers, (list, tuple)) and isinstance(target, int) and all(isinstance(n, int) for n in numbers)


def is_right(problem: Problem, answer: str) -> bool:
    """Whether the answer deserves to be paid for."""
    if is_countdown(problem):
        return _makes(problem.meta["numbers"], problem.meta["target"], answer)
    return _same(problem.gold, answer)


def _makes(numbers: list[int], target: int, answer: str) -> bool:
    sides = answer.strip().replace("×", "*").replace("÷", "/").replace("−", "-").split("=")
    if len(sides) > 2 or (len(sides) == 2 and sides[1].strip() != f"{target}"):
        return False
    if not _ALLOWED.fullmatch(sides[0]) or re.search(r"\b0[0-9]", sides[0]):
        return False
    used: Counter[int] = Counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = _value(ast.parse(sides[0].strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return False
    return value == target and not used - Counter(numbers)


def _value(node: ast.expr, used: Counter[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used[node.value] += 1
        return Fraction(node.value)
    if not isinstance(node, ast.BinOp):
        raise ValueError("neither a number nor an operation")
    left, right = _value(node.left, used), _value(node.right, used)
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
    raise ValueError("another operation than + - * /")


def _same(gold: str, answer: str) -> bool:
    gold, answer = _core(gold), _core(answer)
    if gold.casefold() == answer.casefold():
        return True
    numbers = _number(gold), _number(answer)
    return None not in numbers and numbers[0] == numbers[1]


def _core(text: str) -> str:
    text = " ".join(text.split())
    wrapped = _WRAPPED.fullmatch(text)
    return (wrapped[1] or wrapped[2] or "").strip() if wrapped else text


def _number(text: str) -> Fraction | None:
    match = _PLAIN_NUMBER.fullmatch(text) if len(text) < 100 else None
    return (
        Fraction(match[1] + match[2].replace(",", "").rstrip("."))
        if match and "./" not in match[2] and not _mixed(match[2])
        else None
    )


def _mixed(text: str) -> bool:
    return "." in text and "/" in text
