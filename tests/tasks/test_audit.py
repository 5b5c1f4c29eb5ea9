"""The audit finds every planted hole by name, and none in our own checkers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType

import pytest

from raison.records import Problem, Verdict
from raison.tasks.arithmetic import Arithmetic
from raison.tasks.audit import MAX_RAISED, audit
from raison.tasks.catalog import load_task
from raison.tasks.countdown import Countdown
from raison.tasks.countdown_problem import make_problem
from raison.tasks.oracle import is_right


class Judged(Countdown):
    """Countdown's problems under another checker, in this process and without demonstrations."""

    demonstrate = None  # type: ignore[assignment]

    def __init__(self, judge: Callable[[dict[str, object], str], bool]) -> None:
        super().__init__()
        self.judge = judge

    def check(self, problem: Problem, answer: str) -> Verdict:
        return Verdict(self.judge(dataclasses.asdict(problem), answer), "", "judged@1")


@pytest.mark.parametrize(
    "hole",
    [
        "power",
        "floor division",
        "unary sign",
        "modulo",
        "bit operators",
        "caret",
        "joined digits",
        "number used twice",
        "rounding",
        "number outside the pool",
        "almost equal",
        "target alone",
        "gold inside other text",
        "several answers",
        "several answer tags",
        "think tags",
        "wrong claim",
        "comment",
        "echo of the prompt",
        "broken lines",
    ],
)
def test_finds_each_planted_hole_by_name(holey_module: ModuleType, hole: str) -> None:
    """Each family is tried at least 60 times and hits a checker that has its hole in over a tenth of them: a miss has a
    chance below 0.9^60 = 0.002 over seeds, and none with this seed."""
    report = audit(Judged(holey_module.holey(hole)), 2_500, seed=1)
    assert hole in report.paid_by_family and not report.ok
    example = next(h for h in report.wrongly_paid if h.family == hole)
    assert example.prompt and example.answer


@pytest.mark.parametrize("family", ["digits joined by a point", "leading point"])
def test_finds_numbers_with_a_point(holey_module: ModuleType, family: str) -> None:
    assert family in audit(Judged(holey_module.holey("decimal point")), 2_500, seed=1).paid_by_family


def test_finds_all_of_a_known_checkers_holes_through_the_sandbox(holey_path: str) -> None:
    task = load_task(f"{holey_path}:tinyzero")
    report = audit(task, 1_500, seed=0)
    task.close()  # type: ignore[attr-defined]
    known = {"power", "floor division", "digits joined by a point", "leading point", "unary sign"}
    assert known <= set(report.paid_by_family) and report.checker == "tinyzero@1"


def test_a_strict_checker_of_other_make_passes(holey_module: ModuleType) -> None:
    report = audit(Judged(holey_module.strict), 2_500, seed=1)
    assert report.ok, report.wrongly_paid


@pytest.mark.parametrize("task", [Countdown(), Countdown(held_out=True), Arithmetic()])
def test_our_own_checkers_have_no_hole(task: Countdown | Arithmetic) -> None:
    report = audit(task, 2_000, seed=2)
    assert report.ok, (report.wrongly_paid, report.gold_rejected, report.raised)
    assert report.tried == 2_000 == sum(report.families.values())
    assert min(report.families.values()) > 20 and report.gold_checked > 90
    assert 0 < report.mean_microseconds <= report.slowest_microseconds


def test_the_same_seed_tries_the_same() -> None:
    seen: list[list[str]] = []
    for seed in (5, 5, 6):
        answers: list[str] = []
        audit(Judged(lambda problem, answer, kept=answers: bool(kept.append(answer))), 200, seed)  # type: ignore[misc]
        seen.append(answers)
    assert seen[0] == seen[1] != seen[2]


def test_a_checker_that_rejects_gold_or_raises_is_not_ok(holey_path: str) -> None:
    deaf = audit(Judged(lambda problem, answer: False), 200)
    assert not deaf.ok and deaf.gold_rejected and not deaf.paid_by_family
    task = load_task(f"{holey_path}:raising")
    report = audit(task, 5_000)
    task.close()  # type: ignore[attr-defined]
    assert not report.ok and len(report.raised) == MAX_RAISED and report.tried < 5_000
    assert "KeyError" in report.raised[0].reason


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    audit(Arithmetic(), 100, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100) and seen == sorted(seen)


def test_the_oracle_on_its_own() -> None:
    problem = make_problem((3, 7, 25), 46)
    assert is_right(problem, " 7 * 3 + 25 = 46 ") and is_right(problem, "25+(3×7)")
    for wrong in (
        "7*3+25 # ok",
        "7*3+25=47",
        "46",
        "-3+49",
        "2_5+7*3",
        "25+7*3,",
        "025+7*3",
        "25-(-21)",
        "٢٥+7*3",
        "2**3",
    ):
        assert not is_right(problem, wrong), wrong
