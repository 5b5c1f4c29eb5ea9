"""Checkers that a request may name: those of the built-in tasks, those that compare with a gold answer, the operator's.

    checkers = Checkers(["grade.py:check"])                       # raison serve --checker grade.py:check
    check = checkers.of("countdown", Posed(prompt="3 7 25 -> 46"))
    check("7 * 3 + 25").correct

A request gives a name, never a path: what is not built in is what the operator named when the server was started, and
that runs in the sandbox of raison.tasks. Built-in checkers are pure, bounded, and evaluate nothing. Not covered: when
and where a check runs (judging.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from raison.errors import UserError, nearest
from raison.records import Problem, Verdict
from raison.tasks.answer import parse_number, unwrap
from raison.tasks.catalog import BUILT_IN
from raison.tasks.jsonl import CHECKERS, NUMERIC
from raison.tasks.sandbox import Limits
from raison.tasks.user import UserChecker

Check = Callable[[str], Verdict]
MOST_CHARACTERS = 1 << 16
"""Of a problem's texts, together."""


class Posed(BaseModel):
    """The problem that answers are checked against, as a request gives it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(max_length=MOST_CHARACTERS)
    gold: str = Field("", max_length=MOST_CHARACTERS)
    """One right answer, for checkers that compare."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """What a checker of the operator's may want to know."""


class Checkers:
    """By name. The operator's each have a subprocess, from the beginning to `close`."""

    def __init__(self, targets: Iterable[str] = (), limits: Limits | None = None) -> None:
        """Raises UserError for a target that cannot be used, or whose name is taken."""
        self._own: dict[str, UserChecker] = {}
        for target in targets:
            name = target.rpartition(":")[2]
            if name in self.names:
                self.close()
                raise UserError(
                    f'--checker {target}: there is a checker "{name}" already; give the function another name'
                )
            self._own[name] = UserChecker(target, limits)

    @property
    def names(self) -> list[str]:
        return sorted({*BUILT_IN, *CHECKERS, *self._own})

    def of(self, name: object, posed: Posed) -> Check:
        """The checker of that name, for one problem. Raises UserError where there is none or the problem is not its."""
        if not isinstance(name, str) or name not in self.names:
            raise UserError(f"strategy.checker is {name!r:.60}: {nearest(str(name), self.names)}")
        if name in BUILT_IN:
            task = BUILT_IN[name](True)
            return partial(task.check, _parsed(task.parse, posed.prompt, name))
        problem = Problem(name, posed.prompt, posed.gold, posed.meta)
        if name in self._own:
            return partial(self._own[name], problem)
        if not posed.gold.strip() or (name in NUMERIC and parse_number(unwrap(posed.gold)) is None):
            kind = "number" if name in NUMERIC else "text"
            raise UserError(f'strategy.problem.gold must be the {kind} that the checker "{name}" compares answers with')
        return partial(CHECKERS[name], problem)

    def close(self) -> None:
        """End the subprocesses."""
        for checker in self._own.values():
            checker.close()


def _parsed(parse: Callable[[str], Problem], prompt: str, name: str) -> Problem:
    try:
        return parse(prompt)
    except UserError as error:
        where = "strategy.problem.prompt, or the last message,"
        raise UserError(f'{where} is no problem that the checker "{name}" knows: {error}') from None
