"""A reasoning-gym data set as a task: `gym:basic_arithmetic`, `gym:countdown`, any of its hundred names.

reasoning-gym is never imported here. Two sandboxed processes hold it (gym_dataset.py): one makes problems and, from the
first check on, another scores answers, because some of its scorers evaluate what the model wrote. Time, memory and
output are limited; an answer that makes the scorer fail, loop or grow is a wrong answer, and costs a new process.
Scores are made binary: right is a score of 1.0, nothing below it, so that credit for form, or for gold inside other
text, is never paid. The two processes cost about two seconds and 110 MB each to start.

Level 0 is the data set's default configuration, the levels above are those of its curriculum. A tenth of the problems,
by their text, is held out. Three data sets walk through Python sets (isomorphic_strings, polynomial_multiplication,
ransom_note), so the same seed may give other problems in another process.
Not covered: data sets without known answers (gold is empty: boxnet, graph_color, propositional_logic, rubiks_cube,
rush_hour) cannot be proved by `raison check`; knights_knaves and `composite` cannot be used. For data sets with many
right answers the audit knows one, so look at the examples it prints.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any, NoReturn

from raison.errors import CheckerError, UserError
from raison.records import Problem, Verdict
from raison.tasks.sandbox import Limits, Sandbox
from raison.tasks.task import checker_id

PREFIX = "gym:"
VERSION = 1
MAKING = Limits(seconds=60.0, load_seconds=120.0, memory_bytes=1 << 30)
"""A held-out problem of a slow data set is the tenth that is made, at up to a second each."""
SCORING = Limits(seconds=5.0, load_seconds=120.0, memory_bytes=1 << 30)

_TARGET = f"{Path(__file__).with_name('gym_dataset.py')}:GymDataset"
_LOOKUP = " raised LookupError: "


class Gym:
    """Implements Task over a reasoning-gym data set. Call `close` to end its processes."""

    version = VERSION

    def __init__(self, dataset: str, held_out: bool = False) -> None:
        """Raises UserError where reasoning-gym is missing or has no data set of that name."""
        if importlib.util.find_spec("reasoning_gym") is None:
            raise UserError(f"{PREFIX}{dataset} needs the package reasoning-gym: pip install 'raison[gym]'")
        self.name = f"{PREFIX}{dataset}"
        self._package = importlib.metadata.version("reasoning-gym")
        options = {"dataset": dataset, "held_out": held_out}
        self._maker = Sandbox(_TARGET, MAKING, options)
        self._scorer = Sandbox(_TARGET, SCORING, options)
        try:
            self.levels: tuple[int, ...] = tuple(self._maker.describe()["levels"])
        except CheckerError as error:
            self.close()
            _fail(error)

    def sample(self, seed: int, level: int) -> Problem:
        """Raises UserError for a level that there is not, and where one side of the split has no problem."""
        if level not in self.levels:
            raise UserError(f"{self.name} has levels {self.levels[0]} to {self.levels[-1]}, not {level}")
        try:
            made = self._maker.call("sample", [seed, level])
        except CheckerError as error:
            _fail(error)
        meta: dict[str, Any] = {**made["meta"], "reasoning_gym": self._package}
        return Problem(self.name, made["prompt"], made["gold"], meta)

    def check(self, problem: Problem, answer: str) -> Verdict:
        """The data set's own score, made binary. Raises CheckerError only where the scorer cannot be started."""
        self._scorer.describe()
        view = {"prompt": problem.prompt, "gold": problem.gold, "meta": dict(problem.meta)}
        try:
            correct, reason = self._scorer.call("check", [view, answer])
        except CheckerError as error:
            return Verdict(False, str(error).removeprefix(f"{_TARGET} "), checker_id(self))
        return Verdict(bool(correct), str(reason), checker_id(self))

    def close(self) -> None:
        """End both processes."""
        self._maker.close()
        self._scorer.close()


def _fail(error: CheckerError) -> NoReturn:
    """A LookupError of gym_dataset.py is worded for the user; whatever else happened in there is passed on as it is."""
    _, found, message = str(error).partition(_LOOKUP)
    if not found:
        raise error
    raise UserError(message.partition(": let it return")[0]) from None
