"""The Python interface: a model as an object that thinks about a prompt and answers.

    reasoner = raison.load("runs/countdown/model")      # or a Hugging Face folder, a .gguf file, "smollm2"
    best = reasoner.generate("Make 38 from 3, 7, 17", budget=256, n=4)[0]
    print(best.thinking, best.answer)
    outcome = reasoner.think("Make 38 from 3, 7, 17", "auto")           # samples until more would not be worth it
    print(outcome.completion.answer, outcome.tokens)

Everything goes through one Engine, made on first use. Not covered: several prompts at once (use
`.engine` and think/), use from several threads at a time, training.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from raison.engine.backend import token_bytes
from raison.engine.device import Device, device_of, free_bytes
from raison.engine.engine import Engine
from raison.engine.grammar import Grammar
from raison.engine.kernels.native import library, warm
from raison.engine.kernels.weights import Precision, known_width
from raison.engine.line import CacheDtype
from raison.engine.sequence import MARKS, Event, SamplingParams
from raison.engine.settings import Draft, EngineSettings, Speculation
from raison.engine.twin import Dtype
from raison.errors import CheckpointError, UserError
from raison.files import SHIPPED as SHIPPED
from raison.hardware import MOST_THREADS, available_memory
from raison.model.packed import PackedMatrix
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.records import Completion
from raison.text.chat import Turn, prompt_ids
from raison.text.tokenizer import Tokenizer
from raison.think.drive import drive
from raison.think.effort import budget_of
from raison.think.engine_sampler import EngineSampler
from raison.think.equivalence import Equivalence, SameForm
from raison.think.judged import Score
from raison.think.parse import Context, parse_strategy
from raison.think.strategy import Outcome
from raison.weights import source

EXACT = (".mlp.gate.weight", ".self_attn.kv_b_proj.weight")
"""Routers, exact in every file, and what native code folds into queries and values in fp32 whatever its width."""
THINKERS_ANSWER, PLAIN_ANSWER = 64, 512
SMALLEST_CACHE = 512


def load(
    path: str | Path | None = None,
    *,
    threads: int = 0,
    dtype: Dtype | Literal["auto"] = "auto",
    speculation: Speculation = "auto",
    draft: str | Path | None = None,
    cache_dtype: CacheDtype = "auto",
    device: Device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Reasoner:
    """A model: a folder of ours or of Hugging Face's, a .gguf file, `smollm2`, a name of the hub, or what is shipped.

    The reasoner that is shipped with the package is what None means.

    Args:
        threads: threads for PyTorch in this whole process; 0 leaves them as they are.
        dtype: what the engine computes in: fp32, bf16, or weights of 8 or 4 bits (q8, q4); auto takes the width of the
            blocks of a GGUF file where native code reads them, else fp32; on CUDA bf16. `logits` is always fp32.
        speculation: where guesses of the next tokens come from (EngineSettings); auto leaves them where they save no
            time, and where they could change a token.
        draft: a smaller model of the same vocabulary, whose guesses the model checks; whatever `path` may be.
        cache_dtype: what the engine keeps of each token in: fp32, fp16 or 8 bits (q8); auto is fp16 beside weights of 8
            or 4 bits, else as wide as they.
        device: where the engine computes, cpu or cuda (one GPU, by PyTorch; no GPU was at hand to measure it on).
            `logits` is computed on the CPU.
        progress: told of bytes of weights that are ready, and of all.

    Raises CheckpointError when the folder is missing or damaged, UserError for other arguments that make no sense, and
    for a draft model of another vocabulary.
    """
    if not 0 <= threads <= MOST_THREADS:
        raise UserError(f"threads is {threads}; it must be 0 (leave as it is) or more, {MOST_THREADS:,} at most")
    device_of(device)
    if path is None and not SHIPPED.is_dir():
        raise CheckpointError(
            f"this installation has no shipped reasoner ({SHIPPED}); make one with `raison run recipes/countdown.toml` "
            "and give its model folder"
        )
    if threads:
        torch.set_num_threads(threads)

    def early(tensors: Mapping[str, PackedMatrix]) -> None:
        width = stored_width(tensors)
        if device == "cpu" and width != "fp32" and dtype in ("auto", width):
            warm(tensors)

    opened = source.open_model(SHIPPED if path is None else path, early)
    stored = stored_width(opened.tensors)
    usual = stored if device == "cpu" else "bf16"
    width = usual if dtype == "auto" else dtype
    settings = EngineSettings(dtype=width, speculation=speculation, cache_dtype=cache_dtype, device=device)
    loaded = opened.load(packed=True if settings.dtype == stored != "fp32" else None, progress=progress)
    second = None if draft is None else load_draft(draft)
    return Reasoner(loaded.model, loaded.tokenizer, loaded.provenance, settings, loaded.notes, second)


def load_draft(path: str | Path) -> Draft:
    """A draft model in the width of its file, or in 8 bits."""
    opened = source.open_model(path)
    stored = stored_width(opened.tensors)
    loaded = opened.load(packed=True if stored != "fp32" else None)
    return Draft(loaded.model, loaded.tokenizer, "q8" if stored == "fp32" else stored)


def stored_width(tensors: Mapping[str, PackedMatrix]) -> Precision:
    """q4 or q8 where the layers' matrices but EXACT are blocks of that width and native code reads them, else fp32."""
    matrices = {name: x for name, x in tensors.items() if ".layers." in name and len(x.shape) == 2}
    widths = {known_width(tensor) for name, tensor in matrices.items() if not name.endswith(EXACT)}
    return widths.pop() if len(widths) == 1 and library().handle is not None else "fp32"


