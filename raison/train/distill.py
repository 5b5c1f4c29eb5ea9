"""Distillation: a teacher's right answers become what a student is trained on (R1, section 2.4: supervised only).

    stages/<stage>/answers.jsonl    first line: what was asked of whom; then one line for each problem, samples judged

A line is flushed as soon as its samples are there, so a killed run asks for nothing twice, and other runs can share the
file (`answers` in the recipe). What is trained on follows from the problems' order alone, not from that of the lines.
An answer is taught with its work shown where the student has no think tags and the checker accepts both in one text.
Not covered: who the teacher is (teacher.py), training on the teacher's distributions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raison.config import DistillStage, EndpointSection, TeacherSection
from raison.errors import UserError
from raison.progress import clock_time
from raison.records import Demonstration, Problem
from raison.tasks.task import Task, checker_id
from raison.text.chat import Example
from raison.text.tokenizer import Tokenizer
from raison.train.data import Problems, demonstration, seed_of
from raison.train.teacher import Asked, Said, Teacher

NOTE_SECONDS = 15.0


class Lessons:
    """The teacher's answers to a stage's problems: read from the file, and asked for where they are not there."""

    def __init__(
        self, stage: DistillStage, problems: Problems, seed: int, path: Path, note: Callable[[str], None]
    ) -> None:
        """Raises UserError when the file at `path` was written for other questions or settings."""
        self._stage, self._task, self._path, self._note = stage, problems.task, path, note
        keys = [f"{seed}/{stage.name}/{i}" for i in range(stage.problems)]
        self._asked = [Asked(problems.at(key), seed_of(key)) for key in keys]
        self._header = _header(stage, problems.task)
        self._said = _read(path, self._header)

    @property
    def missing(self) -> list[Asked]:
        return [asked for asked in self._asked if _key(asked) not in self._said]

    def fetch(self, teacher: Teacher) -> int:
        """Ask for what is missing; returns the tokens that the teacher wrote."""
        missing, tokens = self.missing, 0
        start = noted = time.monotonic()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps(self._header) + "\n")
            for done, (asked, samples) in enumerate(teacher.answer(missing), start=1):
                self._said[_key(asked)] = samples
                file.write(_line(asked, samples, self._task))
                file.flush()
                tokens += sum(said.tokens for said in samples)
                if time.monotonic() - noted > NOTE_SECONDS:
                    noted = time.monotonic()
                    left = (noted - start) / done * (len(missing) - done)
                    self._note(f"the teacher has answered {done:,} of {len(missing):,}; {clock_time(left)} left")
        return tokens

    def examples(self, tokenizer: Tokenizer) -> list[Example]:
        """What the student is trained on. Raises UserError when no answer was right."""
        taught = [
            demonstration(tokenizer, asked.problem, self._taught(asked.problem, said))
            for asked in self._asked
            for said in self._said[_key(asked)]
            if said.whole and self._task.check(asked.problem, said.answer).correct
        ]
        if not taught:
            raise UserError("none of the teacher's answers was right: there is nothing to learn; ask another teacher")
        return taught

    def _taught(self, problem: Problem, said: Said) -> Demonstration:
        shown = f"{said.thinking}\n{said.answer}" if said.thinking else ""
        accepted = shown and self._task.check(problem, shown).correct
        return Demonstration(said.thinking, said.answer, shown if accepted else "")


def answers_path(stage: DistillStage, folder: Path) -> Path:
    """The file that the recipe names, or the stage's own in `folder`."""
    return Path(stage.answers) if stage.answers else folder / "answers.jsonl"


def _header(stage: DistillStage, task: Task) -> dict[str, Any]:
    """All that an answer depends on, save the problem and its seed."""
    return {
        "teacher": _named(stage.teacher), "samples": stage.samples, "budget": stage.budget,
        "temperature": stage.temperature, "task": task.name,
    }  # fmt: skip


def _named(teacher: str | TeacherSection | EndpointSection) -> str:
    if isinstance(teacher, EndpointSection):
        return f"{teacher.model} at {teacher.url}"
    return teacher if isinstance(teacher, str) else teacher.model


def _key(asked: Asked) -> tuple[str, int]:
    return asked.problem.id, asked.seed


def _line(asked: Asked, samples: Sequence[Said], task: Task) -> str:
    judged = [asdict(said) | {"correct": task.check(asked.problem, said.answer).correct} for said in samples]
    row = {"problem": asked.problem.id, "seed": asked.seed, "prompt": asked.problem.prompt, "samples": judged}
    return json.dumps(row | {"checker": checker_id(task)}, ensure_ascii=False) + "\n"


def _read(path: Path, header: dict[str, Any]) -> dict[tuple[str, int], list[Said]]:
    """Answers by problem and seed. A last line torn by a kill is cut off; any other damage is a UserError."""
    if not path.exists():
        return {}
    found: dict[tuple[str, int], list[Said]] = {}
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            row = _row(line, path, number)
            if number == 1 and row != header:
                raise UserError(f"{path} holds answers to other questions ({row}); name another file, or remove it")
            if number > 1:
                found[row["problem"], row["seed"]] = [_said(sample) for sample in row["samples"]]
            whole += len(line)
    os.truncate(path, whole)
    return found


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if number > 1:
            _ = row["problem"], row["seed"], [_said(sample) for sample in row["samples"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} line {number} is no teacher's answer; mend it, or remove the file") from None
    if not isinstance(row, dict):
        raise UserError(f"{path} line {number} is no teacher's answer; mend it, or remove the file")
    return row


def _said(sample: dict[str, Any]) -> Said:
    return Said(sample["thinking"], sample["answer"], sample["whole"], sample["tokens"])
