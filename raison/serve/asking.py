"""From a request's fields to what the engine is asked: limits of tokens, thinking budgets, stops, grammar.

`max_tokens` covers thinking, `</think>` and answer (OpenAI's rule, and DeepSeek's since R1-0528). A model that thinks
always keeps a part of it for the answer, so that a request cannot come back empty because the thoughts ate its limit;
a budget that is asked for is never exceeded, and cut where the limit leaves less. The context is a limit like another:
a request for more is cut there, and a prompt that leaves no room is an error. Not covered: prompts (conversation.py).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from raison.engine.grammar import Grammar
from raison.engine.sequence import MARKS, SEED_LIMIT, SamplingParams
from raison.serve.judging import Plan
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest, ResponseFormat, Sampling
from raison.serve.settings import ServeSettings
from raison.think.effort import budget_of
from raison.think.strategy import Bound

ANSWER_SHARE, LEAST_ANSWER, MOST_ANSWER = 4, 64, 1024
"""Kept for the answer: a quarter of the limit, within these bounds, and never more than half."""
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Order:
    """One request, ready for the engine."""

    endpoint: str
    model: str
    prompts: tuple[tuple[int, ...], ...]
    """One for chat; plain completions may bring several."""
    params: SamplingParams
    n: int
    """Samples of each prompt."""
    tokens: bool = False
    """Whether every token's event is wanted, not only the text."""
    plan: Plan | None = None
    """How more than one sample is spent on one answer."""

    @property
    def branches(self) -> int:
        """At most so many at once."""
        return self._bound.branches

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def most_tokens(self) -> int:
        """Prompts, and the most that may be generated."""
        return self.prompt_tokens + self._bound.tokens

    @property
    def _bound(self) -> Bound:
        if self.plan is not None:
            return self.plan.strategy.bound(self.params.max_tokens)
        branches = self.n * len(self.prompts)
        return Bound(branches, branches * self.params.max_tokens)


class Reach(NamedTuple):
    """What a model can hold: tokens of prompt and answer together, and ids."""

    context: int
    vocabulary: int


def room(prompt: int, context: int) -> int:
    """Tokens that may be generated after a prompt of so many. Raises Mistake where there is none."""
    if prompt + MARKS >= context:
        raise Mistake(
            f"the prompt has {prompt} tokens and this model's context is {context}; shorten it",
            "messages", "context_length_exceeded",
        )  # fmt: skip
    return context - prompt


def sampling(
    request: Sampling, prompt: int, reach: Reach, limits: ServeSettings, *, most: int | None, budget: int | None,
    thinks: bool, least: int = 0, grammar: Grammar | None = None, top: int | None = None,
) -> SamplingParams:  # fmt: skip
    """Parameters for one prompt of so many tokens.

    `most`, `budget` and `least` are the request's limits of all tokens, and of thinking; None = none.
    """
    space = room(prompt, reach.context)
    most = space if most is None else min(most, space)
    thinking = thinking_limit(most, budget) if thinks else None
    return SamplingParams(
        temperature=1.0 if request.temperature is None else request.temperature,
        top_k=max(request.top_k or 0, 0),
        top_p=1.0 if request.top_p is None else request.top_p,
        min_p=request.min_p or 0.0,
        max_tokens=most,
        thinking_budget=thinking,
        min_thinking=min(least, thinking) if thinking is not None else 0,
        answer_tokens=most,
        stop=stops(request.stop, limits),
        seed=secrets.randbelow(SEED_LIMIT) if request.seed is None else request.seed % SEED_LIMIT,
        grammar=grammar,
        logit_bias=biases(request.logit_bias, reach.vocabulary, limits),
        min_tokens=min(request.min_tokens or 0, most),
        ignore_eos=bool(request.ignore_eos),
        top_logprobs=top or 0,
    )


def biases(given: Mapping[str, float] | None, vocabulary: int, limits: ServeSettings) -> tuple[tuple[int, float], ...]:
    """Raises Mistake for what is no token's id, and for too many."""
    given = given or {}
    if len(given) > limits.max_biases:
        raise Mistake(f"logit_bias has {len(given)} tokens; at most {limits.max_biases} are taken", "logit_bias")
    for token in given:
        if not (token.isdecimal() and token.isascii() and len(token) < 10 and int(token) < vocabulary):
            raise Mistake(
                f'logit_bias names "{token:.20}", which is no id of this vocabulary of {vocabulary}', "logit_bias"
            )
    return tuple((int(token), bias) for token, bias in given.items())


def thinking_limit(most: int, budget: int | None) -> int:
    """Thinking tokens of a request for `most` tokens in all, so that an answer still fits."""
    kept = min(max(most // ANSWER_SHARE, LEAST_ANSWER), most // 2, MOST_ANSWER)
    left = max(0, most - kept - MARKS)
    return left if budget is None else min(budget, left)


def asked_budget(request: ChatRequest, provenance: Mapping[str, Any], context: int) -> int | None:
    """The thinking budget by whichever name it was given; the smallest where there are several. 0 = no thinking."""
    off = request.thinking is not None and request.thinking.type == "disabled"
    kwargs = request.chat_template_kwargs or {}
    off |= kwargs.get("enable_thinking") is False or kwargs.get("thinking") is False
    effort = "none" if off else request.reasoning_effort
    named = [
        request.thinking_token_budget,
        request.thinking_budget_tokens,
        request.thinking.budget_tokens if request.thinking is not None else None,
        None if effort is None else budget_of(effort, provenance, context),
    ]
    return min((budget for budget in named if budget is not None), default=None)


def stops(given: str | list[str] | None, limits: ServeSettings) -> tuple[str, ...]:
    """Raises Mistake for too many, or too long ones; empty ones mean nothing."""
    found = (given,) if isinstance(given, str) else tuple(given or ())
    if len(found) > limits.max_stops:
        raise Mistake(f"{len(found)} stop strings; at most {limits.max_stops} are taken", "stop")
    if any(len(stop) > limits.max_stop_characters for stop in found):
        raise Mistake(f"a stop string is longer than {limits.max_stop_characters} characters", "stop")
    return tuple(stop for stop in found if stop)


def choices(n: int | None, limits: ServeSettings) -> int:
    if n is not None and n > limits.max_choices:
        raise Mistake(f"n is {n}; this server draws at most {limits.max_choices} samples a request", "n")
    return n or 1


def grammar_of(wanted: ResponseFormat | None, limits: ServeSettings) -> Grammar | None:
    """What the answer must look like; it begins after `</think>`. Raises Mistake for a schema that is missing or too
    large.
    """
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return schema_grammar(ANY_OBJECT, limits, "response_format")
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise Mistake("response_format has the type json_schema but no json_schema.schema", "response_format")
    return schema_grammar(wanted.json_schema.schema_, limits, "response_format")


def schema_grammar(schema: Mapping[str, Any], limits: ServeSettings, param: str) -> Grammar:
    if len(json.dumps(schema)) > limits.max_schema_bytes:
        raise Mistake(f"the schema is larger than {limits.max_schema_bytes} bytes", param)
    return Grammar.of_schema(schema)
