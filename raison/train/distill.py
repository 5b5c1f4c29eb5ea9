"""Distillation: a teacher's judged samples become a log that a student is trained on (R1, section 2.4: supervised
only).

The samples are written to the same kind of log as rollouts, once: a resumed stage reads them. Not covered: teachers
behind an endpoint, training on the teacher's distributions.
"""

from __future__ import annotations

from pathlib import Path

from raison.config import DistillStage, GrpoStage
from raison.engine.engine import Engine
from raison.train.data import Problems
from raison.train.rollout import RolloutLog, Sampler

PROBLEMS_AT_ONCE = 64


def write_samples(engine: Engine, problems: Problems, stage: DistillStage, seed: int, path: Path) -> None:
    """Fill the log at `path` with the teacher's samples of `stage.problems` problems; all of it or nothing."""
    if path.exists():
        return
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    sampler = Sampler(engine, problems, _as_rounds(stage), seed)
    log = RolloutLog(unfinished)
    for step in range(-(-stage.problems // PROBLEMS_AT_ONCE)):
        log.write(sampler.draw(step).rollouts)
    log.close()
    unfinished.replace(path)


def _as_rounds(stage: DistillStage) -> GrpoStage:
    """The sampling part of the stage, in rounds, without refills or length rewards."""
    return GrpoStage(
        name=stage.name, steps=1, problems=min(stage.problems, PROBLEMS_AT_ONCE), group_size=max(stage.samples, 2),
        budget=stage.budget, temperature=stage.temperature, refill_rounds=0, control=False,
    )  # fmt: skip
