"""From rollouts back to examples: rejection sampling, and a teacher's samples for distillation.

R1 stage 3 (arXiv 2501.12948, section 2.3.3) keeps right answers and drops unreadable ones; here the checker decides,
truncated samples are dropped, and of several right answers the shortest can be preferred. Not covered: judging by a
model.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from raison.errors import UserError
from raison.records import Rollout
from raison.text.chat import Example


def select(
    rollouts: Iterable[Rollout],
    keep: Literal["shortest", "random", "all"],
    per_problem: int,
    last_share: float,
    seed: int,
) -> list[Example]:
    """Examples of the right and whole samples of the last `last_share` of the log's steps.

    Raises UserError when none is left.
    """
    every = list(rollouts)
    first = (1.0 - last_share) * (max((r.step for r in every), default=0) + 1)
    groups: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in every:
        if rollout.verdict.correct and not rollout.truncated and rollout.step >= first:
            groups[rollout.problem.id].append(rollout)
    if not groups:
        raise UserError("no sample of the log was right: there is nothing to train on; train the source stage longer")
    rng = random.Random(f"reject/{seed}")
    return [to_example(r) for group in groups.values() for r in _kept(group, keep, per_problem, rng)]


def _kept(group: list[Rollout], keep: str, count: int, rng: random.Random) -> list[Rollout]:
    if keep == "all":
        return group
    ordered = (
        sorted(group, key=lambda r: len(r.completion_ids)) if keep == "shortest" else rng.sample(group, len(group))
    )
    return ordered[:count]


def to_example(rollout: Rollout) -> Example:
    """Loss on everything that the policy wrote."""
    mask = [0] * len(rollout.prompt_ids) + [1] * len(rollout.completion_ids)
    return Example([*rollout.prompt_ids, *rollout.completion_ids], mask)
