"""The grid of a frontier: model sizes x training tokens x GRPO steps x thinking budgets x votes, read from TOML.

Stages are written as in a recipe; their numbers of steps are replaced: `tokens` are shared between pre-training and the
cold start in the proportion of the steps given, and GRPO runs to each of `rl_steps` in turn. Not covered: running it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from raison.config import BillSection, GrpoStage, PretrainStage, SftStage, TaskSection, TrainSection, parse, to_table
from raison.config.recipe import with_preset
from raison.config.sections import at_least
from raison.config.toml_file import read_toml
from raison.errors import UserError
from raison.model.spec import ModelSpec
from raison.tasks.catalog import BUILT_IN

Selector = Literal["majority", "checker"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One shape of model."""

    name: str
    model: ModelSpec


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Lists rise. Every size is trained on each number of tokens, and each of those models is reinforced."""

    name: str
    seed: int = 0
    task: TaskSection
    level: int
    """Difficulty that is measured."""
    sizes: tuple[Size, ...] = field(metadata={"key": "size"})
    tokens: tuple[int, ...]
    """Of pre-training and cold start together."""
    rl_steps: tuple[int, ...]
    """Steps of GRPO in all; 0, no reinforcement, is always measured."""
    budgets: tuple[int, ...]
    """Thinking tokens; the last is the one that GRPO samples with."""
    votes: tuple[int, ...]
    """Samples that vote; the last is how many are drawn of each problem."""
    problems: int = 200
    answers: int = 10_000
    """That training is spread over."""
    selector: Selector = "majority"
    """Who chooses among samples: a vote, or the checker where the user of the answers has one."""
    temperature: float = 1.0
    most_tokens_times: float = 2.0
    """How far beyond the largest measured training a recommendation may go, in tokens and in GRPO steps."""
    pretrain: PretrainStage
    sft: SftStage
    grpo: GrpoStage
    train: TrainSection = field(default_factory=TrainSection)
    bill: BillSection = field(default_factory=BillSection)

    def __post_init__(self) -> None:
        at_least(self, 1, "problems", "answers", "most_tokens_times")
        at_least(self, 0, "seed", "temperature")
        for name, low in (("tokens", 1), ("rl_steps", 1), ("budgets", 1), ("votes", 1)):
            values = getattr(self, name)
            if not values or min(values) < low or list(values) != sorted(set(values)):
                raise UserError(f"{name} is {list(values)}; give rising numbers of at least {low}")
        names = [size.name for size in self.sizes]
        if not names or len(set(names)) != len(names):
            raise UserError("give at least one size, each with a name of its own")
        if self.grpo.budget != self.budgets[-1]:
            raise UserError(f"grpo.budget is {self.grpo.budget}, but the last of budgets is {self.budgets[-1]}")
        if len(names) * len(self.tokens) < 6:
            raise UserError("the law of training needs at least 6 trained models; add sizes or tokens")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(dump(self).encode()).hexdigest()

    def size(self, name: str) -> Size:
        return next(size for size in self.sizes if size.name == name)


def dump(grid: Grid) -> str:
    """The grid as TOML with every default in place; `load_grid` reads it back to an equal one."""
    return tomli_w.dumps(to_table(grid))


def load_grid(path: Path) -> Grid:
    """Raises UserError that names the file and the key path."""
    return parse_grid(read_toml(path), f"{path}: ")


def shipped_grid(task: str, mini: bool = False) -> Grid:
    """The grid that comes with a task. Raises UserError where there is none."""
    file = resources.files("raison.bench.frontier").joinpath(f"{task}{'-mini' if mini else ''}.toml")
    if task not in BUILT_IN or not file.is_file():
        raise UserError(f"there is no grid for {task}; write one and give it with --grid")
    return parse_grid(tomllib.loads(file.read_text(encoding="utf-8")))


def parse_grid(table: Mapping[str, Any], where: str = "") -> Grid:
    """A grid from nested mappings. Raises UserError that begins with `where` and names the key path."""
    try:
        return parse(Grid, table, shorthands={ModelSpec: with_preset})
    except UserError as error:
        raise UserError(f"{where}{error}") from None
