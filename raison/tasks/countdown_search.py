"""A solver for Countdown that writes its search down: the teacher of the cold start, and arithmetic to pre-train on.

The search takes two of the numbers, then joins the result with what is left, a first step a line; pairs come in random
order, the operations on a pair in a fixed one:

    25+7=32,3:32+3=35,32-3=29,32*3=96
    7*3=21,25:21+25=46!

Results outside 1-99 are not pursued. The solver is careless on purpose: now and then it passes a first step by, and
when it comes to the end with nothing found it writes `Wait` and starts over. Carelessness and order are left for
reinforcement learning to improve. Four numbers are searched depth first in the same notation with one more level.

Not covered: fractions between steps (no three-number problem needs them).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from raison.records import Demonstration, Problem

CARELESSNESS = 0.08
"""Share of first steps that a pass leaves out."""
LARGEST = 99
MAX_PASSES = 3


@dataclass(frozen=True, slots=True)
class Term:
    """A value and the expression that makes it."""

    value: int
    text: str

    @property
    def inner(self) -> str:
        """The expression as an operand: a plain number, or in parentheses."""
        return self.text if self.text.isdigit() else f"({self.text})"


@dataclass(frozen=True, slots=True)
class Step:
    """`left op right = result`, larger operand first where the order matters."""

    left: Term
    op: str
    right: Term
    result: int

    @property
    def written(self) -> str:
        return f"{self.left.value}{self.op}{self.right.value}={self.result}"

    @property
    def term(self) -> Term:
        return Term(self.result, f"{self.left.inner}{self.op}{self.right.inner}")


def steps(a: Term, b: Term) -> Iterator[Step]:
    """Every useful way to join two terms: no zero, no multiplying or dividing by one, only whole quotients."""
    big, small = (a, b) if a.value >= b.value else (b, a)
    yield Step(big, "+", small, big.value + small.value)
    if big.value > small.value:
        yield Step(big, "-", small, big.value - small.value)
    if small.value > 1:
        yield Step(big, "*", small, big.value * small.value)
        if big.value % small.value == 0:
            yield Step(big, "/", small, big.value // small.value)


def demonstrate(problem: Problem, seed: int) -> Demonstration:
    """A search that ends in success; the order, the slips and so the length follow from `seed`."""
    rng = random.Random(f"countdown-search/{problem.id}/{seed}")
    terms = [Term(n, str(n)) for n in problem.meta["numbers"]]
    target = int(problem.meta["target"])
    found = next((t for t in terms if t.value == target), None)
    if found is not None:
        return Demonstration(f"{target}!", f"{target}")
    lines: list[str] = []
    for attempt in range(MAX_PASSES):
        slips = CARELESSNESS if attempt + 1 < MAX_PASSES else 0.0
        answer = _search(terms, target, rng, slips, lines)
        if answer is not None:
            return Demonstration("\n".join(lines), f"{answer.text}={target}")
        lines.append("Wait")
    return Demonstration("\n".join(lines[:-1]), problem.gold)


def _search(terms: list[Term], target: int, rng: random.Random, slips: float, lines: list[str]) -> Term | None:
    """One pass over the first steps; appends its lines and returns what makes the target, or None."""
    for step, rest in _first_steps(terms, rng):
        if step.result == target:
            lines.append(f"{step.written}!")
            return step.term
        last = _second_steps(step, rest, target) if len(rest) == 1 else []
        if (not last and len(rest) == 1) or rng.random() < slips:
            continue
        if not rest:
            lines.append(step.written)
            continue
        if len(rest) > 1:
            lines.append(f"{step.written}:")
            deeper = _search([step.term, *rest], target, rng, slips, lines)
            if deeper is not None:
                return deeper
            continue
        success = last[-1].result == target
        lines.append(f"{step.written},{rest[0].value}:" + ",".join(s.written for s in last) + "!" * success)
        if success:
            return last[-1].term
    return None


def _first_steps(terms: list[Term], rng: random.Random) -> list[tuple[Step, list[Term]]]:
    pairs = [(i, j) for i in range(len(terms)) for j in range(i)]
    rng.shuffle(pairs)
    return [
        (step, [t for k, t in enumerate(terms) if k not in (i, j)])
        for i, j in pairs
        for step in steps(terms[i], terms[j])
    ]


def _second_steps(first: Step, rest: list[Term], target: int) -> list[Step]:
    """What the result and the number left make within 1-99, up to and with the target when it is among them."""
    kept: list[Step] = []
    for step in steps(first.term, rest[0]):
        if step.result <= LARGEST:
            kept.append(step)
            if step.result == target:
                break
    return kept


def document(seed: int) -> str:
    """Sums, differences, products and quotients of the sizes that the search meets, comma after comma."""
    rng = random.Random(f"countdown-facts/{seed}")
    lines: list[str] = []
    while len(lines) < 16:
        a = rng.randint(1, 20) if rng.random() < 0.5 else rng.randint(1, 120)
        b = rng.randint(1, 20)
        choices = [s for s in steps(Term(a, ""), Term(b, "")) if s.result <= 400]
        lines.append(rng.choice(choices).written)
    return ",".join(lines)
