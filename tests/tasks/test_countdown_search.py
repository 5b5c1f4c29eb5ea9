"""The teacher: every line it writes is true, it ends in a right answer, and it is careless as often as it says."""

from __future__ import annotations

import re
from statistics import fmean

import pytest

from raison.tasks import countdown_search
from raison.tasks.countdown import Countdown
from raison.text.tokenizer import Tokenizer

STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def holds(left: int, op: str, right: int, result: int) -> bool:
    if op == "/":
        return left == right * result
    return result == {"+": left + right, "-": left - right, "*": left * right}[op]


@pytest.mark.parametrize("level", [2, 3, 4])
def test_every_written_step_is_true_and_the_answer_is_right(level: int) -> None:
    task = Countdown()
    for seed in range(150):
        problem = task.sample(seed, level)
        demo = task.demonstrate(problem, seed)
        steps = STEP.findall(demo.thinking)
        assert steps
        assert all(holds(int(a), op, int(b), int(r)) for a, op, b, r in steps)
        assert task.check(problem, demo.answer).correct


def test_success_is_claimed_once_at_the_end_and_only_there() -> None:
    task = Countdown()
    for seed in range(300):
        problem = task.sample(seed, 3)
        thinking = task.demonstrate(problem, seed).thinking
        assert thinking.count("!") == 1
        assert thinking.endswith(f"={problem.meta['target']}!")


def test_orders_differ_by_seed_and_repeat_with_it() -> None:
    task = Countdown()
    problem = next(p for s in range(100) if len(task.demonstrate(p := task.sample(s, 3), 0).thinking) > 150)
    assert task.demonstrate(problem, 1) == task.demonstrate(problem, 1)
    assert len({task.demonstrate(problem, seed).thinking for seed in range(20)}) > 3


def test_carelessness_makes_second_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Countdown()
    problems = [task.sample(seed, 3) for seed in range(200)]
    usual = fmean("Wait" in task.demonstrate(p, 1).thinking for p in problems)
    monkeypatch.setattr(countdown_search, "CARELESSNESS", 0.5)
    careless = fmean("Wait" in task.demonstrate(p, 1).thinking for p in problems)
    monkeypatch.setattr(countdown_search, "CARELESSNESS", 0.0)
    assert fmean("Wait" in task.demonstrate(p, 1).thinking for p in problems) == 0
    assert 0 < usual < careless


def test_documents_are_true_arithmetic_in_few_tokens() -> None:
    tokenizer = Tokenizer.build()
    for seed in range(50):
        text = Countdown().document(seed)
        assert all(holds(int(a), op, int(b), int(r)) for a, op, b, r in STEP.findall(text))
        assert len(tokenizer.encode(text)) < 150