def fitted(settings: EngineSettings, model: Transformer, draft: Draft | None = None) -> EngineSettings:
    """With no more cache than takes a quarter of the memory left there, in the width and layers that it will have; but
    at least as much as makes sense.
    """
    left = available_memory() if settings.device == "cpu" else free_bytes(device_of(settings.device))
    fitting = max(SMALLEST_CACHE, left // 4 // token_bytes(model, settings, draft))
    return replace(settings, cache_tokens=min(settings.cache_tokens, fitting))


class Limits(TypedDict):
    thinking_budget: int | None
    answer_tokens: int
    max_tokens: int


class Reasoner:
    """A model, its tokenizer and an engine to run them."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        provenance: dict[str, Any] | None = None,
        settings: EngineSettings | None = None,
        notes: Sequence[str] = (),
        draft: Draft | None = None,
    ) -> None:
        """Raises UserError for a draft model that could not guess this one's tokens."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.provenance = provenance or {}
        """How the model was made, as its raison.json or its metadata tells."""
        self.notes = tuple(notes)
        """What was left out when the model was loaded."""
        self.draft = draft
        if draft is not None:
            draft.check(model, tokenizer)
        self.settings = fitted(settings or EngineSettings(), model, draft)

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.model, self.tokenizer, self.settings, self.draft)

    def generate(
        self,
        prompt: str,
        *,
        budget: int | None = 512,
        n: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop: Sequence[str] = (),
        answer_tokens: int | None = None,
        min_thinking: int = 0,
        history: Sequence[Turn] = (),
        schema: Mapping[str, Any] | str | None = None,
        regex: str | None = None,
    ) -> list[Completion]:
        """Think about `prompt` and answer, `n` times.

        Args:
            budget: thinking tokens after which the engine closes the thinking; 0 answers at once, None lets the model
                think as far as its context reaches. It is lowered where the context would not hold it and the answer.
            n: samples; the first is that of n=1, and the same seed gives the same tokens whatever n is.
            stop: the answer ends before the first of these strings.
            answer_tokens: at most so many tokens after the thinking (None: 64), or in all where a model's vocabulary
                has no thinking (None: 512).
            min_thinking: no `</think>` before so many thinking tokens.
            history: earlier turns, answers without their thinking.
            schema, regex: what the answer must look like, a JSON schema or a regular expression; the thinking is free.

        Raises UserError when a value makes no sense or the prompt leaves no room for an answer.
        """
        ids = prompt_ids(self.tokenizer, prompt, history)
        params = SamplingParams(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, stop=_strings(stop), seed=seed,
            grammar=_grammar(schema, regex), min_thinking=min_thinking, **self.limits(ids, budget, answer_tokens),
        )  # fmt: skip
        return self.engine.generate([ids], params, n)[0]

    def stream(
        self,
        prompt: str,
        *,
        budget: int | None = 512,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop: Sequence[str] = (),
        answer_tokens: int | None = None,
        min_thinking: int = 0,
        history: Sequence[Turn] = (),
        schema: Mapping[str, Any] | str | None = None,
        regex: str | None = None,
    ) -> Iterator[Event]:
        """As `generate` for one sample, token by token; the last event carries the Completion. Closing it cancels."""
        ids = prompt_ids(self.tokenizer, prompt, history)
        params = SamplingParams(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, stop=_strings(stop), seed=seed,
            grammar=_grammar(schema, regex), min_thinking=min_thinking, **self.limits(ids, budget, answer_tokens),
        )  # fmt: skip
        return self.engine.stream(ids, params)

    def think(
        self,
        prompt: str,
        strategy: Mapping[str, Any] | str = "auto",
        *,
        budget: int | None = 512,
        seed: int = 0,
        temperature: float = 1.0,
        min_thinking: int = 0,
        score: Score | None = None,
        same: Equivalence | None = None,
        history: Sequence[Turn] = (),
    ) -> Outcome:
        """Answer by several samples: a name of think/parse.py's VOTES, or a mapping with its settings.

        Args:
            score: a reward function of a finished sample, 0 or more, which best-of-n and weighted ask for.
            same: when two answers are one (None: by value, think/equivalence.py).

        The outcome has the chosen completion, the tally, what stopped it, and every branch with its tokens. Raises
        UserError when a value makes no sense. Inside an event loop use think.drive.
        """
        ids = prompt_ids(self.tokenizer, prompt, history)
        limits = self.limits(ids, budget)
        params = SamplingParams(temperature=temperature, seed=seed, min_thinking=min_thinking, **limits)
        context = Context(params.max_tokens, score=score, same=same or SameForm())
        wish = {"vote": strategy} if isinstance(strategy, str) else strategy
        return asyncio.run(drive(parse_strategy(wish, context), EngineSampler(self.engine, ids, params)))

    @torch.no_grad()
    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Logits after each of `token_ids`, [tokens, vocabulary] in fp32, whatever dtype the engine has."""
        longest, vocabulary = self.spec.max_position_embeddings, self.spec.vocab_size
        if not 1 <= len(token_ids) <= longest:
            raise UserError(f"{len(token_ids)} token ids; this model reads 1 to {longest}")
        if min(token_ids) < 0 or max(token_ids) >= vocabulary:
            raise UserError(f"token ids must be from 0 to {vocabulary - 1}; encode text with .tokenizer")
        return self.model.score(token_ids)

    @property
    def context(self) -> int:
        """Tokens of prompt and completion that the engine holds at most."""
        return min(self.spec.max_position_embeddings, self.settings.cache_tokens)

    def budget_of(self, effort: str) -> int | None:
        """Thinking tokens of an effort level (think/effort.py), as measured for this model where it was."""
        return budget_of(effort, self.provenance, self.context)

    def limits(self, prompt: Sequence[int], budget: int | None, answer: int | None = None) -> Limits:
        """What leaves room for prompt, thinking and answer in the context, as SamplingParams' fields."""
        thinks = self.tokenizer.think_close is not None
        answer = answer if answer is not None else THINKERS_ANSWER if thinks else PLAIN_ANSWER
        room = self.context - len(prompt) - MARKS - (answer if thinks else 1)
        if room < 0:
            raise UserError(
                f"the prompt has {len(prompt)} tokens and the answer may have {answer}, but the context is "
                f"{self.context}; shorten the prompt or lower answer_tokens"
            )
        if not thinks:
            return Limits(thinking_budget=None, answer_tokens=answer, max_tokens=min(answer, room + 1))
        if budget is None:
            return Limits(thinking_budget=None, answer_tokens=answer, max_tokens=room + answer + MARKS)
        budget = min(budget, room)
        return Limits(thinking_budget=budget, answer_tokens=answer, max_tokens=max(budget, 0) + answer + MARKS)


def _grammar(schema: Mapping[str, Any] | str | None, regex: str | None) -> Grammar | None:
    if schema is not None and regex is not None:
        raise UserError("an answer follows a schema or a regex, not both; leave one out")
    if schema is not None:
        return Grammar.of_schema(schema)
    return None if regex is None else Grammar("regex", regex)


def _strings(stop: Sequence[str]) -> tuple[str, ...]:
    """A single string would otherwise be taken apart into its letters."""
    return (stop,) if isinstance(stop, str) else tuple(stop)
