"""From problems to judged samples, and the one log that holds them all.

A round samples G completions of each problem, judges them, and replaces dead groups (all rewards equal) by fresh
problems for a few rounds (DAPO's dynamic sampling, arXiv 2503.14476, section 3.2). Every sample that was drawn is
written to the log, dead or alive; rejection sampling and distillation read it. Not covered: advantages (credit.py),
the update (grpo.py).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raison.config import GrpoStage
from raison.engine.engine import Engine
from raison.errors import CheckpointError
from raison.records import Completion, Problem, Rollout, Verdict
from raison.text import chat
from raison.think.budget import sampling
from raison.train.credit import DEAD_RANGE, overlong_penalty
from raison.train.data import Problems, seed_of

LOGPROB_DIGITS = 4
"""Digits kept in the log: the file is for selection and audit, not for training."""


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one problem in one step."""

    rollouts: tuple[Rollout, ...]

    @property
    def dead(self) -> bool:
        rewards = [r.reward for r in self.rollouts]
        return max(rewards) - min(rewards) <= DEAD_RANGE


@dataclass(frozen=True, slots=True)
class Round:
    """All groups of one step in the order they were drawn."""

    groups: tuple[Group, ...]

    @property
    def rollouts(self) -> list[Rollout]:
        return [r for group in self.groups for r in group.rollouts]


class Sampler:
    """Draws rounds from one policy through the engine."""

    def __init__(self, engine: Engine, problems: Problems, stage: GrpoStage, seed: int) -> None:
        self.engine, self.problems, self.stage, self.seed = engine, problems, stage, seed
        self.thinks = chat.thinks(engine.tokenizer)
        """Whether budgets are of thinking; else of the whole answer, which is then what is judged."""

    def draw(self, step: int) -> Round:
        """The round of `step`: `stage.problems` groups, and fresh ones for those that are dead."""
        groups: list[Group] = []
        wanted = self.stage.problems
        for refill in range(self.stage.refill_rounds + 1):
            groups += self._groups(step, refill, first=len(groups), count=wanted)
            wanted = self.stage.problems - sum(not g.dead for g in groups)
            if wanted <= 0:
                break
        return Round(tuple(groups))

    def _groups(self, step: int, refill: int, first: int, count: int) -> list[Group]:
        keys = [f"{self.seed}/{self.stage.name}/{step}/{refill}/{i}" for i in range(count)]
        problems = [self.problems.at(key) for key in keys]
        prompts = [chat.prompt_ids(self.engine.tokenizer, p.prompt) for p in problems]
        params = [sampling(self.stage.budget, self.stage.temperature, seed_of(key), self.thinks) for key in keys]
        samples = self.engine.generate(prompts, params, n=self.stage.group_size)
        return [
            Group(tuple(self._rollout(p, prompt, c, step, first + i, key) for c in group))
            for i, (p, prompt, group, key) in enumerate(zip(problems, prompts, samples, keys, strict=True))
        ]

    def _rollout(self, p: Problem, prompt: Sequence[int], c: Completion, step: int, group: int, key: str) -> Rollout:
        verdict = self.problems.task.check(p, c.answer)
        return Rollout(
            problem=p, group=group, step=step, policy=f"{self.stage.name}@{step}", prompt_ids=tuple(prompt),
            completion_ids=c.token_ids, logprobs=c.logprobs, verdict=verdict,
            reward=reward_of(verdict, c, self.stage, key, self.thinks), thinking_tokens=c.thinking_tokens,
            truncated=c.forced_close or c.finish_reason == "length", seed=c.seed,
        )  # fmt: skip


def reward_of(verdict: Verdict, completion: Completion, stage: GrpoStage, key: str, thinks: bool = True) -> float:
    """What training uses: the verdict, less what the stage takes for length; a coin in the control."""
    if stage.reward == "random":
        return float(random.Random(f"coin/{key}/{completion.seed}").random() < 0.5)
    reward, used = verdict.reward, completion.thinking_tokens if thinks else completion.answer_tokens
    if verdict.correct:
        reward -= stage.length_penalty * used / max(stage.budget, 1)
    if stage.overlong_penalty:
        penalty = overlong_penalty(used, stage.budget, stage.overlong_cache)
        reward += stage.overlong_penalty * penalty
    return reward


class RolloutLog:
    """JSON lines, one a rollout, flushed at each step. Resuming drops the lines of steps that will be sampled again."""

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _drop_from(path, resume_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            self._file.write(json.dumps(_to_row(rollout), separators=(",", ":"), ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_rollouts(path: Path) -> Iterator[Rollout]:
    """The logged rollouts in order; a last line torn by a kill is passed over. Raises CheckpointError for other
    damage.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the stage that should have written it has not run")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _from_row(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise CheckpointError(f"{path}: line {number} is not a rollout; run the stage again") from None


def _to_row(rollout: Rollout) -> dict[str, Any]:
    row = asdict(rollout)
    row["logprobs"] = [round(x, LOGPROB_DIGITS) for x in rollout.logprobs]
    row["problem_id"] = rollout.problem.id
    return row


def _from_row(row: dict[str, Any]) -> Rollout:
    known = {key: value for key, value in row.items() if key != "problem_id"}
    tuples = {key: tuple(row[key]) for key in ("prompt_ids", "completion_ids", "logprobs")}
    return Rollout(**{**known, **tuples, "problem": Problem(**row["problem"]), "verdict": Verdict(**row["verdict"])})


def _drop_from(path: Path, step: int) -> None:
    """Cut the log at the first line of `step` or later, and at a torn last line."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                break
            offset += len(line)
    os.truncate(path, offset)
