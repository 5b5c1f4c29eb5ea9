"""A frontier small enough for a test, and cells as if they had been measured under known laws."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raison.bench import accuracy
from raison.bench.accuracy import Sample
from raison.bench.frontier.cells import Cell, all_cells
from raison.bench.frontier.grid import Grid, parse_grid
from raison.bench.frontier.laws import STEEP, Laws
from raison.bench.frontier.record import NOTHING, Point, Record, Spent
from raison.bench.intervals import clustered
from raison.plan.laws import Chinchilla, Sigmoid
from raison.records import Completion, Problem
from raison.tasks.task import Task
from tests.train.runs import ADAMW, MODEL

TRUE = Laws(
    loss=Chinchilla(E=0.4, A=20.0, B=300.0, alpha=0.4, beta=0.5),
    noise=0.0,
    link=Sigmoid(0.0, 0.9, math.exp(-STEEP * 1.0), 0.3),
    grown=Sigmoid(0.0, 0.85, 3e8, 1.5),
    size_power=0.75,
    told_by="loss",
    gain=Sigmoid(0.0, 0.8, 2000.0, 1.2),
    gamma=0.5,
    thinking=Sigmoid(0.05, 1.02, 60.0, 1.8),
    spread=(0.8, -1.0),
    rival=0.3,
    largest=256.0,
    selector="majority",
)


def table(**changes: Any) -> dict[str, Any]:
    stage = {"steps": 1, "batch_tokens": 256, "checkpoint_seconds": 0.0, "optimizer": ADAMW}
    return {
        "name": "micro", "level": 2, "tokens": [512, 1024, 1536], "rl_steps": [1, 2], "budgets": [4, 8],
        "votes": [1, 3], "problems": 8, "answers": 10, "task": {"name": "countdown", "levels": [2]},
        "train": {"precision": "fp32", "threads": 1},
        "size": [{"name": "a", "model": MODEL}, {"name": "b", "model": {**MODEL, "intermediate_size": 96}}],
        "pretrain": {**stage, "documents": [{"task": "countdown"}]}, "sft": stage,
        "grpo": {**stage, "problems": 2, "group_size": 2, "budget": 8, "refill_rounds": 0},
    } | changes  # fmt: skip


def micro(**changes: Any) -> Grid:
    return parse_grid(table(**changes))


def wide() -> Grid:
    """A grid with room for laws, whose cells are made up."""
    stage = table()
    return micro(
        tokens=[100_000, 200_000, 400_000, 800_000], rl_steps=[30, 160], budgets=[16, 32, 64, 128, 256],
        votes=[1, 4, 16], problems=400, answers=1000,
        size=[stage["size"][0], stage["size"][1], {"name": "c", "model": {**MODEL, "intermediate_size": 192}}],
        grpo={**stage["grpo"], "problems": 16, "group_size": 8, "budget": 256},
    )  # fmt: skip


PARAMETERS = {"a": 30_000, "b": 90_000, "c": 270_000}


def made_up(grid: Grid, laws: Laws = TRUE, seed: int = 0) -> list[Record]:
    """Cells that answer by `laws`, with the noise of as many problems and samples as the grid has."""
    draw = np.random.default_rng(seed)
    return [_record(grid, laws, cell, draw) for cell in all_cells(grid)]


@contextmanager
def resamples(count: int) -> Iterator[None]:
    """Fewer than a user's, as each law is fitted once for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raison.plan.least_squares.RESAMPLES", count)
        patch.setattr("raison.plan.coverage.RESAMPLES", count)
        yield


def length(single: float) -> float:
    """Share of its budget that a model thinks for."""
    return 0.2 + 0.5 * single


def learning(n: int, start: float) -> float:
    """FLOPs of a sample of GRPO."""
    return 1200.0 * n * (0.5 + start)


def _record(grid: Grid, laws: Laws, cell: Cell, draw: np.random.Generator) -> Record:
    n = PARAMETERS[cell.size]
    samples = cell.steps * grid.grpo.problems * grid.grpo.group_size
    loss = laws.loss.loss(n, cell.tokens) * math.exp(draw.normal(0, 0.003))
    single = laws.reinforced(laws.trained(n, cell.tokens), samples)
    size = math.exp(laws.spread[0] + laws.spread[1] * single)
    chances = draw.beta(single * size, (1 - single) * size, grid.problems)
    points = tuple(
        _point(grid, laws, draw, chances, n, budget, votes, length(single))
        for budget in grid.budgets for votes in grid.votes
    )  # fmt: skip
    right = tuple(int(r) for r in draw.binomial(grid.votes[-1], chances))
    return Record(
        cell, n, loss, Spent(cell.tokens, 6.0 * n * cell.tokens, 1e-5 * cell.tokens),
        Spent(samples, learning(n, laws.trained(n, cell.tokens)) * samples, 1e-3 * samples) if samples else NOTHING,
        points, right, grid.votes[-1], "0" * 64, "1" * 64, "2026-01-01T00:00:00+0000", 1.0,
    )  # fmt: skip


def _point(
    grid: Grid, laws: Laws, draw: np.random.Generator, chances: np.ndarray, n: int, budget: int, votes: int,
    share: float,
) -> Point:  # fmt: skip
    kept = laws.kept(budget) * chances
    if votes >= 3:
        kept = np.array([float(c > laws.rival) for c in kept]) * 0.96 + 0.02
    each = draw.binomial(max(1, grid.votes[-1] // votes), kept) / max(1, grid.votes[-1] // votes)
    tokens = votes * budget * share
    accuracy = clustered(each.tolist(), grid.votes[-1] // votes)
    return Point(budget, votes, accuracy, tuple(each.tolist()), tokens, 2.0 * n * (tokens + 10), 1e-5 * tokens)


def tossed(task: Task, problem: Problem, said: Completion) -> tuple[Sample, str]:
    """A coin that the answer's tokens toss, for models that have learnt nothing."""
    sample, checker = accuracy.judged(task, problem, said)
    coin = hashlib.sha256(repr((problem.id, said.token_ids)).encode()).digest()[0]
    return replace(sample, correct=coin % 2 == 0), checker
