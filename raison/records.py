"""The records that pass between rooms: Problem -> Completion -> Verdict -> Rollout.

Plain frozen data, no torch, no behaviour beyond derived values, so that a grader, a log reader or the planner can
import them at once. Not covered: how any of them is made or stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One question whose answer can be checked. Made by `Task.sample` or `Task.parse`, read by `Task.check`."""

    task: str
    prompt: str
    """The user's message, exactly as the model sees it."""
    gold: str = ""
    """One answer that the checker accepts; empty when none is known."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the checker needs, as plain JSON values."""

    @property
    def id(self) -> str:
        """16 hex digits that name the problem by content: the same problem has the same id in every log."""
        return hashlib.sha256(f"{self.task}\0{self.prompt}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker says of one answer."""

    correct: bool
    reason: str = ""
    """One short clause for people: why it was not accepted, or how it was."""
    checker: str = ""
    """Name and version, such as `countdown@1`, so that a logged reward can be traced to the code that gave it."""
    lenient: bool | None = None
    """Whether a second, more forgiving reading of the answer is right; reported beside `correct`, never paid. None
    where the checker has one reading only.
    """

    @property
    def reward(self) -> float:
        """Binary on purpose: partial credit is what policies learn to cheat."""
        return 1.0 if self.correct else 0.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked solution: what a teacher would write between the think tags, and the answer after them."""

    thinking: str
    answer: str
    shown: str = ""
    """Work and answer in one text that the checker accepts, for a model that has no think tags; empty = the answer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine returns for one sampled sequence. Counts are of token ids, never of re-encoded text."""

    text: str
    """Everything generated, special tokens written out, end-of-sequence left out."""
    thinking: str
    answer: str
    token_ids: tuple[int, ...]
    """Every generated id, the end-of-sequence id included when it was sampled."""
    logprobs: tuple[float, ...]
    """log p of each id under the sampling temperature, before top-k/top-p/min-p; 0.0 for ids that a budget forced."""
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens that were read from another sequence's cache instead of being computed."""
    thinking_tokens: int
    answer_tokens: int
    forced_close: bool
    """True when the thinking budget ran out and `</think>` was written by the engine, not by the model."""
    seed: int
    first_token_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """One line of the rollout log: all that rejection sampling, distillation or an audit needs later."""

    problem: Problem
    group: int
    """Samples of one problem in one step share this number."""
    step: int
    policy: str
    """Which weights sampled it, as `<stage>@<step>`."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    verdict: Verdict
    reward: float
    """What training used: the verdict's reward, with any overlong penalty; random in the control."""
    thinking_tokens: int
    truncated: bool
    seed: int
