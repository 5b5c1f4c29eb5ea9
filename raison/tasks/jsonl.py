"""A user's JSONL file as a task: one `{"prompt": ..., "answer": ..., "level": ...}` a line, and a named checker.

The checker is `number` (the same number, however written), `exact` (the same text up to runs of blanks), `countdown`
(prompts are Countdown problems), `gsm8k` or `svamp` (a strict and a lenient reading of the last number,
word_problems.py), or the user's `path/to/file.py:function`, which runs in the sandbox. It is named by the caller, or by
a first line `{"checker": "exact"}`; otherwise it is `number` when every answer is a number and `exact` when not. Files
of GSM8K and SVAMP are known by their keys, read as they are, and judged by the checker of their name unless another
is named. Where every row has a worked `solution`, as GSM8K's have, an sft stage can learn from them. Rows without a
level have level 1. A tenth of the rows, by content, is held out; other keys of a row reach a
user's checker as `meta`.
Not covered: files too large for memory.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raison.errors import ProblemError, UserError, nearest
from raison.records import Demonstration, Problem, Verdict
from raison.tasks.answer import parse_number, same_number, same_text, unwrap
from raison.tasks.countdown import Countdown
from raison.tasks.split import is_held_out
from raison.tasks.user import UserChecker
from raison.tasks.word_problems import NotAWordProblem, format_of, question_in, to_row, word_checker

VERSION = 1
Checker = Callable[[Problem, str], Verdict]
_KEYS = ("prompt", "answer", "level", "checker")


class Jsonl:
    """Implements Task and Parses over the rows of a file, and Demonstrates where they have solutions.

    `levels` are those that occur on this side of the split.
    """

    version = VERSION
    demonstrate: Callable[[Problem, int], Demonstration]
    """There only where every row has a `solution`: work that ends in what the checker accepts."""

    def __init__(self, path: str | Path, checker: str | None = None, held_out: bool | None = False) -> None:
        """`held_out` None takes every row, for a file that is a test set as a whole.

        Raises UserError, with the line number, for an unusable file, and CheckerError for an unusable checker.
        """
        self._path = Path(path)
        rows, header = _read(self._path)
        named = checker or header or _fitting(rows)
        self.name = self._path.stem
        self._check = make_checker(named, self._path.parent)
        self._lines = {number: _problem(self.name, named, row, f"{path} line {number}") for number, row in rows}
        self._rows: dict[int, list[Problem]] = {}
        for number, row in rows:
            if held_out in (None, is_held_out(f"{row['prompt']}\0{row['answer']}")):
                self._rows.setdefault(row["level"], []).append(self._lines[number])
        if not self._rows:
            side = "held out (one row in ten is)" if held_out else "left for training"
            raise UserError(f"{path}: no row is {side}; add rows")
        self.levels = tuple(sorted(self._rows))
        if all("solution" in problem.meta for problem in self.rows()):
            self.demonstrate = _solution

    def sample(self, seed: int, level: int) -> Problem:
        """A row of the level, drawn by `seed`. Raises UserError for a level that no row has."""
        rows = self._rows.get(level)
        if rows is None:
            raise UserError(
                f"{self.name} has no rows of level {level}; its levels are {', '.join(map(str, self.levels))}"
            )
        return random.Random(f"{self.name}:{level}:{seed}").choice(rows)

    def rows(self, level: int | None = None) -> list[Problem]:
        """Every problem of this side in the order of the file, or those of one level."""
        return [p for key in self.levels if level in (None, key) for p in self._rows[key]]

    def parse(self, text: str) -> Problem:
        """The row, of either side, whose prompt or question is this text up to runs of blanks, or that stands on the
        line of this number. Raises ProblemError for any other text: its answer would not be known.
        """
        wanted = text.split()
        for problem in self._lines.values():
            if wanted in (problem.prompt.split(), question_in(problem.prompt).split()):
                return problem
        if len(wanted) == 1 and wanted[0].isascii() and wanted[0].isdecimal() and len(wanted[0]) < 10:
            if int(wanted[0]) in self._lines:
                return self._lines[int(wanted[0])]
            raise ProblemError(f"{self._path} has no row on line {wanted[0]}")
        raise ProblemError(f"{text[:40]!a} is no row of {self._path}: give a row's prompt, or its line number")

    def check(self, problem: Problem, answer: str) -> Verdict:
        return self._check(problem, answer)

    def close(self) -> None:
        """End the subprocess of a user's checker, where there is one."""
        if isinstance(self._check, UserChecker):
            self._check.close()


