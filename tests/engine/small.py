"""A random model small enough to run in a blink: experts in groups, an MTP module, and the project's own vocabulary."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.engine.settings import EngineSettings
from raison.model.transformer import Transformer
from raison.records import Completion
from raison.text.tokenizer import BOS, THINK_OPEN, USER, Tokenizer
from tests.shapes import SMALL, random_model

TOKENIZER = Tokenizer.build()
SPEC = replace(SMALL, vocab_size=1280, num_hidden_layers=2, max_position_embeddings=1024)


@cache
def small_model() -> Transformer:
    return random_model(SPEC)


def make_engine(**settings: Any) -> Engine:
    sizes: dict[str, Any] = {"page_size": 4, "cache_tokens": 4096, "max_batch": 16, "prefill_chunk": 64}
    return Engine(small_model(), TOKENIZER, EngineSettings(**{**sizes, **settings}))


def prompt(length: int, seed: int) -> list[int]:
    """So many random tokens that end inside `<think>`."""
    numbers = random.Random(seed)
    body = [numbers.randrange(7, TOKENIZER.size) for _ in range(length - 3)]
    bos, user, opening = map(TOKENIZER.special, (BOS, USER, THINK_OPEN))
    return [bos, user, *body, opening]


def params(seed: int, **more: Any) -> SamplingParams:
    """Lengths that differ from seed to seed; no limit but max_tokens."""
    return SamplingParams(**{"max_tokens": 40 + seed % 7 * 5, "answer_tokens": 200, "seed": seed, **more})


def ids(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]
