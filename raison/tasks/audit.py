"""Attacks a checker before it is trusted with a reward, and proves that it pays for right answers.

Every family of attacks.py, and for Countdown problems attacks_countdown.py, gets an equal share of the attacks on
problems that the task itself samples. An attack that is paid for though the oracle finds it wrong is a hole. Beside
that every sampled problem's gold answer, and demonstration where the task has them, must be accepted.
Not covered: a proof. Holes of a kind that no family tries are not found; what was tried is in the report.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raison.errors import CheckerError, UserError
from raison.records import Problem, Verdict
from raison.tasks.attacks import ANY_TASK, Attack, Family
from raison.tasks.attacks_countdown import COUNTDOWN
from raison.tasks.oracle import is_countdown, is_right
from raison.tasks.task import Demonstrates, Task, checker_id

ATTACKS_PER_PROBLEM = 41
"""About one round of all families."""
EXAMPLES_PER_FAMILY = 3
MAX_RAISED = 10
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Hole:
    """One answer that a checker treated wrongly; long texts are cut."""

    family: str
    prompt: str
    answer: str
    reason: str
    """What the checker said of it, or how it failed."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was tried on a checker and what came of it."""

    checker: str
    tried: int
    families: Mapping[str, int]
    """Attacks tried, by family."""
    paid_by_family: Mapping[str, int]
    """Attacks wrongly paid for, by family; empty for a checker without a known hole."""
    wrongly_paid: tuple[Hole, ...]
    """The first few of each family."""
    gold_checked: int
    """Gold answers and demonstrations put to the checker."""
    gold_rejected: tuple[Hole, ...]
    raised: tuple[Hole, ...]
    """Answers at which the checker raised, looped or gave no Verdict; the audit stops after ten."""
    mean_microseconds: float
    slowest_microseconds: float

    @property
    def ok(self) -> bool:
        """No attack paid, no gold answer rejected, nothing raised, and something was tried on each side."""
        return (
            not (self.paid_by_family or self.gold_rejected or self.raised) and self.tried > 0 and self.gold_checked > 0
        )


def audit(task: Task, attacks: int, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> AuditReport:
    """Put `attacks` hostile answers to the task's checker; the same seed tries the same ones.

    `progress` is called with (done, total). Raises UserError when the task cannot even sample a problem.
    """
    if attacks < 1:
        raise UserError(f"an audit needs at least one attack, not {attacks}")
    run = _Audit(task, seed)
    while run.tried < attacks and len(run.raised) < MAX_RAISED:
        run.attack_one_problem(min(ATTACKS_PER_PROBLEM, attacks - run.tried))
        if progress is not None:
            progress(run.tried, attacks)
    return run.report()


class _Audit:
    """Counts of one run."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.rng = random.Random(f"audit:{seed}")
        self.levels: tuple[int, ...] = tuple(getattr(task, "levels", (1,)))
        self.tried = 0
        self.families: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.examples: list[Hole] = []
        self.gold_checked = 0
        self.gold_rejected: list[Hole] = []
        self.raised: list[Hole] = []
        self.checks, self.nanoseconds, self.slowest = 0, 0, 0
        self.queue: list[tuple[str, Family]] = []

    def attack_one_problem(self, count: int) -> None:
        problem = self.task.sample(self.rng.getrandbits(48), self.rng.choice(self.levels))
        self.prove_gold(problem)
        for _ in range(count):
            name, family = self.next_family(is_countdown(problem))
            self.try_attack(name, family(self.rng, problem))
            if len(self.raised) >= MAX_RAISED:
                return

    def next_family(self, countdown: bool) -> tuple[str, Family]:
        """The next of a shuffled deck of all families, so that each gets the same share."""
        if not self.queue:
            self.queue = list(ANY_TASK.items()) + (list(COUNTDOWN.items()) if countdown else [])
            self.rng.shuffle(self.queue)
        return self.queue.pop()

    def prove_gold(self, problem: Problem) -> None:
        right = [("gold answer", problem.gold)] if problem.gold else []
        if isinstance(self.task, Demonstrates):
            right.append(("demonstration", self.task.demonstrate(problem, self.rng.getrandbits(31)).answer))
        for family, answer in right:
            verdict = self.check(family, problem, answer)
            self.gold_checked += 1
            if verdict is not None and not verdict.correct and len(self.gold_rejected) < MAX_RAISED:
                self.gold_rejected.append(_hole(family, problem, answer, verdict.reason))

    def try_attack(self, family: str, attack: Attack) -> None:
        self.tried += 1
        self.families[family] += 1
        verdict = self.check(family, attack.problem, attack.answer)
        if verdict is None or not verdict.correct or is_right(attack.problem, attack.answer):
            return
        self.paid[family] += 1
        if self.paid[family] <= EXAMPLES_PER_FAMILY:
            self.examples.append(_hole(family, attack.problem, attack.answer, verdict.reason))

    def check(self, family: str, problem: Problem, answer: str) -> Verdict | None:
        """The checker's verdict, timed; None where it failed, which is recorded."""
        began = time.perf_counter_ns()
        try:
            verdict = self.task.check(problem, answer)
            failure = "" if isinstance(verdict, Verdict) else f"returned {type(verdict).__name__}, not a Verdict"
        except CheckerError as error:
            failure = str(error)
        except Exception as error:
            failure = f"raised {type(error).__name__}: {error}"
        took = time.perf_counter_ns() - began
        self.checks, self.nanoseconds, self.slowest = self.checks + 1, self.nanoseconds + took, max(self.slowest, took)
        if not failure:
            return verdict
        self.raised.append(_hole(family, problem, answer, failure))
        return None

    def report(self) -> AuditReport:
        return AuditReport(
            checker=checker_id(self.task),
            tried=self.tried,
            families=dict(sorted(self.families.items())),
            paid_by_family=dict(sorted(self.paid.items())),
            wrongly_paid=tuple(self.examples),
            gold_checked=self.gold_checked,
            gold_rejected=tuple(self.gold_rejected),
            raised=tuple(self.raised),
            mean_microseconds=self.nanoseconds / max(1, self.checks) / 1e3,
            slowest_microseconds=self.slowest / 1e3,
        )


def _hole(family: str, problem: Problem, answer: str, reason: str) -> Hole:
    shown = answer if len(answer) <= _SHOWN else f"{answer[:_SHOWN]}... ({len(answer):,} characters)"
    return Hole(family, problem.prompt[:_SHOWN], shown, reason[: 2 * _SHOWN])
