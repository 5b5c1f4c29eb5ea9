"""The engine: prompts in, completions out. A step is three verbs: schedule, run, postprocess.

Native code computes the steps where it can (fp32 models that fit packed), PyTorch the others; what either copied of
the weights `update_weights` refreshes. Decides nothing by itself but two things a model cannot: it writes `</think>`
where a thinking budget ran out, and it ends a sequence at its limits. Not covered: choosing the next token
(sampler.py), who runs when (scheduler.py), serving, votes and search.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from raison.engine.cache import LatentCache
from raison.engine.completion import completion_of
from raison.engine.grammar import Grammars, Matcher
from raison.engine.kernels.native import why_not
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import DTYPES, Dtype, Logits, Runner
from raison.engine.sampler import sample
from raison.engine.scheduler import Plan, Scheduler
from raison.engine.sequence import Event, SamplingParams, Sequence, sample_seed
from raison.engine.slots import GOING, LENGTH, STOP, Ints, Slots
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.records import Completion, FinishReason
from raison.text.reasoning import Piece, ReasoningStream
from raison.text.tokenizer import Tokenizer

REASONS: dict[int, FinishReason] = {STOP: "stop", LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Sizes of an engine; every count is of tokens or sequences."""

    page_size: int = 16
    cache_tokens: int = 65536
    max_batch: int = 256
    prefill_chunk: int = 512
    """Prompt tokens computed in one step, beside the decoding sequences."""
    dtype: Dtype = "fp32"
    """fp32, bf16, or weights of 8 or 4 bits (q8, q4: groups of 32, activations rounded to 8 bits)."""
    kernels: Literal["auto", "torch"] = "auto"
    """auto: native code where it serves (kernels/native.py says where), else PyTorch."""

    def __post_init__(self) -> None:
        for name in ("page_size", "max_batch", "prefill_chunk"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.cache_tokens < self.page_size:
            raise UserError(f"cache_tokens is {self.cache_tokens}; one page already holds {self.page_size}")
        if self.dtype not in DTYPES:
            raise UserError(f'dtype is "{self.dtype}"; it must be one of: {", ".join(DTYPES)}')
        if self.kernels not in ("auto", "torch"):
            raise UserError(f'kernels is "{self.kernels}"; it must be "auto" or "torch"')


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


class Engine:
    def __init__(self, model: Transformer, tokenizer: Tokenizer, settings: EngineSettings | None = None) -> None:
        self.settings = settings = settings or EngineSettings()
        self.model, self.tokenizer = model, tokenizer
        pages = settings.cache_tokens // settings.page_size
        spec = model.spec
        self._longest = min(spec.max_position_embeddings, pages * settings.page_size)
        blocks = -(-self._longest // settings.page_size)
        self._slots = Slots(settings.max_batch, self._longest, blocks, tokenizer.think_close, tokenizer.stops)
        cache = LatentCache(spec.num_hidden_layers, pages, settings.page_size, spec.cache_width, DTYPES[settings.dtype])
        self._scheduler = Scheduler(self._slots, cache.pool, settings.page_size, settings.prefill_chunk)
        self._runner = self._make_runner(cache)
        self._grammars = Grammars(tokenizer, spec.vocab_size)
        self._ids, self._groups = itertools.count(), itertools.count()
        self._undelivered: list[Event] = []
        self._steps = self._sampled = 0

    def _make_runner(self, cache: LatentCache) -> Runner | NativeRunner:
        """Native code where it may be used and serves the model, else PyTorch."""
        dtype = self.settings.dtype
        if self.settings.kernels == "auto" and dtype != "bf16" and why_not(self.model, dtype) is None:
            return NativeRunner(self.model, self._slots, cache, dtype)
        return Runner(self.model, self._slots, cache, dtype)

    @property
    def stats(self) -> Stats:
        scheduler, pool = self._scheduler, self._scheduler.pool
        return Stats(
            len(scheduler.running), len(scheduler.waiting), pool.available, pool.total, self._steps,
            scheduler.computed, scheduler.cached, self._sampled, scheduler.preemptions,
        )  # fmt: skip

    def submit(self, prompt_ids: Ordered[int], params: SamplingParams, n: int = 1) -> list[int]:
        """Queue `n` samples of one prompt; their numbers. They share the prompt's pages, and sample i its own seed.

        Raises UserError for an empty prompt, ids outside the vocabulary, or a request that can never fit.
        """
        return self._submit(prompt_ids, params, n, loud=True)

    def step(self) -> list[Event]:
        """Advance every sequence that can be; the tokens that came of it. Empty when there is nothing to do."""
        events, self._undelivered = self._undelivered, []
        if self._busy():
            events += self._step()[0]
        return events

    def cancel(self, sequence_id: int) -> None:
        """Stop a sequence and free its pages now; the next step tells its end. An unknown or ended number is no
        error.
        """
        for slot, seq in self._scheduler.running.items():
            if seq.id == sequence_id:
                self._cancelled(self._scheduler.finish(slot))
                return
        for seq in self._scheduler.waiting:
            if seq.id == sequence_id:
                self._scheduler.waiting.remove(seq)
                self._cancelled(seq)
                return

    def generate(
        self,
        prompts: Ordered[Ordered[int]],
        params: SamplingParams | Ordered[SamplingParams],
        n: int = 1,
        on_step: Callable[[Stats], None] | None = None,
    ) -> list[list[Completion]]:
        """Run all prompts to the end; [prompt][sample]. Other sequences under way advance too and keep their events.

        One SamplingParams for many prompts means the same seed for each; `SamplingParams.spread` makes seeds that
        differ.
        """
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise UserError(f"{len(prompts)} prompts but {len(each)} sampling parameters; give one, or one for each")
        done: dict[int, Completion | None] = {}
        try:
            groups = []
            for prompt, one in zip(prompts, each, strict=True):
                groups.append(self._submit(prompt, one, n, loud=False))
                done |= dict.fromkeys(groups[-1])
            self._drain(done, on_step)
        finally:
            for number in [i for i, completion in done.items() if completion is None]:
                self.cancel(number)
            self._undelivered = [event for event in self._undelivered if event.sequence_id not in done]
        return [[completion for i in group if (completion := done[i]) is not None] for group in groups]

    def stream(self, prompt_ids: Ordered[int], params: SamplingParams) -> Iterator[Event]:
        """One sequence's events as they come; closing the iterator cancels it."""
        (number,) = self.submit(prompt_ids, params)
        finished = False
        try:
            while not finished:
                events = self.step()
                self._undelivered += [event for event in events if event.sequence_id != number]
                for event in (event for event in events if event.sequence_id == number):
                    finished = finished or event.finished is not None
                    yield event
        finally:
            if not finished:
                self.cancel(number)
                self._undelivered = [event for event in self._undelivered if event.sequence_id != number]

    def update_weights(self) -> None:
        """Take over the model's changed weights, and forget prefixes that the old ones computed.

        Sequences under way keep what they have cached.
        """
        self._runner.refresh()
        self._scheduler.epoch += 1
        self._scheduler.pool.forget()

    def _submit(self, prompt_ids: Ordered[int], params: SamplingParams, n: int, loud: bool) -> list[int]:
        prompt = [int(i) for i in prompt_ids]
        self._check(prompt, params, n)
        group, now = next(self._groups), time.perf_counter()
        tags = [i for i in prompt if i in (self.tokenizer.think_open, self.tokenizer.think_close)]
        thinks = bool(tags) and tags[-1] == self.tokenizer.think_open
        numbers = list(itertools.islice(self._ids, n))
        for i, number in enumerate(numbers):
            told = loud or bool(params.stop)
            stream = self._stream(thinks, params) if told else None
            seed = sample_seed(params.seed, i)
            seq = Sequence(number, prompt, params, seed, group, thinks, bool(tags) and not thinks, stream, loud, now)
            seq.closed_at = -1 if thinks else 0
            seq.matcher = None if params.grammar is None else self._grammars.start(params.grammar)
            self._scheduler.waiting.append(seq)
        return numbers

    def _stream(self, thinks: bool, params: SamplingParams) -> ReasoningStream:
        return ReasoningStream(self.tokenizer.decode, self._slots.think_close, thinks, params.stop)

    def _check(self, prompt: list[int], params: SamplingParams, n: int) -> None:
        if n < 1:
            raise UserError(f"n is {n}; it must be at least 1")
        if not prompt:
            raise UserError("the prompt is empty; it needs at least one token")
        vocabulary = self.model.spec.vocab_size
        if min(prompt) < 0 or max(prompt) >= vocabulary:
            raise UserError(f"the prompt has ids outside the vocabulary of {vocabulary}; encode it with this tokenizer")
        if len(prompt) + params.max_tokens > self._longest:
            raise UserError(
                f"{len(prompt)} prompt tokens and max_tokens {params.max_tokens} exceed the {self._longest} that fit; "
                "lower max_tokens, or raise cache_tokens if the model reaches further"
            )

    def _busy(self) -> bool:
        return bool(self._scheduler.running or self._scheduler.waiting)

    def _drain(self, done: dict[int, Completion | None], on_step: Callable[[Stats], None] | None) -> None:
        while None in done.values():
            kept: list[Event] = []
            for event in self._undelivered:
                if event.sequence_id in done:
                    done[event.sequence_id] = event.finished
                else:
                    kept.append(event)
            self._undelivered = kept
            if self._busy():
                events, silent = self._step()
                self._undelivered += events
                done |= silent
            if on_step is not None:
                on_step(self.stats)

    @torch.inference_mode()
    def _step(self) -> tuple[list[Event], dict[int, Completion]]:
        """Schedule, run, postprocess. Events of the loud sequences, and what the silent ones came to."""
        plan = self._scheduler.schedule()
        logits = self._runner.run(plan)
        self._steps += 1
        return self._postprocess(plan, logits)

    def _postprocess(self, plan: Plan, logits: Logits) -> tuple[list[Event], dict[int, Completion]]:
        self._scheduler.commit(plan)
        rows = plan.samples
        if not len(rows):
            return [], {}
        forced = self._slots.must_close(rows)
        matchers = self._matchers(rows)
        masks = {i: matcher.allowed() for i, matcher in matchers}
        tokens, logprobs = sample(logits, self.model.spec.vocab_size, self._slots, rows, masks)
        for i, matcher in matchers:
            matcher.take(int(tokens[i]))
        tokens = np.where(forced, self._slots.think_close, tokens)
        logprobs = np.where(forced, np.float32(0), logprobs)
        state = self._slots.append(rows, tokens, logprobs, forced)
        self._sampled += len(rows)
        touched = np.flatnonzero((state != GOING) | self._slots.told[rows])
        return self._tell([(int(rows[i]), int(tokens[i]), int(state[i])) for i in touched])

    def _matchers(self, rows: Ints) -> list[tuple[int, Matcher]]:
        """By index into `rows`, where an answer that follows a grammar has begun."""
        if not self._slots.bound[rows].any():
            return []
        begun = np.flatnonzero(self._slots.bound[rows] & (self._slots.closed_at[rows] >= 0))
        return [(int(i), m) for i in begun if (m := self._scheduler.running[int(rows[i])].matcher) is not None]

    def _tell(self, touched: list[tuple[int, int, int]]) -> tuple[list[Event], dict[int, Completion]]:
        events: list[Event] = []
        silent: dict[int, Completion] = {}
        for slot, token, state in touched:
            seq = self._scheduler.running[slot]
            piece, state = self._read(seq, token, state)
            completion = None
            if state != GOING:
                completion = completion_of(self._scheduler.finish(slot), REASONS[state], self.tokenizer)
            if seq.loud:
                events.append(Event(seq.id, token, piece.text or None, piece.thinking, completion))
            elif completion is not None:
                silent[seq.id] = completion
        return events, silent

    def _read(self, seq: Sequence, token: int, state: int) -> tuple[Piece, int]:
        """Feed the sequence's text, if anyone reads it; a stop string ends the sequence."""
        stream = seq.stream
        if stream is None:
            return Piece("", False), state
        if token in self.tokenizer.stops:
            return stream.finish(), state
        piece = stream.push(token)
        if stream.stopped:
            return piece, STOP
        if state != GOING:
            piece = Piece(piece.text + stream.finish().text, piece.thinking)
        return piece, state

    def _cancelled(self, seq: Sequence) -> None:
        completion = completion_of(seq, "cancelled", self.tokenizer)
        last = seq.stream.finish() if seq.stream is not None else Piece("", False)
        self._undelivered.append(Event(seq.id, None, last.text or None, last.thinking, completion))
