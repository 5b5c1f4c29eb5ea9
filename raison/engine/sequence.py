"""What is asked of the engine and what it tells: sampling parameters, one sequence's state off the batch, events.

While a sequence runs, its numbers live in the batch's arrays (slots.py); this record holds what never changes, and
what must survive when it is put back to wait. Not covered: text (text/reasoning.py), the finished record
(records.Completion).
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field, replace

from raison.engine.grammar import Grammar, Matcher
from raison.engine.swap import Swapped
from raison.errors import UserError
from raison.records import Completion
from raison.text.reasoning import ReasoningStream

MASK64 = (1 << 64) - 1
SEED_LIMIT = 1 << 63
BIAS_LIMIT = 1e30
GOLDEN = 0x9E3779B97F4A7C15
MARKS = 2
"""Tokens beside thinking and answer: `</think>` and the end of the sequence."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample one request. Raises UserError that names the field when a value makes no sense."""

    temperature: float = 1.0
    """0 takes the most likely token each time; log-probabilities are then those of temperature 1."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all. Filters apply in the order top-k, top-p, min-p."""
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 576
    """Hard limit of generated tokens: thinking, `</think>`, answer and end of sequence."""
    thinking_budget: int | None = None
    """After so many thinking tokens the engine writes `</think>`; 0 answers at once, None lets the model think on."""
    answer_tokens: int = 64
    """At most so many tokens after `</think>`, end of sequence apart. A prompt without thinking heeds max_tokens
    alone.
    """
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these; they sleep while the model thinks."""
    seed: int = 0
    grammar: Grammar | None = None
    """What the answer must look like; the thinking is free."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Added to logits before the temperature: (id, bias) each; -inf forbids a token."""
    min_tokens: int = 0
    """No end of the text before so many generated tokens; stop strings end it all the same."""
    min_thinking: int = 0
    """No `</think>` before so many thinking tokens."""
    ignore_eos: bool = False
    """Go on to max_tokens, whatever ends a text."""
    top_logprobs: int = 0
    """So many of the likeliest tokens are told of every place (Event.top)."""

    def __post_init__(self) -> None:
        _require(0.0 <= self.temperature < float("inf"), "temperature", self.temperature, "0 or more")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (all) or more")
        _require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "above 0 and at most 1")
        _require(0.0 <= self.min_p <= 1.0, "min_p", self.min_p, "between 0 and 1")
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        budget = self.thinking_budget
        _require(budget is None or budget >= 0, "thinking_budget", budget, "None, or 0 or more")
        _require(self.answer_tokens >= 1, "answer_tokens", self.answer_tokens, "1 or more")
        _require(not isinstance(self.stop, str) and all(self.stop), "stop", self.stop, "a tuple of non-empty strings")
        _require(0 <= self.seed < SEED_LIMIT, "seed", self.seed, "between 0 and 2^63 - 1")
        biases = [bias for _, bias in self.logit_bias]
        _require(
            all(bias <= BIAS_LIMIT for bias in biases), "logit_bias", biases, f"at most {BIAS_LIMIT:g}; -inf forbids"
        )
        _require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", self.min_tokens, "between 0 and max_tokens")
        most = self.max_tokens if budget is None else budget
        _require(0 <= self.min_thinking <= most, "min_thinking", self.min_thinking, "between 0 and the thinking budget")
        _require(self.top_logprobs >= 0, "top_logprobs", self.top_logprobs, "0 or more")

    def spread(self, count: int) -> list[SamplingParams]:
        """The same parameters for `count` prompts, each with its own seed, so that their samples are independent.

        None has the seed that all are made from: its samples would have the seeds of the others' first ones.
        """
        return [replace(self, seed=sample_seed(mix(self.seed) % SEED_LIMIT, i + 1)) for i in range(count)]


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value!r}; it must be {allowed}")


def mix(number: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014; Stafford's variant 13): a bijection of 64-bit integers."""
    z = number & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def sample_seed(seed: int, sample: int) -> int:
    """The seed of sample i of a request; sample 0 has the request's own, so that n=1 is the first of n."""
    return seed if sample == 0 else mix(mix(seed) + sample * GOLDEN) % SEED_LIMIT


@dataclass(frozen=True, slots=True)
class Event:
    """One token of one sequence, as `Engine.step` tells it."""

    sequence_id: int
    token_id: int | None
    """None when no token belongs to it: the sequence was cancelled."""
    text: str | None
    """What became certain of the text; None when nothing did (part of a character, a tag, perhaps a stop string)."""
    thinking: bool
    """Whether `text` is thinking."""
    finished: Completion | None = None
    logprob: float | None = None
    """Of the token, as in Completion.logprobs."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest ids of its place and their log-probabilities, as many as SamplingParams.top_logprobs."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the engine was made, and what is under way now."""

    running: int
    waiting: int
    pages_free: int
    pages_total: int
    steps: int
    prompt_tokens_computed: int
    prompt_tokens_cached: int
    tokens_sampled: int
    preemptions: int
    tokens_guessed: int
    guesses_right: int
    tokens_swapped: int
    """Of preempted sequences, copied out of the cache."""
    tokens_restored: int
    """Copied back rather than computed again."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One sample under way. `generated` and what follows is filled when it leaves the batch."""

    id: int
    prompt: Ordered[int]
    params: SamplingParams
    seed: int
    group: int
    """Samples submitted together have the same number, and compute their prompt once."""
    thinks: bool
    """The prompt ends inside `<think>`."""
    answers: bool
    """The prompt ends after `</think>`."""
    stream: ReasoningStream | None
    loud: bool
    """Its tokens are told as events; `generate` reads only the ends."""
    submitted: float
    tenant: str = ""
    """Whose prefixes it may find in the cache."""
    keys: Ordered[bytes] = ()
    """Names of the prompt's full pages."""
    cached: int | None = None
    """Prompt tokens found in the cache when it first ran."""
    swapped: Swapped | None = None
    """What it has outside the cache while it waits again."""
    generated: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    closed_at: int = -1
    """Generated tokens up to and with `</think>`; 0 when the prompt has none open; -1 while thinking."""
    forced: bool = False
    first_token: float = 0.0
    matcher: Matcher | None = None
    """How far the answer has come in its grammar."""
