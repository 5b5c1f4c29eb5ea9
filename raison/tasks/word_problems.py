"""Word problems with a number for an answer: rows of GSM8K and SVAMP files, and two readings of what a model wrote.

The prompt is the problem and a last line that asks for the form of the answer (`FORM`). What is paid for is the strict
reading: the last line is `#### N`, the mark of GSM8K's own solutions, or the whole answer is N, maybe in one
`\\boxed{}` or `<answer></answer>`. N is a plain number of at most 64 characters (`1234`, `1,234`, `$5`, `0.50`, never
`290/2`, which leaves the sum undone). Any further `####`, `\\boxed{}` or `<answer>` must hold the same number, so that
two guesses are never paid. The lenient reading is the last number anywhere in the answer, which is what most published
figures count; it is reported beside the strict one and never paid. Both compare exact fractions.

GSM8K: keys `question` and `answer`, the number behind `####` (Cobbe et al. 2021). SVAMP: `Body`, `Question`, `Answer`
(Patel et al. 2021). The files are the user's own; none is shipped.
Not covered: numbers in words, units, percentages turned into fractions, answers that are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from raison.records import Problem, Verdict
from raison.tasks.answer import BLANKS, MAX_NUMBER_CHARS, parse_number, unwrap

VERSION = 1
MARK = "####"
FORM = f"Finish with one line that reads {MARK} N, where N is the answer as a plain number."

_READ_KEYS = ("question", "answer", "Body", "Question", "Answer")
_CALCULATION = re.compile(r"<<[^<>]*>>")
_TAGGED = re.compile(r"\\boxed\{([^{}]*)\}|<answer>([^<>]*)</answer>")
# A dash counts as a sign only where nothing stands before it that could be subtracted from. The bound on groups of
# thousands keeps hostile texts linear.
_LAST = re.compile(
    r"((?<![\w)\]}%.])[-−])?[$€£¥]?(?<!\w)((?:[0-9]{1,3}(?:,[0-9]{3}){1,20}(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)


class NotAWordProblem(ValueError):
    """A row that lacks what its format needs; the message continues `file line 7: `."""


def format_of(row: Mapping[str, Any]) -> str | None:
    """`gsm8k` or `svamp` for a row of those files by its keys, None for any other."""
    if isinstance(row.get("question"), str) and MARK in str(row.get("answer", "")):
        return "gsm8k"
    return "svamp" if {"Body", "Question", "Answer"} <= row.keys() else None


def to_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of either format with the keys that jsonl.py reads: `prompt`, `answer`, what else it has, and for GSM8K
    the worked `solution`, whose last line is the mark and the number. Raises NotAWordProblem.
    """
    if format_of(row) == "gsm8k":
        worked, _, number = str(row["answer"]).rpartition(MARK)
        gold, question = number.strip(BLANKS), str(row["question"])
        solution = {"solution": f"{_CALCULATION.sub('', worked).rstrip(BLANKS)}\n{MARK} {_canonical(gold)}"}
    elif format_of(row) == "svamp":
        gold, question = str(row["Answer"]), _joined(row["Body"], row["Question"])
        solution = {}
    else:
        raise NotAWordProblem('it has neither "question" and "answer" with #### nor "Body", "Question" and "Answer"')
    rest: dict[str, Any] = {key: value for key, value in row.items() if key not in _READ_KEYS}
    return {**rest, **solution, "prompt": f"{question.strip()}\n{FORM}", "answer": _canonical(gold)}


def question_in(prompt: str) -> str:
    """The problem alone, without the line that asks for the form."""
    return prompt.removesuffix(FORM).rstrip(BLANKS)


def word_checker(name: str) -> Callable[[Problem, str], Verdict]:
    """The named checker `gsm8k` or `svamp`; they differ in the name alone."""

    def check(problem: Problem, answer: str) -> Verdict:
        return judge(problem.gold, answer, f"{name}@{VERSION}")

    return check


def judge(gold: str, answer: str, checker: str) -> Verdict:
    """Correct by the strict reading, with the lenient one beside it. Never raises for any answer."""
    expected = parse_number(unwrap(gold))
    assert expected is not None, f"gold is not a number: {gold!r}"
    lenient = last_number(answer) == expected
    try:
        given = final_number(answer)
    except ValueError as objection:
        last = "; its last number is right" if lenient else ""
        return Verdict(False, f"{objection}{last}", checker, lenient)
    right = given == expected
    return Verdict(right, "the same number" if right else "another number than expected", checker, lenient)


def final_number(answer: str) -> Fraction:
    """The strict reading. Raises ValueError, with a short clause for people, where the form is not kept."""
    text = answer.strip(BLANKS)
    whole = _plain(unwrap(text))
    if whole is not None:
        return whole
    if "<think>" in text or "</think>" in text:
        raise ValueError("there are thinking tags in the answer")
    last = text.rpartition("\n")[2].lstrip(BLANKS)
    value = _plain(last.removeprefix(MARK).strip(BLANKS)) if last.startswith(MARK) else None
    finals = [_plain(piece.partition("\n")[0].strip(BLANKS)) for piece in text.split(MARK)[1:]]
    finals += [_plain((m[1] or m[2] or "").strip(BLANKS)) for m in _TAGGED.finditer(text)]
    if len(set(finals)) > 1:
        raise ValueError("it gives several final answers")
    if value is None:
        raise ValueError(f"its last line is not {MARK} and one plain number")
    return value


def last_number(answer: str) -> Fraction | None:
    """The lenient reading: the last number in ASCII digits, or None where there is none or it is too long."""
    last: re.Match[str] | None = None
    for last in _LAST.finditer(answer):  # noqa: B007
        pass
    if last is None or len(last[2]) > MAX_NUMBER_CHARS:
        return None
    value = Fraction(last[2].replace(",", ""))
    return -value if last[1] else value


def _plain(text: str) -> Fraction | None:
    return None if "/" in text else parse_number(text)


def _canonical(gold: str) -> str:
    """`1,000` and `145.0` as `1000` and `145`; other numbers as they stand."""
    value = _plain(gold)
    if value is None:
        raise NotAWordProblem(f"its answer {gold[:40]!a} is not a number")
    return str(value) if value.denominator == 1 else gold


def _joined(body: Any, question: Any) -> str:
    body, question = str(body).strip(), str(question).strip()
    return f"{body}{'.' if body[-1:].isalnum() else ''} {question}"
