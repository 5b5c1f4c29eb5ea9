"""Strict and lenient reading on answers as models write them, and the real files where they are at hand."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from raison.errors import ProblemError, UserError
from raison.tasks.audit import audit
from raison.tasks.catalog import load_task
from raison.tasks.jsonl import Jsonl
from raison.tasks.task import Parses
from raison.tasks.word_problems import FORM, judge

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = [("gsm8k_train", "gsm8k", 7_473), ("gsm8k_test", "gsm8k", 1_319), ("svamp_test", "svamp", 1_000)]


def data_file(name: str) -> Path:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not shipped and not found in {DATA}")
    return path


@pytest.mark.parametrize(
    ("gold", "answer", "strict", "lenient"),
    [
        ("18", "She sells 9 eggs.\n9 * 2 = 18\n#### 18", True, True),
        ("18", "18", True, True),
        ("18", " \\boxed{18}\n", True, True),
        ("18", "<answer>18</answer>", True, True),
        ("18", "text\r\n#### 18\r\n", True, True),
        ("18", "####18", True, True),
        ("18", "text\n  #### 18.00", True, True),
        ("1234", "#### 1,234", True, True),
        ("1234", "so\n#### $1,234", True, True),
        ("1234567", "#### 1,234,567", True, True),
        ("-5", "#### -5", True, True),
        ("-5", "#### −5", True, True),
        ("0.5", "#### 0.50", True, True),
        ("18", "\\boxed{18}\n#### 18", True, True),
        ("18", "#### 18\nso\n#### 18", True, True),
        # Right in the lenient reading alone.
        ("18", "The answer is 18.", False, True),
        ("18", "She makes $18 every day", False, True),
        ("18", "**18**", False, True),
        ("18", "so $\\boxed{18}$.", False, True),
        ("25", "#### 25%", False, True),
        ("18", "#### 18.", False, True),
        ("18", "#### 18 dollars", False, True),
        ("18", "#### 18\nI hope this helps!", False, True),
        ("18", "first 17, no: 18", False, True),
        ("1234", "It costs €1,234.00.", False, True),
        ("5", "10-5", False, True),
        ("-5", "that is $-5", False, True),
        ("-5", "that is -$5", False, True),
        ("5", "(10)-5", False, True),
        ("0.5", "or .5", False, True),
        ("18", "#### 018", False, True),
        # Several answers are never paid, whatever the last one is.
        ("18", "#### 17\n#### 18", False, True),
        ("18", "#### 18\n#### 17", False, False),
        ("18", "#### 17\r#### 18", False, True),
        ("18", "#### 17 #### 18", False, True),
        ("18", "\\boxed{17}\n#### 18", False, True),
        ("18", "<answer>17</answer> or\n#### 18", False, True),
        ("18", "\\boxed{}\n#### 18", False, True),
        ("18", "#### 17 or 18", False, True),
        ("18", "#### 18 or 17", False, False),
        ("18", "17 18", False, True),
        ("18", "<think>18</think>\n#### 18", False, True),
        # The work left to the checker.
        ("145", "#### 290/2", False, False),
        ("145", "290/2", False, False),
        ("18", "#### 9*2", False, False),
        ("18", "#### 1.8e1", False, False),
        # No number, or another.
        ("18", "", False, False),
        ("18", "####", False, False),
        ("18", f"problem\n{FORM}", False, False),
        ("18", "eighteen", False, False),
        ("18", "#### 19", False, False),
        ("18", "#### -18", False, False),
        ("18", "18 of 20", False, False),
        ("18", "x18", False, False),
        ("18", "#### １８", False, False),
        ("18", "#### ١٨", False, False),
        ("18", "#### 1\u200b8", False, False),
        ("18", "#### 18\u2028#### 17", False, False),
        ("1234", "#### 12,34", False, False),
        ("1000", "#### 1.000", False, False),
        ("18", "#### " + "0" * 200 + "18", False, False),
        ("18", "#### " + "9" * 5_000, False, False),
        ("18", "#### 18." + "0" * 5_000, False, False),
        ("18", "\ud800\x00", False, False),
        ("18", "#### __import__('os').getpid()", False, False),
    ],
)
def test_both_readings(gold: str, answer: str, strict: bool, lenient: bool) -> None:
    verdict = judge(gold, answer, "gsm8k@1")
    assert (verdict.correct, verdict.lenient) == (strict, lenient), verdict
    assert verdict.reward == float(strict) and verdict.checker == "gsm8k@1" and verdict.reason


@pytest.mark.parametrize("piece", ["1,111,", "#### 18\n", "\\boxed{", "<answer>", "-$", "1.", "9", "#### ", " \n"])
def test_long_answers_take_linear_time(piece: str) -> None:
    """200,000 characters are judged in well under a second; a quadratic reading would take minutes."""
    began = time.process_time()
    judge("18", piece * (200_000 // len(piece)), "gsm8k@1")
    assert time.process_time() - began < 2


def written(folder: Path, name: str, *rows: object) -> str:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def gsm8k(number: int) -> dict[str, str]:
    worked = (
        f"She has {number} + 1000 = <<{number}+1000={number + 1000}>>{number + 1000:,} eggs.\n#### {number + 1000:,}"
    )
    return {"question": f"Ann has {number} eggs and gets 1000. How many?", "answer": worked}


def svamp(number: int) -> dict[str, object]:
    body = f"Ann has {number} eggs and loses one"
    return {"Body": body, "Question": "How many?", "Answer": number - 1.0, "Type": "Subtraction", "idx": number}


def test_both_formats_are_known_by_their_keys(tmp_path: Path) -> None:
    task = load_task(written(tmp_path, "mine.jsonl", *map(gsm8k, range(20))))
    assert isinstance(task, Jsonl) and isinstance(task, Parses)
    problem = task.parse("1")
    assert problem.prompt == f"Ann has 0 eggs and gets 1000. How many?\n{FORM}" and problem.gold == "1000"
    assert problem.meta["solution"] == "She has 0 + 1000 = 1,000 eggs.\n#### 1000"
    assert task.check(problem, problem.meta["solution"]).correct and task.check(problem, "1000").checker == "gsm8k@1"
    other = load_task(written(tmp_path, "other.jsonl", *map(svamp, range(20))))
    problem = other.sample(3, 1)
    assert problem.prompt.startswith("Ann has") and "loses one. How many?" in problem.prompt
    assert "." not in problem.gold and problem.meta["Type"] == "Subtraction"
    assert other.check(problem, f"so\n#### {problem.gold}").checker == "svamp@1"


def test_a_row_is_found_by_its_question_or_its_line(tmp_path: Path) -> None:
    """On either side of the split, since a person who grades an answer does not know the side."""
    task = load_task(written(tmp_path, "mine.jsonl", *map(gsm8k, range(40))))
    assert isinstance(task, Parses)
    for number in range(40):
        row = task.parse(f"Ann has {number} eggs  and gets 1000.\nHow many?")
        assert row == task.parse(str(number + 1)) == task.parse(row.prompt) and row.gold == str(number + 1000)
    for text in ("Ann has 7 eggs", "41", "0", "", "9" * 5_000):
        with pytest.raises(ProblemError):
            task.parse(text)


def test_the_checker_by_name_and_rows_that_do_not_fit(tmp_path: Path) -> None:
    plain = written(tmp_path, "plain.jsonl", *({"prompt": f"{n}?", "answer": n} for n in range(20)))
    task = load_task(plain, checker="gsm8k")
    problem = task.sample(0, 1)
    assert problem.prompt.endswith("?") and task.check(problem, f"as\n#### {problem.gold}").correct
    mixed = written(tmp_path, "mixed.jsonl", gsm8k(1), {"question": "a", "answer": "b"})
    with pytest.raises(UserError, match=r"line 2: .*####"):
        load_task(mixed)
    for row in ({"question": "a", "answer": "b #### c"}, svamp(3) | {"Answer": True}, svamp(3) | {"Answer": "1/2"}):
        with pytest.raises(UserError, match=r"line 1: its answer .* is not a number"):
            load_task(written(tmp_path, "bad.jsonl", row))


@pytest.mark.parametrize(("name", "checker", "rows"), FILES)
def test_every_gold_answer_of_the_real_files_is_paid(name: str, checker: str, rows: int) -> None:
    task = Jsonl(data_file(name), held_out=None)
    problems = task.rows()
    assert len(problems) == rows
    for problem in problems:
        for answer in (problem.gold, f"So it is.\n#### {problem.gold}", problem.meta.get("solution", problem.gold)):
            verdict = task.check(problem, answer)
            assert verdict.correct and verdict.lenient and verdict.checker == f"{checker}@1", (problem, answer)
        assert not task.check(problem, f"#### {problem.gold}1").lenient


@pytest.mark.parametrize("name", ["gsm8k_train", "gsm8k_test"])
def test_the_solutions_of_gsm8k_as_they_are_written(name: str) -> None:
    path = data_file(name)
    task = Jsonl(path, held_out=None)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert task.check(task._lines[number], json.loads(line)["answer"]).correct, number


@pytest.mark.parametrize(("name", "checker", "rows"), FILES)
def test_no_attack_is_paid(name: str, checker: str, rows: int) -> None:
    for held_out in (False, True):
        report = audit(load_task(str(data_file(name)), held_out), 2_000, seed=4)
        assert report.ok, (report.wrongly_paid, report.gold_rejected, report.raised)
        assert report.tried == 2_000 and report.gold_checked > 40
