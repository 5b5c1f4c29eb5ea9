"""A user's file as a task: every mistake names its line and how to mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raison.errors import CheckerError, UserError
from raison.tasks.jsonl import Jsonl


def written(folder: Path, *rows: Any, name: str = "sums.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def many(count: int = 200) -> list[dict[str, Any]]:
    return [{"prompt": f"{n} plus 1", "answer": n + 1, "level": 1 + n % 3, "source": "made"} for n in range(count)]


def test_both_sides_together_are_the_file_and_share_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, *many())
    train, test = Jsonl(path), Jsonl(path, held_out=True)
    a, b = ({p.prompt for p in side.rows()} for side in (train, test))
    assert (
        not a & b and len(a | b) == 200 and 5 < len(b) < 45
    )  # 20 expected; chance of leaving 6..44 below 1e-4, fixed content
    assert train.levels == (1, 2, 3)
    problem = train.sample(7, 2)
    assert problem == Jsonl(path).sample(7, 2) and problem.meta == {"source": "made"}
    assert train.check(problem, problem.gold).correct and not train.check(problem, "-1").correct
    with pytest.raises(UserError, match="levels are 1, 2, 3"):
        train.sample(0, 9)


def test_the_checker_is_chosen_by_argument_then_header_then_content(tmp_path: Path) -> None:
    numbers = written(tmp_path, *many(20))
    assert Jsonl(numbers).check(Jsonl(numbers).sample(0, 1), "x").checker == "number@1"
    assert Jsonl(numbers, "exact").check(Jsonl(numbers).sample(0, 1), "x").checker == "exact@1"
    words = written(tmp_path, *[{"prompt": str(n), "answer": f"word {n}"} for n in range(20)], name="words.jsonl")
    assert Jsonl(words).check(Jsonl(words).sample(0, 1), "x").checker == "exact@1"
    headed = written(tmp_path, {"checker": "exact"}, *many(20), name="headed.jsonl")
    assert Jsonl(headed).check(Jsonl(headed).sample(0, 1), "x").checker == "exact@1"


def test_countdown_rows(tmp_path: Path) -> None:
    path = written(tmp_path, *[{"prompt": f"Make {n + 3} from 3, {n}", "answer": f"3 + {n}"} for n in range(5, 25)])
    task = Jsonl(path, "countdown")
    problem = task.sample(0, 1)
    assert task.check(problem, problem.gold).correct and not task.check(problem, "1 + 1").correct
    bad = written(tmp_path, {"prompt": "3 7 -> 460", "answer": "no"}, *many(3), name="bad.jsonl")
    with pytest.raises(UserError, match="line 1: 460 is out of reach"):
        Jsonl(bad, "countdown")


def test_a_users_checker_runs_in_the_sandbox_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def even(problem, answer):\n    return answer.isdigit() and int(answer) % 2 == 0\n"
    )
    task = Jsonl(written(tmp_path, *many(20)), "mine.py:even")
    try:
        assert task.check(task.sample(0, 1), "4").correct and not task.check(task.sample(0, 1), "5").correct
        assert task.check(task.sample(0, 1), "4").checker == "even@1"
    finally:
        task.close()
    with pytest.raises(CheckerError, match='did you mean "even"'):
        Jsonl(written(tmp_path, *many(20)), "mine.py:evn")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "has no rows"),
        (["{"], "line 1 is not JSON"),
        ([{"prompt": "a", "answer": "b"}, "[1]"], "line 2 is not an object"),
        ([{"promt": "a", "answer": "b"}], 'line 1 has no "prompt": did you mean "promt"'),
        ([{"prompt": "a"}], 'line 1 has no "answer"'),
        ([{"prompt": "a", "answer": ""}], '"answer" must be'),
        ([{"prompt": "a", "answer": None}], '"answer" must be'),
        ([{"prompt": 3, "answer": "b"}], '"prompt" must be a text'),
        ([{"prompt": "a", "answer": "b", "level": "x"}], '"level" must be a whole number'),
        ([{"checker": "exakt"}, {"prompt": "a", "answer": "b"}], 'did you mean "exact"'),
        ([{"checker": "number"}, *[{"prompt": str(n), "answer": "b"} for n in range(9)]], "is not a number"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        Jsonl(written(tmp_path, *rows))
    assert says in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        Jsonl(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(UserError, match="UTF-8"):
        Jsonl(tmp_path / "latin.jsonl")
