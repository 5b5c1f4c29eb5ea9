"""Random mixes of requests against the same requests one by one: lengths, budgets, samples, prefixes, cancellations, in
caches too small for them, in every width of weights and of the cache, with guesses and without, with room to swap and
without.

RAISON_MIXES=10000 runs as many (default 150 for each width).
"""

from __future__ import annotations

import math
import os
import random
from functools import cache
from typing import Literal

import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.line import CacheDtype
from raison.engine.sequence import SamplingParams
from raison.engine.settings import Draft, EngineSettings
from raison.records import Completion
from tests.engine.small import TOKENIZER, prompt, small_model

MIXES = int(os.environ.get("RAISON_MIXES", "150"))
Width = tuple[Literal["fp32", "q8", "q4"], CacheDtype]
WIDTHS: list[Width] = [("fp32", "auto"), ("q8", "auto"), ("q4", "auto"), ("fp32", "q8"), ("q8", "q8")]
Guesses = Literal["none", "auto", "mtp", "lookup", "draft"]


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


def engine_of(
    width: Width, tokens: int, batch: int, chunk: int, swap: int = 0, guesses: Guesses = "none", page: int = 4,
    turns: int = 64,
) -> Engine:  # fmt: skip
    settings = EngineSettings(
        page_size=page, cache_tokens=tokens, swap_tokens=swap, max_batch=batch, prefill_chunk=chunk, dtype=width[0],
        cache_dtype=width[1], speculation=guesses, turns=turns,
    )  # fmt: skip
    draft = Draft(small_model(), TOKENIZER) if guesses == "draft" else None
    return Engine(small_model(), TOKENIZER, settings, draft)


Asked = tuple[tuple[int, int], SamplingParams, int]
"""Length and seed of the prompt, how to sample it, and how many samples."""


def draw(numbers: random.Random) -> Asked:
    length = numbers.choice((3, 5, 8, 9, 17, 30, 47))
    params = SamplingParams(
        temperature=numbers.choice((0.0, 0.7, 1.0)), max_tokens=(most := numbers.randint(1, 24)),
        thinking_budget=numbers.choice((None, 0, 3, 9)), answer_tokens=numbers.randint(1, 20),
        top_k=numbers.choice((0, 0, 0, 5)), top_p=numbers.choice((1.0, 1.0, 0.9)), seed=numbers.randint(0, 5),
        min_p=numbers.choice((0.0, 0.0, 0.05)), logit_bias=numbers.choice(((), (), ((77, 4.0), (78, -math.inf)))),
        min_tokens=numbers.choice((0, 0, most // 2)), ignore_eos=numbers.random() < 0.1,
    )  # fmt: skip
    return (length, numbers.randint(0, 2)), params, numbers.randint(1, 3)


@cache
def reference(width: Width) -> Engine:
    return engine_of(width, 4096, 4, 64)


@cache
def alone(width: Width, asked: Asked) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    place, params, n = asked
    (group,) = reference(width).generate([prompt(*place)], params, n)
    return [(completion.token_ids, completion.logprobs) for completion in group]


def lives(engine: Engine, requests: list[Asked], numbers: random.Random) -> dict[tuple[int, int], Completion]:
    """What became of each sample, by request and number; some are cancelled on the way."""
    owner: dict[int, tuple[int, int]] = {}
    ends: dict[tuple[int, int], Completion] = {}
    waiting = list(enumerate(requests))
    while waiting or engine.stats.running or engine.stats.waiting:
        while waiting and numbers.random() < 0.6:
            index, (place, params, n) = waiting.pop(0)
            owner |= {number: (index, i) for i, number in enumerate(engine.submit(prompt(*place), params, n))}
        if owner and numbers.random() < 0.05:
            engine.cancel(numbers.choice(list(owner)))
        for event in engine.step():
            if event.finished is not None:
                ends[owner[event.sequence_id]] = event.finished
    for event in engine.step():
        if event.finished is not None:
            ends[owner[event.sequence_id]] = event.finished
    return ends


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_random_mixes_are_the_requests_one_by_one(width: Width) -> None:
    numbers = random.Random(f"mixes/{'/'.join(width)}")
    preempted = restored = cancelled = compared = 0
    engine = engine_of(width, 160, 6, 13)
    for mix in range(MIXES):
        if mix % 25 == 0:
            preempted, restored = preempted + engine.stats.preemptions, restored + engine.stats.tokens_restored
            turn = mix // 25  # every cache with every room in turn, the first with too little of both
            tokens, room = (96, 160, 400)[turn % 3], (24, 400, 0)[(turn + turn // 3) % 3]
            sizes = tokens, numbers.randint(2, 7), numbers.choice((5, 13, 64)), room
            guesses: Guesses = numbers.choice(("none", "auto", "mtp", "lookup", "draft"))
            turns = numbers.choice((4, 64)) if turn % 2 else 1  # requests overlap more token by token
            engine = engine_of(width, *sizes, guesses, numbers.choice((4, 16)), turns)
        requests = [draw(numbers) for _ in range(numbers.randint(1, 5))]
        ends = lives(engine, requests, numbers)
        assert len(ends) == sum(n for _, _, n in requests)
        for (index, sample), end in ends.items():
            tokens, logprobs = alone(width, requests[index])[sample]
            stopped = end.finish_reason == "cancelled"
            cancelled, compared = cancelled + stopped, compared + len(end.token_ids)
            assert end.token_ids == (tokens[: len(end.token_ids)] if stopped else tokens), requests[index]
            assert end.logprobs == logprobs[: len(end.logprobs)]
        pool, swap = engine._scheduler.pool, engine._scheduler.room
        assert pool.available == pool.total and not pool.references.any() and not engine._scheduler.followers
        assert swap.available == swap.total
    assert restored + engine.stats.tokens_restored > MIXES / 10
    assert preempted + engine.stats.preemptions > MIXES / 50 and cancelled > MIXES / 50 and compared > 20 * MIXES
