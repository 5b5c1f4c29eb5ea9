"""Distillation's share of a bill: a teacher that writes what a student is trained on, or reads along with it.

Writing (R1's way, Nature s41586-025-09422-z, supplement B.4): the teacher samples answers at the speed of serving, and
only a share of its tokens is kept. Reading (logits, Llama 3.2's way): a forward pass of the teacher over every token of
training. Not covered: the student's own training (training.py), what distillation teaches.
"""

from __future__ import annotations

from dataclasses import dataclass

from raison.errors import UserError
from raison.plan.chips import Chip
from raison.plan.interval import Interval
from raison.plan.rl import Recipe
from raison.plan.rl_sampling import sampling_speed
from raison.plan.shape import Shape
from raison.plan.training import TEACHER, forward, full_speed_seconds
from raison.plan.utilization import Case, Utilization

ANSWERS_A_CHIP = 64
"""Answers that a chip of the teacher samples at once: data is made in large batches."""
LARGEST = 4096
"""Chips of one instance of a teacher, at most."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a teacher costs."""

    chip_hours: Interval
    tokens: float
    """That it writes or reads."""
    assumptions: tuple[str, ...]


def written(
    teacher: Shape, chip: Chip, precision: str, tokens: float, *, kept: float = 1.0, epochs: float = 1.0,
    length: float = 4096.0,
) -> Teaching:  # fmt: skip
    """Chip-hours to write the data of `tokens` training tokens.

    Args:
        kept: share of the written tokens that is trained on, above 0 and at most 1.
        epochs: passes of training over the same data.
        length: mean tokens of an answer.
    """
    if not 0 < kept <= 1 or epochs < 1:
        raise UserError(f"a share kept of {kept:g} and {epochs:g} epochs make no sense: 0 < kept <= 1, epochs of 1 up")
    amount = tokens / epochs / kept
    recipe = Recipe(1.0, 1.0, length, ((1.0, length),), ANSWERS_A_CHIP * LARGEST)
    speed, said = sampling_speed(teacher, chip, LARGEST, recipe, precision)
    hours = amount / speed.tokens_a_chip / 3600
    return Teaching(hours, amount, (*teacher.assumed, *said, f"{100 * kept:g} % of what is written is kept"))


def read(teacher: Shape, tokens: float, case: Case, law: Utilization, sequence: float) -> Teaching:
    """Chip-hours to compute a teacher's logits on every token of training, on the student's chips."""
    seconds = TEACHER * full_speed_seconds(forward(teacher, sequence), tokens, case) / law.predict(case)
    said = f"a FLOP of the teacher's forward pass takes {TEACHER:.2f} of the time of one of training"
    return Teaching(seconds / 3600, tokens, (*teacher.assumed, said))
