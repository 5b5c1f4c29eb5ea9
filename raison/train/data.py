"""From tasks to batches: which document comes at which step is a pure function of the recipe, the seed and the step.

That makes the data position a single number: a killed run that resumes at step k sees exactly what it would have seen.
Documents are packed flat (model/layout.py); no document sees another, and each starts at position 0 as it does in use.

Legend: N tokens of the batch, n tokens that are to be predicted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raison.config import SftStage, Share, TaskSection
from raison.errors import UserError
from raison.model.layout import Layout
from raison.records import Demonstration, Problem
from raison.tasks.task import Demonstrates, Documents, Task
from raison.text import chat
from raison.text.chat import Example, Turn
from raison.text.tokenizer import Tokenizer

LARGE, ROW_STEP = 1024, 128
"""Batches above the first are padded to whole multiples of the second, for kernels are compiled by shape."""

ExampleAt = Callable[[str], Example]
"""Makes the example that a key such as `0/sft/17/3` names (seed, stage, step, number)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Documents of one forward pass, sorted by length."""

    ids_N: Tensor
    layout: Layout
    predicting_n: Tensor
    """Positions whose next token carries loss."""

    @property
    def tokens(self) -> int:
        """Of documents, padding left out."""
        return sum(self.layout.lengths)

    @property
    def targets_n(self) -> Tensor:
        return self.ids_N[self.predicting_n + 1]


def pack(examples: Iterable[Example]) -> Packed:
    """Lay examples end to end. A token is predicted from the one before it, so the first of a document never is."""
    ordered = sorted(examples, key=lambda e: len(e.ids))
    ids = torch.tensor([i for e in ordered for i in e.ids])
    predicted = torch.tensor([i for e in ordered for i in (0, *e.mask[1:])])
    over = -len(ids) % ROW_STEP if len(ids) > LARGE else 0
    layout = Layout.of([len(e.ids) for e in ordered], padding=over)
    return Packed(torch.cat((ids, ids[:over])), layout, predicted.nonzero().squeeze(1) - 1)


def fill(make: ExampleAt, key: str, tokens: int) -> list[Example]:
    """Examples `key/0`, `key/1`, ... until they hold `tokens` tokens."""
    examples: list[Example] = []
    total = 0
    while total < tokens:
        examples.append(make(f"{key}/{len(examples)}"))
        total += len(examples[-1].ids)
    return examples


def seed_of(key: str) -> int:
    """A 63-bit seed that a key names: the same on every machine and in every process."""
    return random.Random(key).getrandbits(63)


class Problems:
    """A task's training problems by key, over the levels that the recipe weighs."""

    def __init__(self, task: Task, section: TaskSection) -> None:
        self.task = task
        self._levels, self._weights = section.levels, section.weights or None

    def at(self, key: str) -> Problem:
        rng = random.Random(key)
        level = rng.choices(self._levels, self._weights)[0]
        return self.task.sample(rng.getrandbits(63), level)


def documents(tasks: Sequence[tuple[Task, Share]], tokenizer: Tokenizer) -> ExampleAt:
    """Plain documents of several tasks, drawn by weight."""
    readable = [_with_documents(task) for task, _ in tasks]
    weights = [share.weight for _, share in tasks]

    def make(key: str) -> Example:
        rng = random.Random(key)
        task = rng.choices(readable, weights)[0]
        return chat.document(tokenizer, task.document(rng.getrandbits(63)))

    return make


def _with_documents(task: Task) -> Documents:
    if not isinstance(task, Documents):
        raise UserError(f'task "{task.name}" has no documents to pre-train on; name another in `documents`')
    return task


def demonstrations(problems: Problems, stage: SftStage, tokenizer: Tokenizer) -> ExampleAt:
    """Worked solutions; a share answers at once and a share after cut thinking, as a closing budget will ask for."""
    task = problems.task
    if not isinstance(task, Demonstrates):
        raise UserError(f'task "{task.name}" has no worked solutions to learn from; leave the sft stage out')
    thinks = chat.thinks(tokenizer)

    def make(key: str) -> Example:
        problem = problems.at(key)
        rng = random.Random(f"{key}/demonstration")
        demo = task.demonstrate(problem, rng.getrandbits(63))
        kind = rng.random() if thinks else 1.0
        if kind < stage.direct_share:
            return chat.closed_example(tokenizer, problem.prompt, demo, keep=0.0)
        if kind < stage.direct_share + stage.cut_share:
            return chat.closed_example(tokenizer, problem.prompt, demo, keep=rng.random())
        return demonstration(tokenizer, problem, demo)

    return make


def demonstration(tokenizer: Tokenizer, problem: Problem, demo: Demonstration) -> Example:
    """A whole worked solution; a model that does not think is shown work and answer in one message."""
    if chat.thinks(tokenizer):
        return chat.example(tokenizer, problem.prompt, demo)
    turns = [Turn("user", problem.prompt), Turn("assistant", demo.shown or demo.answer)]
    return chat.conversation(tokenizer, turns)[0]


def from_list(examples: Sequence[Example]) -> ExampleAt:
    """Examples of a fixed set, drawn with replacement by key."""
    return lambda key: examples[random.Random(key).randrange(len(examples))]
