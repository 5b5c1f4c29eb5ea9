"""Who writes what a student learns from: a stage of the run, another local model, or an endpoint.

A teacher answers in texts, for its tokenizer need not be the student's. Local ones sample through the engine; an
endpoint is asked by several threads at once. Which answers are kept is distill.py's matter. Not covered: the teacher's
distributions over tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from raison.config import DistillStage, EndpointSection
from raison.endpoint import Endpoint
from raison.engine.engine import Engine
from raison.records import Completion, Problem
from raison.text import chat
from raison.think.budget import completion_limit, sampling

PROBLEMS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem for the teacher. Each of its samples has its own seed: seed, seed + 1, ..."""

    problem: Problem
    seed: int


@dataclass(frozen=True, slots=True)
class Said:
    """One sample of a teacher."""

    thinking: str
    answer: str
    whole: bool
    """False where a budget or a limit cut it."""
    tokens: int


class Teacher(Protocol):
    def answer(self, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[Said]]]:
        """All samples of each question, in whatever order they come."""
        ...


class LocalTeacher:
    def __init__(self, engine: Engine, stage: DistillStage) -> None:
        self._engine, self._stage = engine, stage
        self._thinks = chat.thinks(engine.tokenizer)

    def answer(self, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[Said]]]:
        for start in range(0, len(questions), PROBLEMS_AT_ONCE):
            part = questions[start : start + PROBLEMS_AT_ONCE]
            prompts = [chat.prompt_ids(self._engine.tokenizer, asked.problem.prompt) for asked in part]
            s = self._stage
            params = [sampling(s.budget, s.temperature, asked.seed, self._thinks) for asked in part]
            groups = self._engine.generate(prompts, params, n=s.samples)
            yield from ((asked, [_said(c) for c in group]) for asked, group in zip(part, groups, strict=True))


def _said(c: Completion) -> Said:
    return Said(c.thinking, c.answer, c.finish_reason == "stop" and not c.forced_close, len(c.token_ids))


class EndpointTeacher:
    """Raises UserError at the first question that stays without an answer; those that are under way are dropped."""

    def __init__(self, section: EndpointSection, stage: DistillStage) -> None:
        self._endpoint, self._section, self._stage = Endpoint(section), section, stage

    def answer(self, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[Said]]]:
        pool = ThreadPoolExecutor(self._section.concurrency)
        try:
            running: dict[Future[list[Said]], Asked] = {pool.submit(self._samples, asked): asked for asked in questions}
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _samples(self, asked: Asked) -> list[Said]:
        stage, said = self._stage, []
        for i in range(stage.samples):
            reply = self._endpoint.ask(
                asked.problem.prompt,
                temperature=stage.temperature,
                max_tokens=completion_limit(stage.budget, thinks=True),
                seed=(asked.seed + i) % (1 << 31),  # servers differ in how long a seed they take
            )
            said.append(Said(reply.thinking, reply.answer, reply.whole, reply.completion_tokens))
        return said
