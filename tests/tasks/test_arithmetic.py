"""Arithmetic: worked steps are true lines, answers exact."""

from __future__ import annotations

import re

import pytest

from raison.errors import ProblemError, UserError
from raison.tasks.arithmetic import Arithmetic
from raison.tasks.oracle import is_right

TASK = Arithmetic()
LINE = re.compile(r"([0-9 +*-]+) = ([0-9]+)(?: write ([0-9]))?(?: (carry|borrow) ([0-9]))?")


def total(text: str) -> int:
    """The value of single-operator chains such as `7 + 6 + 1`, `8 * 7 + 3` or `15 - 7 - 1`."""
    first, *rest = text.split()
    value = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        value = {"+": value + int(number), "-": value - int(number), "*": value * int(number)}[sign]
    return value


@pytest.mark.parametrize("level", TASK.levels)
def test_every_written_step_is_true_and_the_last_gives_the_answer(level: int) -> None:
    for seed in range(60):
        problem = TASK.sample(seed, level)
        shown = TASK.demonstrate(problem, 0)
        lines = shown.thinking.split("\n")
        for line in lines:
            match = LINE.fullmatch(line)
            assert match, line
            assert total(match[1]) == int(match[2])
            if match[4] == "carry":
                assert f"{match[5]}{match[3]}" == match[2]
        assert lines[-1].endswith(f" = {problem.gold}")
        assert TASK.check(problem, shown.answer).correct and is_right(problem, shown.answer)
        assert TASK.check(problem, shown.shown).correct


def test_carries_as_on_paper() -> None:
    thinking = TASK.demonstrate(TASK.parse("487 + 356"), 0).thinking
    assert thinking.split("\n") == [
        "7 + 6 = 13 write 3 carry 1",
        "8 + 5 + 1 = 14 write 4 carry 1",
        "4 + 3 + 1 = 8 write 8",
        "487 + 356 = 843",
    ]


def test_a_negative_difference() -> None:
    problem = TASK.parse("12 - 30")
    assert problem.gold == "-18" and TASK.check(problem, "-18").correct
    assert TASK.demonstrate(problem, 0).thinking.endswith("12 is less than 30 so -18")


@pytest.mark.parametrize(
    "answer",
    ["", "0843", "843.0", "843 or 844", "487 + 356", "487 + 356 = 843", "８４３", "+843", "843\n844", "8" * 10**6],
)
def test_only_the_plain_integer_is_paid(answer: str) -> None:
    verdict = TASK.check(TASK.parse("487 + 356"), answer)
    assert not verdict.correct and verdict.reason


@pytest.mark.parametrize(
    "answer", ["#### 843", "7 + 6 = 13\n#### 843", "It is 999.\n  ####843\n\n"], ids=["alone", "after work", "blanks"]
)
def test_work_that_ends_in_a_marked_line_is_paid(answer: str) -> None:
    verdict = TASK.check(TASK.parse("487 + 356"), answer)
    assert verdict.correct and verdict.lenient


@pytest.mark.parametrize(
    ("answer", "lenient"),
    [
        ("487 + 356 = 843", True), ("the sum is 843.", True), ("#### 842\n#### 843", True), ("sum #### 843", True),
        ("#### 843 or 844", False), ("#### 843\n1", False), ("#### 844", False), ("", False), ("#### 0843", True),
    ],
)  # fmt: skip
def test_the_lenient_reading_is_reported_and_never_paid(answer: str, lenient: bool) -> None:
    verdict = TASK.check(TASK.parse("487 + 356"), answer)
    assert not verdict.correct and verdict.lenient is lenient and verdict.reward == 0.0


def test_the_split_is_disjoint_under_commuting_and_documents_stay_on_their_side() -> None:
    def keys(task: Arithmetic) -> set[tuple[str, int, int]]:
        problems = [task.sample(seed, level).meta for seed in range(400) for level in (1, 2)]
        return {(m["sign"], min(m["a"], m["b"]), max(m["a"], m["b"])) for m in problems}

    held_out = Arithmetic(held_out=True)
    assert not keys(TASK) & keys(held_out)
    tested = {f"{m[1]} {m[0]} {m[2]}" for m in keys(held_out) if m[0] != "-"}
    assert not tested & {TASK.document(seed).split("\n")[0] for seed in range(400)}


def test_bad_input() -> None:
    with pytest.raises(UserError, match="levels 1 to 8"):
        TASK.sample(0, 9)
    for text in ("", "3 + ", "3 / 4", "three", "1 + 2 + 3", "9" * 17 + " + 1"):
        with pytest.raises(ProblemError, match=r"as in|at most"):
            TASK.parse(text)
