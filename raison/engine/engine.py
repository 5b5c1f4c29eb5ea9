"""The engine: prompts in, completions out. A step is four verbs: schedule, run, postprocess, and guess where that pays.

Native code computes the steps where it can, PyTorch the others (backend.py); what either copied of the weights
`update_weights` refreshes. Decides nothing by itself but two things a model cannot: it writes `</think>`
where a thinking budget ran out, and it ends a sequence at its limits. Not covered: choosing the next token
(sampler.py), who runs when (scheduler.py), serving, votes and search.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered

import numpy as np
import torch
from torch import Tensor

from raison.engine.backend import Guessing, cache_of, draft_runner, guessing_of, runner_of
from raison.engine.completion import completion_of
from raison.engine.drafter import READ_AT_ONCE, Drafter
from raison.engine.drawing import Drawing
from raison.engine.grammar import Grammars
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import Logits, Runner
from raison.engine.scheduler import Plan, Scheduler
from raison.engine.sequence import Event, SamplingParams, Sequence, Stats, sample_seed
from raison.engine.settings import Draft, EngineSettings
from raison.engine.slots import GOING, LENGTH, STOP, Ints, Slots
from raison.engine.speculate import GAP, Lookup, Predictor, Source
from raison.engine.turns import Turns
from raison.engine.worth import Worth
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.records import Completion, FinishReason
from raison.text.reasoning import Piece, ReasoningStream
from raison.text.tokenizer import Tokenizer

Told = tuple[list[Event], dict[int, Completion]]
"""Events of the loud sequences, and what the silent ones came to."""
Advanced = tuple[Told, int, int]
"""What is told, of how many rows, and how many guesses were made for each; no rows where prompts were computed too."""
REASONS: dict[int, FinishReason] = {STOP: "stop", LENGTH: "length"}


class Engine:
    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        settings: EngineSettings | None = None,
        draft: Draft | None = None,
    ) -> None:
        """Raises UserError where the settings ask for guesses that there are not, or the draft model cannot make."""
        self.settings = settings = settings or EngineSettings()
        self.model, self.tokenizer = model, tokenizer
        pages = settings.cache_tokens // settings.page_size
        spec = model.spec
        self._longest = min(spec.max_position_embeddings, pages * settings.page_size)
        blocks = -(-self._longest // settings.page_size)
        self._slots = Slots(settings.max_batch, self._longest, blocks, tokenizer.think_close, tokenizer.stops)
        guessing = guessing_of(model, settings, draft)
        cache = cache_of(model, settings, guessing)
        self._scheduler = Scheduler(self._slots, cache.pool, cache.room, settings.page_size, settings.prefill_chunk)
        self._runner = runner_of(model, self._slots, cache, settings, guessing == "mtp")
        if draft is not None:
            draft.check(model, tokenizer)
        drafts = draft_runner(draft, self._slots, cache, settings) if draft and guessing == "draft" else None
        self._guesses = self._source_of_guesses(guessing, drafts)
        self._turns = self._native_turns(drafts)
        self.cache_bytes = cache.nbytes
        """Of the cache and the room for swapping: planned here, filled as they are used, never exceeded."""
        chooses = settings.speculation == "auto" and guessing != "none"
        self._worth = Worth(settings.draft_tokens) if chooses else None
        self._drawing = Drawing(self._slots, self._scheduler.running, tokenizer.stops, spec.vocab_size)
        self._grammars = Grammars(tokenizer, spec.vocab_size)
        self._ids, self._groups = itertools.count(), itertools.count()
        self._undelivered: list[Event] = []
        self._steps = self._sampled = self._guessed = self._right = 0

    def _source_of_guesses(self, guessing: Guessing, draft: Runner | NativeRunner | None) -> Source | None:
        if draft is not None:
            return Drafter(self._slots, draft)
        if guessing == "mtp":
            return Predictor(self._slots, self._scheduler, self._runner)
        return Lookup(self._slots) if guessing == "lookup" else None

    def _native_turns(self, draft: Runner | NativeRunner | None) -> Turns | None:
        """Where all that takes part computes in native code."""
        if not isinstance(self._runner, NativeRunner) or isinstance(draft, Runner):
            return None
        gap = GAP if draft is None else READ_AT_ONCE
        return Turns(self._runner.turns(draft, gap), self._scheduler, self._slots)

    @property
    def stats(self) -> Stats:
        scheduler, pool = self._scheduler, self._scheduler.pool
        return Stats(
            len(scheduler.running), len(scheduler.waiting), pool.available, pool.total, self._steps,
            scheduler.computed, scheduler.cached, self._sampled, scheduler.preemptions, self._guessed, self._right,
            scheduler.room.kept, scheduler.room.restored,
        )  # fmt: skip

    def submit(
        self, prompt_ids: Ordered[int], params: SamplingParams, n: int = 1, tenant: str = "", first: int = 0
    ) -> list[int]:
        """Queue `n` samples of one prompt, from number `first` on; the sequences' numbers. They share the prompt's
        pages, and sample i its own seed.

        A prompt's beginning is found in the cache where the same `tenant` has asked it before, and never another: how
        fast an answer comes tells nobody what others ask.

        Raises UserError for an empty prompt, ids outside the vocabulary, or a request that can never fit.
        """
        return self._submit(prompt_ids, params, n, tenant, loud=True, first=first)

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
                self._scheduler.withdraw(seq)
                self._cancelled(seq)
                return

    def generate(
        self,
        prompts: Ordered[Ordered[int]],
        params: SamplingParams | Ordered[SamplingParams],
        n: int = 1,
        on_step: Callable[[Stats], None] | None = None,
        tenant: str = "",
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
                groups.append(self._submit(prompt, one, n, tenant, loud=False))
                done |= dict.fromkeys(groups[-1])
            self._drain(done, on_step)
        finally:
            for number in [i for i, completion in done.items() if completion is None]:
                self.cancel(number)
            self._undelivered = [event for event in self._undelivered if event.sequence_id not in done]
        return [[completion for i in group if (completion := done[i]) is not None] for group in groups]

    def stream(self, prompt_ids: Ordered[int], params: SamplingParams, tenant: str = "") -> Iterator[Event]:
        """One sequence's events as they come; closing the iterator cancels it."""
        (number,) = self.submit(prompt_ids, params, tenant=tenant)
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

    @torch.inference_mode()
    def score(self, ids: Ordered[int]) -> Tensor:
        """Logits after each of `ids`, [tokens, vocabulary] in fp32: the engine's own arithmetic, as it samples by it.

        Raises UserError for ids outside the vocabulary and texts that do not fit into what is free of the cache.
        """
        if not 1 <= len(ids) <= self._longest:
            raise UserError(f"{len(ids)} token ids; this engine reads 1 to {self._longest}")
        self._check_ids(ids)
        with self._scheduler.borrowed(ids) as plan:
            lines = self._runner.run(plan).lines_LY
        return lines[:, : self.model.spec.vocab_size].cpu()

    def update_weights(self) -> None:
        """Take over the model's changed weights, and forget prefixes that the old ones computed.

        Sequences under way keep what they have cached.
        """
        self._runner.refresh()
        self._scheduler.epoch += 1
        self._scheduler.pool.forget()

    def _submit(
        self, prompt_ids: Ordered[int], params: SamplingParams, n: int, tenant: str, loud: bool, first: int = 0
    ) -> list[int]:
        prompt = [int(i) for i in prompt_ids]
        self._check(prompt, params, n)
        group, now = next(self._groups), time.perf_counter()
        opened = self.tokenizer.ends_thinking_open(prompt)
        thinks, answers = opened is True, opened is False
        numbers = list(itertools.islice(self._ids, n))
        for i, number in enumerate(numbers, first):
            told = loud or bool(params.stop)
            stream = self._stream(thinks, params) if told else None
            seed = sample_seed(params.seed, i)
            seq = Sequence(number, prompt, params, seed, group, thinks, answers, stream, loud, now, tenant)
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
        self._check_ids(prompt)
        if any(not 0 <= i < self.model.spec.vocab_size for i, _ in params.logit_bias):
            raise UserError(f"logit_bias names ids outside the vocabulary of {self.model.spec.vocab_size}")
        if len(prompt) + params.max_tokens > self._longest:
            raise UserError(
                f"{len(prompt)} prompt tokens and max_tokens {params.max_tokens} exceed the {self._longest} that fit; "
                "lower max_tokens, or raise cache_tokens if the model reaches further"
            )

    def _check_ids(self, ids: Ordered[int]) -> None:
        vocabulary = self.model.spec.vocab_size
        if min(ids) < 0 or max(ids) >= vocabulary:
            raise UserError(f"the prompt has ids outside the vocabulary of {vocabulary}; encode it with this tokenizer")

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

    def _step(self) -> Told:
        """Turns in native code where all are ripe for it, else one step of four verbs."""
        begun, steps, sampled = time.perf_counter(), self._steps, self._sampled
        rows = None if self._turns is None else self._turns.ripe()
        taken = None if rows is None else self._take_turns(rows)
        told, batch, depth = taken or self._verbs()
        if self._worth is not None and batch:
            self._worth.learn(batch, depth, self._steps - steps, time.perf_counter() - begun, self._sampled - sampled)
        return told

    @torch.inference_mode()
    def _verbs(self) -> Advanced:
        """Schedule, run, postprocess, and guess."""
        plan = self._scheduler.schedule()
        logits = self._runner.run(plan)
        if isinstance(self._guesses, Drafter):
            self._guesses.read(plan)
        self._steps += 1
        told = self._postprocess(plan, logits)
        depth = self._depth(len(plan.samples))
        if self._guesses is not None and (depth or plan.chunks):
            self._guess(self._guesses, plan.samples, logits, depth)
        else:
            self._slots.unfed[plan.samples] += 1
        return told, 0 if plan.chunks else len(plan.samples), depth

    def _take_turns(self, rows: Ints) -> Advanced | None:
        assert self._turns is not None
        depth, most = self._depth(len(rows)), self.settings.turns
        if self._worth is not None:
            most = min(most, self._worth.most(len(rows)))
        taken = self._turns.take(rows, depth, most)
        if taken is None:
            return None
        self._steps += taken.turns
        self._sampled += taken.sampled
        self._guessed += taken.guessed
        self._right += taken.sampled - taken.turns * len(rows)
        return self._tell(taken.touched(self._slots)), len(rows), depth

    def _depth(self, batch: int) -> int:
        """How many guesses to make for each row of a batch of so many."""
        if self._guesses is None:
            return 0
        return self.settings.draft_tokens if self._worth is None else self._worth.depth(batch)

    def _postprocess(self, plan: Plan, logits: Logits) -> Told:
        self._scheduler.commit(plan)
        rows, slots = plan.samples, self._slots
        if not len(rows):
            return [], {}
        drawn = self._drawing.draw(logits, rows)
        self._guessed += int(slots.drafts[rows].sum())
        forced = slots.must_close(rows)
        counts = slots.reach(rows, drawn.tokens, drawn.agreed)
        if forced.any():
            drawn.tokens[forced, 0], drawn.logprobs[forced, 0] = slots.think_close, 0
        state = slots.append(rows, drawn.tokens, drawn.logprobs, counts, forced)
        self._sampled += int(counts.sum())
        self._right += int(counts.sum()) - len(rows)
        touched = ((state != GOING) | slots.told[rows]).nonzero()[0].tolist()
        return self._tell([(int(rows[i]), drawn.tokens[i, : counts[i]].tolist(), int(state[i])) for i in touched])

    def _guess(self, source: Source, rows: Ints, step: Logits, depth: int) -> None:
        """Have the next tokens guessed, where there is room for them and no grammar."""
        slots = self._slots
        rows = rows[slots.active[rows]]
        left = slots.prompt_length[rows] + slots.max_tokens[rows] - slots.length[rows] - 1
        room = np.minimum(np.maximum(left, 0), depth) * slots.guessable(rows)
        for i in room.nonzero()[0].tolist():
            room[i] = self._scheduler.reserve(int(rows[i]), int(room[i]))
        source.guess(rows, room, step)

    def _tell(self, touched: list[tuple[int, list[int], int]]) -> Told:
        """Slots, their new tokens, and what state the last of these brought."""
        events: list[Event] = []
        silent: dict[int, Completion] = {}
        for slot, tokens, state in touched:
            seq, end = self._scheduler.running[slot], int(self._slots.length[slot])
            if seq.stream is None:
                tokens = tokens[-1:]
            first, top = end - len(tokens), self._drawing.likeliest.get(slot, ())
            logprobs = self._slots.logprobs[slot, first:end].tolist()
            for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True), start=first + 1):
                left = end - place
                piece, now = self._read(seq, token, GOING if left else state)
                completion = None
                if now != GOING:
                    self._slots.length[slot] -= left  # a stop string ended it before the step's last token
                    completion = completion_of(self._scheduler.finish(slot), REASONS[now], self.tokenizer)
                if seq.loud:
                    events.append(Event(seq.id, token, piece.text or None, piece.thinking, completion, logprob, top))
                elif completion is not None:
                    silent[seq.id] = completion
                if completion is not None:
                    break
        return events, silent

    def _read(self, seq: Sequence, token: int, state: int) -> tuple[Piece, int]:
        """Feed the sequence's text, if anyone reads it; a stop string ends the sequence."""
        stream = seq.stream
        if stream is None:
            return Piece("", False), state
        if token in self.tokenizer.stops:
            return (stream.finish() if state != GOING else Piece("", stream.thinking)), state
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
