"""Tasks by name and by path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from raison.errors import CheckerError, UserError
from raison.tasks.audit import audit
from raison.tasks.catalog import load_task
from raison.tasks.countdown import Countdown
from raison.tasks.task import Parses, Task


def test_built_in_names_and_files(tmp_path: Path) -> None:
    assert isinstance(load_task("countdown", held_out=True), Countdown)
    assert load_task("arithmetic").name == "arithmetic"
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{n}?", "answer": n * 1000}) for n in range(60)))
    task = load_task(str(path))
    assert isinstance(task, Task) and audit(task, 500).ok


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("countdwn", 'did you mean "countdown"'),
        ("chess", "there is: arithmetic, countdown"),
        ("none.jsonl", "no file"),
        ("x.py", "x.py:check"),
    ],
)
def test_a_name_that_is_not_known(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_task(name)


def test_a_check_function_judges_countdown(holey_path: str) -> None:
    task = load_task(f"{holey_path}:strict")
    assert isinstance(task, Parses)
    problem = task.parse("3 7 25 -> 46")
    assert task.check(problem, "7 * 3 + 25").correct and not task.check(problem, "46").correct
    task.close()  # type: ignore[attr-defined]


def test_a_users_own_task(holey_path: str) -> None:
    task = load_task(f"{holey_path}:Doubling")
    problem = task.sample(17, 2)
    assert (problem.task, problem.prompt, problem.gold) == ("doubling", "double 17", "34")
    assert task.check(problem, "34").correct and task.check(problem, "34").checker == "doubling@3"
    assert audit(task, 300).ok
    task.close()  # type: ignore[attr-defined]
    with pytest.raises(CheckerError, match="did you mean"):
        load_task(f"{holey_path}:Doublin")


def test_no_torch_is_imported() -> None:
    """A grader must start at once."""
    code = "import sys, raison.tasks.catalog, raison.tasks.audit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
