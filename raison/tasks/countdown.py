"""Countdown: make the target from two to four numbers, each used at most once. The task, and its checker.

The checker accepts one expression of the grammar in answer.py, optionally followed by `= target`, and nothing else: no
prose, no tags, no second try. Among the numbers it need not use all. It never evaluates text with Python and takes
microseconds.
Differs from TinyZero's checker, which pays for powers, integer division, digits joined by a point, and signs.
Not covered: partial credit, on purpose.
"""

from __future__ import annotations

from raison.records import Demonstration, Problem, Verdict
from raison.tasks import countdown_search
from raison.tasks.answer import BLANKS, MAX_CHARS, NotAnExpression, parse_expression
from raison.tasks.countdown_problem import LEVELS, NAME, sample_problem
from raison.tasks.countdown_text import read_problem

VERSION = 1
_CHECKER = f"{NAME}@{VERSION}"
_MAX_ANSWER_CHARS = MAX_CHARS + 32


class Countdown:
    """Implements Task, Parses, Demonstrates and Documents. `level` is how many numbers a problem has.

    `held_out` chooses the side of a split by content that no problem ever crosses: train on False, measure on True.
    """

    name = NAME
    version = VERSION
    levels = LEVELS

    def __init__(
        self, held_out: bool = False, low: int = 1, high: int = 20, target_low: int = 1, target_high: int = 99
    ) -> None:
        assert 1 <= low <= high and 1 <= target_low <= target_high
        self.held_out = held_out
        self.low, self.high = low, high
        self.target_low, self.target_high = target_low, target_high

    def sample(self, seed: int, level: int) -> Problem:
        """A solvable problem with a gold answer. Raises UserError for a level not in 2..4."""
        return sample_problem(seed, level, self.held_out, self.low, self.high, self.target_low, self.target_high)

    def parse(self, text: str) -> Problem:
        """A problem that a person typed, such as `3 7 17 -> 38`. Raises ProblemError saying what to mend."""
        return read_problem(text)

    def check(self, problem: Problem, answer: str) -> Verdict:
        """Judge an answer such as `7 * 3 + 17` or `7 * 3 + 17 = 38`. Never raises for any string."""
        reason = _objection(problem.meta["numbers"], problem.meta["target"], answer)
        return Verdict(not reason, reason or f"makes {problem.meta['target']}", _CHECKER)

    def demonstrate(self, problem: Problem, seed: int) -> Demonstration:
        """A solver's search written down; another seed gives another order of trying."""
        return countdown_search.demonstrate(problem, seed)

    def document(self, seed: int) -> str:
        """Plain arithmetic text to pre-train on."""
        return countdown_search.document(seed)


def _objection(numbers: list[int], target: int, answer: str) -> str:
    """Why the answer is not accepted, or an empty string."""
    if len(answer) > _MAX_ANSWER_CHARS:
        return f"the answer is longer than {_MAX_ANSWER_CHARS} characters"
    body, equals, claimed = answer.strip(BLANKS).partition("=")
    if equals and claimed.strip(" ") != str(target):
        return f"what follows = is not the target {target} alone"
    try:
        expression = parse_expression(body)
    except NotAnExpression as problem:
        return f"not one expression: {problem}"
    pool = list(numbers)
    for number in expression.numbers:
        if number not in pool:
            return (
                f"{_short(number)} is used twice"
                if number in numbers
                else f"{_short(number)} is not one of the numbers"
            )
        pool.remove(number)
    if expression.value != target:
        return f"it makes {_short(expression.value)}, not {target}"
    return ""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