def _solution(problem: Problem, seed: int) -> Demonstration:
    """The row's own solution; there is one, so `seed` changes nothing."""
    solution = str(problem.meta["solution"])
    return Demonstration(solution, problem.gold, solution)


def make_checker(named: str, folder: Path) -> Checker:
    """The checker of that name, or of that path, maybe relative to `folder`. Raises UserError for an unknown name."""
    if ".py:" in named:
        return UserChecker(named if Path(named.rpartition(":")[0]).is_file() else str(folder / named))
    if named not in CHECKERS:
        raise UserError(f'there is no checker "{named}": {nearest(named, CHECKERS)}, or give path/to/file.py:function')
    return CHECKERS[named]


def _by_number(problem: Problem, answer: str) -> Verdict:
    reason = same_number(answer, problem.gold)
    return Verdict(not reason, reason or "the same number", "number@1")


def _by_text(problem: Problem, answer: str) -> Verdict:
    reason = same_text(answer, problem.gold)
    return Verdict(not reason, reason or "the same text", "exact@1")


CHECKERS: dict[str, Checker] = {
    "number": _by_number,
    "exact": _by_text,
    "countdown": Countdown().check,
    "gsm8k": word_checker("gsm8k"),
    "svamp": word_checker("svamp"),
}
NUMERIC = ("number", "gsm8k", "svamp")
"""Those whose gold answer must be a number."""


def _read(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], str | None]:
    """Rows with their line numbers, and the checker that a first line or the rows' format names."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: give the path of a .jsonl file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from None
    parsed = [(number, _object(line, path, number)) for number, line in enumerate(lines, 1) if line.strip()]
    header = None
    if parsed and "checker" in parsed[0][1] and "prompt" not in parsed[0][1]:
        header = str(parsed.pop(0)[1]["checker"])
    if not parsed:
        raise UserError(f'{path} has no rows: write one {{"prompt": ..., "answer": ...}} a line')
    known = format_of(parsed[0][1])
    if known:
        parsed = [(number, _word_problem(found, path, number)) for number, found in parsed]
    return [(number, _row(found, path, number)) for number, found in parsed], header or known


def _word_problem(found: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    try:
        return to_row(found)
    except NotAWordProblem as error:
        raise UserError(f"{path} line {number}: {error}") from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} line {number} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f'{path} line {number} is not an object: write {{"prompt": ..., "answer": ...}}')
    return found


def _row(found: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    for key in ("prompt", "answer"):
        if key not in found:
            strange = [other for other in found if other not in _KEYS]
            raise UserError(f'{path} line {number} has no "{key}"' + (f": {nearest(key, strange)}" if strange else ""))
    prompt, answer, level = found["prompt"], found["answer"], found.get("level", 1)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f'{path} line {number}: "prompt" must be a text')
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)) or not str(answer).strip():
        raise UserError(f'{path} line {number}: "answer" must be a text or a number')
    if isinstance(level, bool) or not isinstance(level, int):
        raise UserError(f'{path} line {number}: "level" must be a whole number')
    return {**found, "prompt": prompt, "answer": str(answer), "level": level}


def _fitting(rows: list[tuple[int, dict[str, Any]]]) -> str:
    return "number" if all(parse_number(unwrap(row["answer"])) is not None for _, row in rows) else "exact"


def _problem(name: str, checker: str, row: dict[str, Any], where: str) -> Problem:
    meta = {key: value for key, value in row.items() if key not in _KEYS}
    if checker in NUMERIC and parse_number(unwrap(row["answer"])) is None:
        raise UserError(f'{where}: "{row["answer"][:40]}" is not a number; name the checker "exact" or mend the row')
    if checker == "countdown":
        try:
            read = Countdown().parse(row["prompt"])
        except ProblemError as error:
            raise UserError(f"{where}: {error}") from None
        return Problem(name, read.prompt, row["answer"], {**meta, **read.meta})
    return Problem(name, row["prompt"], row["answer"], meta)
