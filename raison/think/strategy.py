"""A way of thinking as a pure state machine: which samples to draw, what was heard of them, when it is over.

A strategy touches neither engine nor clock: it gives orders, hears events, and at last has an outcome. Whoever draws
the samples (an engine in this process, a server's engine thread, an endpoint) is a Sampler, and drive.py carries orders
and events between the two. The same events give the same orders, in tests as in service.
Not covered: what answers mean (equivalence.py), the rules of stopping (stopping.py), the strategies themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raison.engine.sequence import Event
from raison.records import Completion, FinishReason


@dataclass(frozen=True, slots=True)
class Branch:
    """One sample to be drawn."""

    number: int
    """Unique in the request; its seed is `engine.sequence.sample_seed(request's seed, number)`."""
    prefix: tuple[int, ...] = ()
    """Ids that stand after the prompt already, in searches that go on from earlier steps; empty for plain samples."""
    max_tokens: int | None = None
    """Fewer than the request's, where one step is meant."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to happen next: branches to start, and numbers of branches to cancel."""

    start: tuple[Branch, ...] = ()
    cancel: tuple[int, ...] = ()


NOTHING = Orders()


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Equivalent answers: one of them as its branch wrote it, what they weigh together, and who gave them."""

    answer: str
    weight: float
    branches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a vote stands: classes, heaviest first; `leader` is an index into them, None before any answer."""

    classes: tuple[AnswerClass, ...] = ()
    leader: int | None = None
    why: str = ""
    """What ended it; empty while it goes on."""


@dataclass(frozen=True, slots=True)
class BranchReport:
    """What became of one branch. `tokens` counts every sampled id; of an endpoint, what the endpoint counts."""

    branch: int
    tokens: int
    thinking_tokens: int
    finish: FinishReason
    answer: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a strategy. `branches` lists all that ended so far, the cancelled ones too."""

    chosen: int | None
    """Branch whose answer was chosen; None where no branch came to its end."""
    completion: Completion | None
    """What that branch said, from the prompt's end on, whatever steps it took."""
    tally: Tally
    why: str
    branches: tuple[BranchReport, ...]

    @property
    def tokens(self) -> int:
        """All sampled tokens, those of cancelled branches included."""
        return sum(branch.tokens for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a strategy takes at most, whatever it hears; a server holds so much before it begins."""

    branches: int
    """Under way at once."""
    tokens: int
    """Sampled in all, cancelled branches included."""


class Strategy(Protocol):
    """`outcome` is None until it is over; then everything that still runs is to be cancelled, and its end still heard,
    so that every token is counted.
    """

    def begin(self) -> Orders: ...

    def hear(self, branch: int, event: Event) -> Orders: ...

    @property
    def outcome(self) -> Outcome | None: ...

    def tally(self) -> Tally: ...

    def bound(self, sample_tokens: int) -> Bound:
        """Where one sample, with all its steps, has at most so many tokens."""
        ...


class Sampler(Protocol):
    """Where branches are drawn. Every branch that was started ends with one event whose `finished` is set."""

    async def start(self, branches: Sequence[Branch]) -> None: ...

    async def cancel(self, branches: Sequence[int]) -> None: ...

    async def events(self) -> Sequence[tuple[int, Event]]:
        """The next ones, with the branches' numbers; waits until there is at least one."""
        ...


def tokens_of(completion: Completion) -> int:
    """Every sampled token; endpoints tell counts without ids."""
    return len(completion.token_ids) or completion.thinking_tokens + completion.answer_tokens


def report(branch: int, completion: Completion) -> BranchReport:
    return BranchReport(
        branch, tokens_of(completion), completion.thinking_tokens, completion.finish_reason, completion.answer
    )
