"""Countdown: problems are solvable and split for good, reach is complete, right answers and they alone are paid."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.errors import ProblemError, UserError
from raison.tasks.countdown import Countdown
from raison.tasks.countdown_problem import make_problem, reachable, solve, split_key
from raison.tasks.oracle import is_right
from raison.tasks.split import is_held_out
from raison.tasks.task import Demonstrates, Documents, Parses, Task
from tests.work import calls

TASK = Countdown()
pools = st.lists(st.integers(1, 30), min_size=2, max_size=4).map(tuple)


def brute(numbers: tuple[Fraction, ...], text: tuple[str, ...]) -> dict[Fraction, str]:
    """Every value by joining any two until none are left, with signs, each with one full expression."""
    found = dict(zip(numbers, text, strict=True))
    for i, j in itertools.permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [k for k in range(len(numbers)) if k not in (i, j)]
        joined = {"+": a + b, "-": a - b, "*": a * b} | ({"/": a / b} if b else {})
        for sign, value in joined.items():
            expression = f"({text[i]} {sign} {text[j]})"
            found |= brute((*(numbers[k] for k in rest), value), (*(text[k] for k in rest), expression))
    return found


def solutions(numbers: tuple[int, ...]) -> dict[Fraction, str]:
    return brute(tuple(map(Fraction, numbers)), tuple(map(str, numbers)))


def test_is_a_task_with_all_abilities() -> None:
    assert isinstance(TASK, Task) and isinstance(TASK, Parses)
    assert isinstance(TASK, Demonstrates) and isinstance(TASK, Documents)


@settings(max_examples=25, deadline=None)
@given(pools)
def test_reaches_exactly_what_brute_force_reaches_and_pays_for_it(numbers: tuple[int, ...]) -> None:
    found = solutions(numbers)
    whole = {int(value): text for value, text in found.items() if value > 0 and value.denominator == 1}
    assert reachable(tuple(sorted(numbers))) == set(whole)
    for target, text in list(whole.items())[:200]:
        assert TASK.check(make_problem(numbers, target), text).correct
        assert TASK.check(make_problem(numbers, target), f"{text} = {target}").correct
        assert not TASK.check(make_problem(numbers, target + 1), text).correct


@pytest.mark.parametrize("level", [2, 3, 4])
def test_samples_are_solvable_repeatable_and_in_range(level: int) -> None:
    for seed in range(200):
        problem = TASK.sample(seed, level)
        assert problem == Countdown().sample(seed, level)
        numbers, target = problem.meta["numbers"], problem.meta["target"]
        assert len(numbers) == level and all(1 <= n <= 20 for n in numbers)
        assert 1 <= target <= 99 and target not in numbers
        assert problem.prompt == f"{' '.join(map(str, numbers))} -> {target}"
        assert TASK.check(problem, problem.gold).correct
        assert TASK.parse(problem.prompt).id == problem.id
    assert len({TASK.sample(seed, level).id for seed in range(200)}) > 150


def test_one_seed_for_ever() -> None:
    """Logged seeds must mean the same problem in later versions and on other machines."""
    assert [TASK.sample(0, level).prompt for level in (2, 3, 4)] == PROMPTS_OF_SEED_0
    assert Countdown(held_out=True).sample(0, 3).prompt == HELD_OUT_OF_SEED_0


PROMPTS_OF_SEED_0 = ["9 8 -> 17", "2 4 17 -> 26", "20 16 5 17 -> 73"]
HELD_OUT_OF_SEED_0 = "2 4 17 -> 25"


def test_the_split_is_disjoint_even_under_reordering() -> None:
    def keys(held_out: bool, count: int) -> set[str]:
        task = Countdown(held_out)
        sampled = [task.sample(seed, level).meta for seed in range(count) for level in (2, 3, 4)]
        return {split_key(meta["numbers"], meta["target"]) for meta in sampled}

    train, test = keys(False, 1500), keys(True, 500)
    assert train and test and not train & test
    assert split_key((3, 7, 25), 46) == split_key((25, 3, 7), 46)


def test_about_a_tenth_is_held_out() -> None:
    """3,000 distinct problems: a share outside 0.07..0.13 has a chance below 1e-7 for a fair hash."""
    pools = [(a, b, c) for a in range(1, 11) for b in range(11, 21) for c in (3, 7, 9)]
    share = sum(is_held_out(split_key(pool, target)) for pool in pools for target in range(10)) / 3000
    assert 0.07 < share < 0.13


@pytest.mark.parametrize(
    "text",
    [
        "3 7 25 -> 46",
        "3, 7, 25 -> 46",
        " 3 7 25=46 ",
        "3 7 25 to 46",
        "Make 46 from 3, 7, 25",
        "make 46 from 3, 7 and 25.",
        "3 7 25 → 46?",
    ],
)
def test_reads_what_people_type(text: str) -> None:
    problem = TASK.parse(text)
    assert problem.prompt == "3 7 25 -> 46"
    assert TASK.check(problem, problem.gold).correct


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3 7 25 -> 460000", "460000 is out of reach: 3, 7 and 25 make at most 525 (3 * 7 * 25)."),
        ("3 7 25 -> 45", "45 cannot be made from 3, 7 and 25; the nearest target is 46 (3 * 7 + 25)."),
        ("", "an empty problem"),
        ("hello", 'as in "3 7 17 -> 38"'),
        ("3 7 25 46", 'as in "3 7 17 -> 38"'),
        ("3 -> 3", "1 number given"),
        ("1 2 3 4 5 -> 6", "5 numbers given"),
        ("0 3 -> 3", "numbers go from 1 to 999"),
        ("-4 3 -> 3", "numbers go from 1 to 999"),
        ("1000 3 -> 3", "numbers go from 1 to 999"),
        ("2.5 4 -> 10", "2.5 is not a whole number"),
        ("3 7 -> 0", "must be 1 or more"),
        ("3 7 -> " + "9" * 50, "too large"),
        ("3 7 " * 1000, "characters"),
        ("٣ 7 -> 10", "cannot read"),
    ],
)
def test_says_how_to_mend_a_problem(text: str, says: str) -> None:
    with pytest.raises(ProblemError) as caught:
        TASK.parse(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_level_is_the_users_error() -> None:
    with pytest.raises(UserError, match="levels 2, 3 and 4"):
        TASK.sample(0, 5)


@pytest.mark.parametrize("answer", ["7 * 3 + 25", "7*3+25=46", " (7 * 3) + 25 = 46 \n", "25 + 3 × 7"])
def test_pays_for_a_right_answer(answer: str) -> None:
    assert TASK.check(make_problem((3, 7, 25), 46), answer).correct


@pytest.mark.parametrize(
    ("numbers", "target", "answer"),
    [
        ((2, 3), 8, "2**3"),
        ((7, 2), 3, "7//2"),
        ((1, 5, 2), 3, "1.5*2"),
        ((5, 4), 2, ".5*4"),
        ((3, 5), 2, "-3+5"),
        ((7, 4), 3, "7%4"),
        ((1, 3), 8, "1<<3"),
        ((3, 1), 2, "3^1"),
        ((3, 7, 25), 62, "37 + 25"),
        ((3, 7), 9, "3 * 3"),
        ((3, 7, 25), 46, "45 + 1"),
        ((3, 7, 25), 46, "46"),
        ((3, 7, 25), 46, "7*3+25 or 7*3+24"),
        ((3, 7, 25), 46, "7*3+24\n7*3+25"),
        ((3, 7, 25), 46, "7*3+25=46=46"),
        ((3, 7, 25), 46, "<answer>7*3+25</answer><answer>1</answer>"),
        ((3, 7, 25), 46, "3 7 25 -> 46"),
        ((3, 7), 46, "3+7=46"),
        ((3, 7, 25), 46, "the answer is 7*3+25"),
        ((3, 7, 25), 46, "7*3+25!"),
        ((9, 9), 1, "9**9**9**9"),
        ((3, 7, 25), 46, "46=7*3+25"),
        ((3, 7, 25), 46, "<think></think>7*3+25"),
        ((3, 7, 25), 46, ""),
        ((3, 7, 25), 46, " \n"),
        ((3, 7, 25), 46, "٧*٣+٢٥"),
        ((3, 7, 25), 46, "7*3+2\u200b5"),
        ((3, 7, 25), 46, "(" * 10**5 + "7*3+25" + ")" * 10**5),
        ((1, 2), 10, "1e1"),
        ((16, 1), 16, "0x10*1"),
        ((3, 7, 25), 46, "7*3+25 # yes"),
        ((3, 7, 25), 46, "__import__('os')"),
        ((3, 7, 25), 46, "07*3+25"),
        ((3, 7, 25), 46, "7*3+25=046"),
        ((7, 2), 3, "7/2"),
        ((3, 7, 25), 46, "7*3+25="),
        ((3, 7, 25), 46, "=46"),
        ((4, 4), 1, "4/(4-4)"),
        ((3, 7, 25), 46, "\ud800"),
    ],
)
def test_pays_for_no_cheat(numbers: tuple[int, ...], target: int, answer: str) -> None:
    verdict = TASK.check(make_problem(numbers, target), answer)
    assert not verdict.correct and verdict.reason and len(verdict.reason) < 120
    assert verdict.checker == "countdown@1"


@settings(max_examples=300)
@given(st.text(max_size=60), st.integers(0, 50))
def test_never_raises(answer: str, seed: int) -> None:
    TASK.check(TASK.sample(seed, 2), answer)


@settings(max_examples=400)
@given(st.text(alphabet="123 +-*/()=.×", max_size=12), st.integers(1, 12))
def test_agrees_both_ways_with_the_audits_oracle(answer: str, target: int) -> None:
    problem = make_problem((1, 2, 3, 12), target)
    assert TASK.check(problem, answer).correct == is_right(problem, answer)


def test_a_number_given_twice_may_be_used_twice() -> None:
    assert TASK.check(make_problem((5, 5), 25), "5 * 5").correct
    assert "used twice" in TASK.check(make_problem((5, 6), 25), "5 * 5").reason


def test_grades_in_a_hundred_calls() -> None:
    """Some 10 us."""
    problem = make_problem((3, 7, 25), 46)
    assert calls(lambda: TASK.check(problem, "(7 * 3) + 25 = 46")) < 200


def test_gold_uses_few_numbers_and_no_needless_parentheses() -> None:
    assert solve((1, 2, 3), 3) == "3"
    assert solve((3, 7, 25), 46) == "3 * 7 + 25"
    assert solve((2, 4, 17), 26) == "2 * (17 - 4)"
    assert solve((1, 5, 8, 9), 24) == "8 * (9 - 5 - 1)"
    assert solve((2, 3, 4), 1000) == ""
