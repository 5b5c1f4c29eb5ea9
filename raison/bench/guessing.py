"""`raison bench guesses`: what guessing ahead brings: tokens/s, tokens a step and guesses right, by source and depth.

Everyone answers the same problems with the same seeds, and must say the same tokens; the ways alternate, and the median
of the rounds counts. Problems are those of the model's own task, questions of everyday life where it has none. Not
covered: other people's engines (engine_speed.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from raison.bench.note import Note, unheard
from raison.bench.questions import questions_for
from raison.engine.backend import native_width
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.engine.settings import EngineSettings, Speculation
from raison.errors import UserError
from raison.reasoner import Reasoner
from raison.text.chat import prompt_ids

ANSWER = 128
SOURCES: tuple[Speculation, ...] = ("draft", "mtp", "lookup")


@dataclass(frozen=True, slots=True)
class Way:
    source: Speculation
    depth: int

    @property
    def name(self) -> str:
        return self.source if self.source in ("none", "auto") else f"{self.source} {self.depth}"


@dataclass(frozen=True, slots=True)
class Work:
    """How much is to be answered: problems, of which so many at once, and how often all of them."""

    problems: int
    streams: int
    rounds: int
    temperature: float


def bench_guesses(reasoner: Reasoner, work: Work, depths: Sequence[int], note: Note = unheard) -> dict[str, Any]:
    """Figures by way: `rates` in tokens/s, `tokens_a_step`, `right` as a share of guesses, `gains` over none."""
    if native_width(reasoner.model, reasoner.settings) is None:
        raise UserError("guesses are measured in native code alone; raison doctor says why this model has none")
    has = {"draft": reasoner.draft is not None, "mtp": reasoner.spec.num_nextn_predict_layers > 0, "lookup": True}
    sources = [source for source in SOURCES if has[source]]
    ways = [Way("none", 1), *(Way(s, d) for s in sources for d in depths), Way("auto", max(depths))]
    engines = {way: _engine(reasoner, way, work.streams) for way in ways}
    prompts = [prompt_ids(reasoner.tokenizer, text) for text in questions_for(reasoner, work.problems)]
    tokens, seconds = _race(engines, prompts, work, note)
    stats = {way.name: engine.stats for way, engine in engines.items()}
    return {
        "streams": work.streams, "problems": len(prompts), "temperature": work.temperature,
        "rates": {way.name: tokens / seconds[way] for way in ways},
        "tokens_a_step": {name: s.tokens_sampled / (s.tokens_sampled - s.guesses_right) for name, s in stats.items()},
        "right": {name: s.guesses_right / s.tokens_guessed for name, s in stats.items() if s.tokens_guessed},
        "gains": {way.name: seconds[ways[0]] / seconds[way] for way in ways[1:]},
    }  # fmt: skip


def _race(
    engines: Mapping[Way, Engine], prompts: Sequence[Sequence[int]], work: Work, note: Note
) -> tuple[float, dict[Way, float]]:
    """Tokens of a round in the mean, the same for all, and each way's median seconds for one."""
    seconds: dict[Way, list[float]] = {way: [] for way in engines}
    tokens = []
    for turn in range(work.rounds + 1):
        said = []
        for way, engine in engines.items():
            begun = time.perf_counter()
            said.append(_answers(engine, prompts, work, turn))
            seconds[way].append(time.perf_counter() - begun)
        assert all(found == said[0] for found in said), "guessing changed what the model says"
        tokens.append(sum(map(len, said[0])))
        rates = "  ".join(f"{way.name} {tokens[-1] / took[-1]:,.0f}" for way, took in seconds.items())
        note(f"round {turn}, tokens/s: {rates}" if turn else f"warm: {tokens[0]:,} tokens a round for each")
    return fmean(tokens[1:]), {way: median(took[1:]) for way, took in seconds.items()}


def _engine(reasoner: Reasoner, way: Way, streams: int) -> Engine:
    settings = EngineSettings(
        cache_tokens=reasoner.settings.cache_tokens, max_batch=streams, dtype=reasoner.settings.dtype,
        speculation=way.source, draft_tokens=way.depth,
    )  # fmt: skip
    draft = reasoner.draft if way.source in ("draft", "auto") else None
    return Engine(reasoner.model, reasoner.tokenizer, settings, draft)


def _answers(engine: Engine, prompts: Sequence[Sequence[int]], work: Work, turn: int) -> list[tuple[int, ...]]:
    """What is said to each prompt, so many at once, with seeds of the turn."""
    most = ANSWER if engine.tokenizer.think_close is None else SamplingParams().max_tokens
    found = []
    for start in range(0, len(prompts), work.streams):
        some = prompts[start : start + work.streams]
        asked = [
            SamplingParams(
                temperature=work.temperature, max_tokens=most, answer_tokens=ANSWER, seed=1000 * turn + start + i
            )
            for i in range(len(some))
        ]
        found += [group[0].token_ids for group in engine.generate(some, asked)]
    return found
