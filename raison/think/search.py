"""Beam search and DVTS: thoughts grow by steps, a step scorer says which go on.

Beam search (Snell et al. 2024, arXiv 2408.03314, section 5.1): of `paths` paths keep the best paths / `fan`, let each
go on in `fan` ways, and again. Diverse verifier tree search (Beeching, Tunstall & Rush 2024, "Scaling test-time compute
with open models") splits the paths into as many trees and keeps the best one in each, so that they cannot all become
children of one. A path that ends leaves the search with its answer; its tree goes on narrower. At the end the answers
vote, weighted by their paths' last scores.

A step is so many tokens; the next ones go on after its ids, and find them in the cache. Every step is a branch of its
own, counted as such. The scorer sees the whole path. Not covered: steps by lines, process reward models themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from raison.engine.sequence import Event
from raison.records import Completion
from raison.think.ballot import CANCELLED, Ballot, likelihood
from raison.think.equivalence import Equivalence
from raison.think.strategy import NOTHING, Bound, Branch, BranchReport, Orders, Outcome, Tally, report

StepScore: TypeAlias = Callable[[Completion], float]
"""How promising a path is, finished or not: 0 or more."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a search is cut. Beam search is one tree; DVTS has as many as it keeps paths."""

    paths: int = 8
    fan: int = 4
    trees: int = 1
    step_tokens: int = 32
    most_steps: int = 40


@dataclass(frozen=True, slots=True)
class _Path:
    """A thought so far. `said` joins its steps; `tree` is where it competes."""

    tree: int
    said: Completion
    score: float


@dataclass(frozen=True, slots=True)
class _Step:
    """A branch under way: the tree it grows in, the path it goes on from, and how far at most."""

    tree: int
    path: _Path | None
    tokens: int


def confidence_score(path: Completion) -> float:
    """Where no scorer is given: the geometric mean of the probabilities of the path's tokens, from 0 to 1."""
    return math.exp(likelihood(path))


class Search:
    """Answers of paths vote; `most_tokens` bounds a path."""

    def __init__(self, shape: Shape, most_tokens: int, score: StepScore, same: Equivalence) -> None:
        self._shape, self._most_tokens, self._score = shape, most_tokens, score
        self._ballot = Ballot(same)
        self._started = self._step = 0
        self._growing: dict[int, _Step] = {}
        self._open: list[_Path] = []
        self._reports: dict[int, BranchReport] = {}
        self._why = ""

    def begin(self) -> Orders:
        s = self._shape
        return self._grow([(tree, None) for tree in range(s.trees) for _ in range(s.paths // s.trees)])

    def hear(self, branch: int, event: Event) -> Orders:
        if event.finished is None:
            return NOTHING
        self._reports[branch] = report(branch, event.finished)
        step = self._growing.pop(branch)
        if self._why or event.finished.finish_reason == CANCELLED:
            return NOTHING
        self._take(branch, step, event.finished)
        return NOTHING if self._growing else self._next()

    @property
    def outcome(self) -> Outcome | None:
        if not self._why:
            return None
        found = self._ballot.outcome(self._why)
        return replace(found, branches=tuple(self._reports[branch] for branch in sorted(self._reports)))

    def tally(self) -> Tally:
        return self._ballot.tally(self._why)

    def bound(self, sample_tokens: int) -> Bound:
        """Paths that grow are of one length, so that their number bounds every step."""
        s = self._shape
        paths = max(s.paths, s.trees * self._kept * s.fan)
        return Bound(paths, paths * min(sample_tokens, s.most_steps * s.step_tokens))

    def _take(self, branch: int, step: _Step, said: Completion) -> None:
        """A path goes on where its step used all its tokens and it has some left; else it has ended."""
        cut = said.finish_reason == "length" and len(said.token_ids) == step.tokens
        said = _joined(step.path.said if step.path else None, said)
        path = _Path(step.tree, said, self._score(said))
        if cut and len(said.token_ids) < self._most_tokens:
            self._open.append(path)
            return
        self._ballot.end(branch, said)
        self._ballot.cast(branch, path.score)

    def _next(self) -> Orders:
        """A step is complete: keep the best of each tree and let them go on."""
        self._step += 1
        kept = [path for tree in range(self._shape.trees) for path in self._best(tree)]
        self._open = []
        if not kept or self._step >= self._shape.most_steps:
            self._why = f"{len(self._ballot.ended)} paths ended within {self._step} steps"
            return NOTHING
        return self._grow([(path.tree, path) for path in kept for _ in range(self._shape.fan)])

    @property
    def _kept(self) -> int:
        """Of each tree, after a step."""
        return max(1, self._shape.paths // self._shape.fan // self._shape.trees)

    def _best(self, tree: int) -> Sequence[_Path]:
        mine = [path for path in self._open if path.tree == tree]
        return sorted(mine, key=lambda path: -path.score)[: self._kept]

    def _grow(self, steps: Sequence[tuple[int, _Path | None]]) -> Orders:
        branches = []
        for tree, path in steps:
            prefix = path.said.token_ids if path else ()
            tokens = min(self._shape.step_tokens, self._most_tokens - len(prefix))
            branches.append(Branch(self._started, prefix, tokens))
            self._growing[self._started] = _Step(tree, path, tokens)
            self._started += 1
        return Orders(start=tuple(branches))


def _joined(before: Completion | None, step: Completion) -> Completion:
    """One completion of a path and the step that goes on from it."""
    if before is None:
        return step
    return replace(
        step, text=before.text + step.text, thinking=before.thinking + step.thinking,
        answer=before.answer + step.answer, token_ids=before.token_ids + step.token_ids,
        logprobs=before.logprobs + step.logprobs, thinking_tokens=before.thinking_tokens + step.thinking_tokens,
        answer_tokens=before.answer_tokens + step.answer_tokens, prompt_tokens=before.prompt_tokens,
        forced_close=before.forced_close or step.forced_close, seconds=before.seconds + step.seconds,
        first_token_seconds=before.first_token_seconds,
    )  # fmt: skip
