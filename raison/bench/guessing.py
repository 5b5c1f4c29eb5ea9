"""`raison bench guesses`: what guessing ahead brings: tokens/s, tokens a step and guesses right, by source and depth.

Everyone answers the same problems with the same seeds, and must say the same tokens; the ways alternate, and the median
of the rounds counts. Problems are those of the model's own task, questions of everyday life where it has none. Not
covered: other people's engines (engine_speed.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from raison.engine.engine import Engine, EngineSettings, Speculation, native_width
from raison.engine.sequence import SamplingParams
from raison.errors import UserError
from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.text.chat import prompt_ids

QUESTIONS = (
    "What is the capital of France?", "Write the numbers from one to ten.", "Why is the sky blue?",
    "Name three fruits and say what colour each has.", "How do I boil an egg?", "What is 12 times 12?",
    "Tell me a short story about a fox.", "Repeat after me: the rain in Spain stays mainly in the plain.",
)  # fmt: skip
ANSWER = 128
LEVEL = 2
Note = Callable[[str], None]


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


def bench_guesses(
    reasoner: Reasoner, work: Work, depths: Sequence[int], note: Note = lambda text: None
) -> dict[str, Any]:
    """Figures by way: `rates` in tokens/s, `tokens_a_step`, `right` as a share of guesses, `gains` over none."""
    if native_width(reasoner.model, reasoner.settings) is None:
        raise UserError(
            "guesses are measured in native code alone; raison doctor says why there is none for this model"
        )
    prompts = [prompt_ids(reasoner.tokenizer, text, []) for text in _problems(reasoner, work.problems)]
    sources: tuple[Speculation, ...] = ("mtp", "lookup") if reasoner.spec.num_nextn_predict_layers else ("lookup",)
    ways = [Way("none", 1), *(Way(s, d) for s in sources for d in depths), Way("auto", max(depths))]
    engines = {way: _engine(reasoner, way, work.streams) for way in ways}
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    tokens = dict.fromkeys(ways, 0)
    for turn in range(work.rounds + 1):
        said = []
        for way, engine in engines.items():
            begun = time.perf_counter()
            found = _answers(engine, prompts, work, turn)
            if turn:  # the first warms up
                seconds[way].append(time.perf_counter() - begun)
            tokens[way] += sum(map(len, found))
            said.append(found)
        assert all(found == said[0] for found in said), "guessing changed what the model says"
        each = sum(map(len, said[0]))
        if turn:
            note(f"round {turn}, tokens/s: " + "  ".join(f"{w.name} {each / seconds[w][-1]:,.0f}" for w in ways))
    took = {way: median(times) for way, times in seconds.items()}
    stats = {way: engine.stats for way, engine in engines.items()}
    mean = {way: tokens[way] / (work.rounds + 1) for way in ways}
    return {
        "streams": work.streams, "problems": work.problems, "temperature": work.temperature,
        "rates": {way.name: mean[way] / took[way] for way in ways},
        "tokens_a_step": {w.name: s.tokens_sampled / (s.tokens_sampled - s.guesses_right) for w, s in stats.items()},
        "right": {w.name: s.guesses_right / s.tokens_guessed for w, s in stats.items() if s.tokens_guessed},
        "gains": {way.name: took[ways[0]] / took[way] for way in ways[1:]},
    }  # fmt: skip


def _engine(reasoner: Reasoner, way: Way, streams: int) -> Engine:
    settings = EngineSettings(
        cache_tokens=reasoner.settings.cache_tokens, max_batch=streams, dtype=reasoner.settings.dtype,
        speculation=way.source, draft_tokens=way.depth,
    )  # fmt: skip
    return Engine(reasoner.model, reasoner.tokenizer, settings)


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


def _problems(reasoner: Reasoner, count: int) -> list[str]:
    name = reasoner.provenance.get("task")
    if not isinstance(name, str):
        return [QUESTIONS[i % len(QUESTIONS)] for i in range(count)]
    task, level = load_task(name, held_out=True), reasoner.provenance.get("level", LEVEL)
    return [task.sample(seed, level).prompt for seed in range(count)]
