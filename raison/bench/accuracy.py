"""`raison bench accuracy`: models answer the same problems, several times each; answers are judged and kept.

The result is one JSON file, replaced whole after every part (about PART_SECONDS), so that a killed measurement goes on
where it was, and every sample can be scored again. It holds the problems' hash, the models' hashes, the seed, the
commit and all versions. Not covered: what is made of the samples (score.py), who answers (answerers.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raison import provenance
from raison.bench.answerers import Answerer, Manner
from raison.bench.problem_set import ProblemSet
from raison.errors import UserError
from raison.files import write_atomic
from raison.metrics import Sink, StepMetrics
from raison.records import Completion, Problem
from raison.tasks.task import Task, checker_id
from raison.think.ballot import likelihood
from raison.think.strategy import tokens_of

FORMAT = 1
FIRST_SAMPLES, MOST_SAMPLES = 16, 2048
PART_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer, judged: all that a score needs."""

    answer: str
    correct: bool
    lenient: bool | None
    tokens: int
    thinking_tokens: int
    cut: bool
    """The budget closed the thinking, or the answer came to its limit."""
    likelihood: float
    """Mean log-probability of its tokens; 0 where nobody tells. It breaks ties of a vote."""


Sheet = list[list[Sample]]
"""[problem][sample]."""


@dataclass(slots=True)
class Measured:
    """One model's answers so far, and what they took."""

    identity: dict[str, Any]
    samples: Sheet
    seconds: float = 0.0
    checker: str = ""
    """Name and version, as the verdicts say."""


def judged(task: Task, problem: Problem, said: Completion) -> tuple[Sample, str]:
    """The sample, and the checker's name and version."""
    verdict = task.check(problem, said.answer)
    cut = said.forced_close or said.finish_reason == "length"
    tokens = tokens_of(said)
    return Sample(
        said.answer, verdict.correct, verdict.lenient, tokens, said.thinking_tokens, cut, likelihood(said)
    ), verdict.checker  # fmt: skip


class Measurement:
    """The file of one measurement: opened fresh, or as it was left."""

    def __init__(self, path: Path, problems: ProblemSet, manner: Manner, identities: Sequence[dict[str, Any]]) -> None:
        """Raises UserError where `path` holds something else than this measurement."""
        self.path, self.problems, self.manner = path, problems, manner
        self.asked = {
            "format": FORMAT, "task": checker_id(problems.task), "level": problems.level,
            "problems": len(problems.problems), "problems_sha256": problems.sha256, **asdict(manner),
            "models": list(identities), "commit": provenance.commit(), "versions": provenance.versions(),
        }  # fmt: skip
        kept = self._kept()
        self.started: str = kept["started"] if kept else provenance.now()
        self.ended: str = kept.get("ended", "") if kept else ""
        rows = kept["measured"] if kept else [asdict(Measured(identity, [])) for identity in identities]
        self.measured = [_measured(row) for row in rows]

    @property
    def resumed(self) -> int:
        """Problems that were answered before."""
        return sum(len(one.samples) for one in self.measured)

    def run(self, answerers: Sequence[Answerer], sink: Sink) -> None:
        """Answer what is left, one model after the other. `sink` hears of every problem."""
        try:
            for answerer, measured in zip(answerers, self.measured, strict=True):
                self._one(answerer, measured, sink)
        finally:
            sink.close()
        self.ended = self.ended or provenance.now()
        self.save()

    def save(self) -> None:
        """Raises UserError where the file cannot be written."""
        whole = {
            **self.asked, "started": self.started, "ended": self.ended, "measured": [asdict(m) for m in self.measured]
        }  # fmt: skip
        try:
            write_atomic(self.path, json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror or error}; make room, then go on"
            ) from None

    def _one(self, answerer: Answerer, measured: Measured, sink: Sink) -> None:
        params = self.manner.params(len(self.problems.problems), answerer.thinks)
        part = max(1, FIRST_SAMPLES // self.manner.samples)
        while (done := len(measured.samples)) < len(self.problems.problems):
            some = self.problems.problems[done : done + part]
            start = time.perf_counter()
            heard = answerer.answer(some, params[done : done + part], self.manner.samples)
            seconds = time.perf_counter() - start
            self._take(measured, some, heard, seconds)
            self.save()
            _tell(sink, answerer.name, measured, len(some), len(params), seconds)
            part = next_part(part, seconds, self.manner.samples)

    def _take(
        self, measured: Measured, problems: Sequence[Problem], heard: Sequence[Sequence[Completion]], seconds: float
    ) -> None:
        for problem, said in zip(problems, heard, strict=True):
            pairs = [judged(self.problems.task, problem, one) for one in said]
            measured.samples.append([sample for sample, _ in pairs])
            measured.checker = pairs[0][1]
        measured.seconds += seconds

    def _kept(self) -> dict[str, Any]:
        """What the file holds of this very measurement; empty where there is none."""
        if not self.path.exists():
            return {}
        kept = read(self.path)
        for key, value in self.asked.items():
            if kept.get(key) != value:
                raise UserError(
                    f"{self.path} is another measurement: its {key} is {_short(kept.get(key))}, not {_short(value)}; "
                    "give another --out, or remove it"
                )
        return kept


def read(path: Path) -> dict[str, Any]:
    """A result file. Raises UserError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT or "measured" not in found:
        raise UserError(f"{path} is no result of raison bench accuracy; give another --out")
    return found


def next_part(problems: int, seconds: float, samples: int) -> int:
    """How many problems to answer next in about PART_SECONDS, where `problems` took `seconds`; never more than four
    times as many, nor MOST_SAMPLES samples.
    """
    fitting = round(problems * PART_SECONDS / max(seconds, 1e-6))
    return max(1, min(fitting, 4 * problems, MOST_SAMPLES // samples))


def _tell(sink: Sink, name: str, measured: Measured, count: int, total: int, seconds: float) -> None:
    """One line for each problem, so that the pace is that of problems whatever the parts."""
    done = len(measured.samples) - count
    right = sum(sample.correct for row in measured.samples[:done] for sample in row)
    for number, row in enumerate(measured.samples[done:], done + 1):
        right += sum(sample.correct for sample in row)
        figures = {"pass@1": right / number / len(row)}
        tokens = sum(sample.tokens for sample in row)
        sink.write(StepMetrics(name, number, total, tokens, seconds / count, figures))


def _measured(row: dict[str, Any]) -> Measured:
    return Measured(**{**row, "samples": [[Sample(**one) for one in samples] for samples in row["samples"]]})


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
