"""reasoning-gym behind the sandbox: its scores made binary, its `eval` kept out of this process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from raison.errors import UserError
from raison.records import Problem
from raison.tasks.audit import audit
from raison.tasks.catalog import load_task
from raison.tasks.gym import SCORING, Gym
from raison.tasks.gym_dataset import code_in
from raison.tasks.sandbox import Sandbox
from raison.tasks.split import is_held_out
from raison.tasks.task import Task

needs_gym = pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="needs 'raison[gym]'")

# The guard against code is taken off, so that the sandbox alone stands between the answer and this process.
UNGUARDED = """
from raison.tasks.gym_dataset import GymDataset
class Bare(GymDataset):
    def _objection(self, gold, answer): return ""
"""


@pytest.fixture(scope="module")
def spiral() -> Iterator[Gym]:
    task = Gym("spiral_matrix")
    yield task
    task.close()


@needs_gym
def test_problems_are_the_same_for_the_same_arguments(spiral: Gym) -> None:
    assert isinstance(spiral, Task) and spiral.levels == (0, 1, 2, 3, 4)
    problem = spiral.sample(5, 0)
    again = Gym("spiral_matrix")
    try:
        assert again.sample(5, 0) == problem != spiral.sample(6, 0)
    finally:
        again.close()
    assert problem.task == "gym:spiral_matrix" and len(spiral.sample(5, 2).gold) > len(problem.gold)
    assert not any(is_held_out(spiral.sample(seed, 0).prompt) for seed in range(30))
    with pytest.raises(UserError, match="levels 0 to 4, not 5"):
        spiral.sample(0, 5)


@needs_gym
@pytest.mark.parametrize("name", ["basic_arithmetic", "chain_sum", "gcd", "spiral_matrix", "letter_counting"])
def test_the_audit_finds_nothing(name: str) -> None:
    task = load_task(f"gym:{name}", held_out=True)
    try:
        report = audit(task, 400, seed=1)
        assert report.ok, (report.wrongly_paid, report.gold_rejected, report.raised)
        assert report.checker == f"gym:{name}@1" and is_held_out(task.sample(1, 0).prompt)
    finally:
        task.close()  # type: ignore[attr-defined]


@needs_gym
def test_partial_credit_is_nothing(spiral: Gym) -> None:
    """The scorer gives 0.1 for a list of the right items."""
    problem = spiral.sample(1, 0)
    listed = spiral.check(problem, str([int(item) for item in problem.gold.split()]))
    assert not listed.correct and "scored 0.1" in listed.reason
    assert spiral.check(problem, f" {problem.gold}\n").correct and spiral.check(problem, problem.gold).reward == 1
    counting = Gym("letter_counting")
    try:
        counted = counting.sample(0, 0)
        assert not counting.check(counted, f"{counted.gold} letters").correct
    finally:
        counting.close()


@needs_gym
def test_countdown_takes_any_right_expression() -> None:
    task = Gym("countdown")
    try:
        problem = task.sample(0, 0)
        assert task.check(problem, problem.gold).correct and task.check(problem, f"({problem.gold})").correct
        assert not task.check(problem, str(problem.meta["target"])).correct
    finally:
        task.close()


@needs_gym
def test_code_in_an_answer_is_not_run(spiral: Gym, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    verdict = spiral.check(spiral.sample(0, 0), f"open({str(marker)!r}, 'w')")
    assert not verdict.correct and "calls" in verdict.reason and not marker.exists()


@needs_gym
@pytest.mark.parametrize("name", ["spiral_matrix", "countdown"])
def test_a_scorer_that_evaluates_does_so_in_the_sandbox(tmp_path: Path, name: str) -> None:
    """Both `eval` and sympy's parse_expr run the answer; the process that runs it has limits and is not this one."""
    marker, bare = tmp_path / "pid", tmp_path / "bare.py"
    bare.write_text(UNGUARDED)
    with Sandbox(f"{bare}:Bare", SCORING, {"dataset": name}) as sandbox:
        problem = sandbox.call("sample", [0, 0])
        code = f"import os, pathlib; pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))"
        correct, _ = sandbox.call("check", [problem, f"exec({code!r})"])
    assert not correct and marker.exists(), "the scorer evaluates no more: the guard may go"
    assert marker.read_text() not in ("", str(os.getpid()))


@needs_gym
def test_an_answer_that_breaks_the_scorer_is_wrong_and_the_next_is_judged(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text(UNGUARDED)
    task = Gym("spiral_matrix")
    task._scorer = Sandbox(f"{bare}:Bare", replace(SCORING, seconds=1.0), {"dataset": "spiral_matrix"})
    try:
        problem = task.sample(0, 0)
        for answer in ("__import__('os')._exit(3)", "[0] * 10**10", "9**9**9"):
            verdict = task.check(problem, answer)
            assert not verdict.correct and verdict.reason and verdict.checker == "gym:spiral_matrix@1", answer
        task._scorer.limits = SCORING
        assert task.check(problem, problem.gold).correct
    finally:
        task.close()


@needs_gym
def test_reasoning_gym_is_never_imported_here() -> None:
    code = (
        "import sys; from raison.tasks.catalog import load_task; task = load_task('gym:spiral_matrix');"
        "problem = task.sample(0, 0); right = task.check(problem, problem.gold).correct; task.close();"
        "sys.exit(not right or bool({'reasoning_gym', 'sympy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_gym
@pytest.mark.parametrize(
    ("name", "says"), [("gym:countdwn", '^reasoning-gym has no data set "countdwn": did you mean "countdown"')]
)
def test_a_name_that_is_not_known(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_task(name)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'raison\[gym\]'"):
        load_task("gym:countdown")
    with pytest.raises(UserError, match="its own scorer"):
        load_task("gym:countdown", checker="number")


@pytest.mark.parametrize(
    "answer",
    [
        "open('x')", "__import__('os')", "[open][0]('x')", "(open)('x')", "x.real", "().__class__", "lambda: 0",
        "[f for f in (1,)]", "f'{1}'", "(y := 1)", "sin(open('x'))", "ｏｐｅｎ('x')", "open ('x')", "(open\n('x'))",
        "9**9**9", "1 or 2", "1 if 1 else 2", "1 == 1", "2**100000",
        "x**(10**9)", "1<<9", "1 # 2", "0e0", "5!", "open('x')!", "_",
    ],
)  # fmt: skip
def test_what_counts_as_code(answer: str) -> None:
    assert code_in(answer)


@pytest.mark.parametrize(
    "answer",
    ["1 2 3", "[[1, 2], [3, 4]]", "['A', 'B']", "3*x**2/2 + sin(x)*exp(-2*x) + C", "x**(3/2) - y**100",
     "70*(4 - 11 + 15) - 15", "Q _\n_ Q", "ABCDE", "-5", "", "((((", "1+" * 9_000 + "1", "(" * 9_000, "\x00", "\ud800"],
)  # fmt: skip
def test_what_does_not(answer: str) -> None:
    assert code_in(answer) == ""


@needs_gym
def test_problems_survive_a_log(spiral: Gym) -> None:
    problem = spiral.sample(2, 0)
    read = Problem(**json.loads(json.dumps(asdict(problem))))
    assert read == problem and spiral.check(read, read.gold).correct
