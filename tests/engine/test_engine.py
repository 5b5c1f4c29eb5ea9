"""The engine's promises to its callers: budgets, limits, stops, events, cancelling, and no page lost."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.runner import Logits
from raison.engine.sequence import Event, SamplingParams, Stats, sample_seed
from raison.engine.settings import EngineSettings
from raison.errors import UserError
from raison.records import Completion
from tests.engine.small import TOKENIZER, ids, make_engine, params, prompt, small_model

CLOSE, EOS = TOKENIZER.think_close, TOKENIZER.eos


def one(start: list[int], sampling: SamplingParams) -> Completion:
    return make_engine().generate([start], sampling)[0][0]


@pytest.mark.parametrize("budget", [0, 1, 7])
def test_budget_closes_the_thinking(budget: int) -> None:
    completion = one(prompt(9, 1), params(4, thinking_budget=budget, answer_tokens=5))
    assert completion.token_ids[budget] == CLOSE
    assert completion.logprobs[budget] == 0.0
    assert all(logprob < 0 for i, logprob in enumerate(completion.logprobs) if i != budget)
    assert (completion.thinking_tokens, completion.answer_tokens, completion.forced_close) == (budget, 5, True)
    assert (completion.finish_reason, len(completion.token_ids)) == ("length", budget + 6)
    assert completion.thinking == TOKENIZER.decode(completion.token_ids[:budget])
    assert completion.text == completion.thinking + "</think>" + completion.answer


def test_budget_changes_nothing_before_it_is_reached() -> None:
    free, bound = (one(prompt(9, 1), params(4, thinking_budget=b)) for b in (None, 20))
    assert free.token_ids[:20] == bound.token_ids[:20]
    assert not free.forced_close


def test_budget_meets_max_tokens_exactly() -> None:
    completion = one(prompt(9, 1), params(4, thinking_budget=10, max_tokens=10))
    assert (completion.thinking_tokens, completion.forced_close, completion.answer) == (10, False, "")
    completion = one(prompt(9, 1), params(4, thinking_budget=10, max_tokens=11))
    assert (completion.thinking_tokens, completion.forced_close, completion.answer_tokens) == (10, True, 0)


class Scripted(Engine):
    """An engine whose sampler says what a script says: for what a random model would hardly say."""

    def script(self, tokens: list[int]) -> Scripted:
        self.tokens = tokens
        return self

    def _postprocess(self, plan, logits):  # type: ignore[no-untyped-def]
        at = self._slots.length[plan.samples] - self._slots.prompt_length[plan.samples]
        lines = torch.full((len(at), self.model.spec.vocab_size), -50.0)
        for row, place in enumerate(at):
            lines[row, self.tokens[place]] = 50.0
        return super()._postprocess(plan, Logits(lines, np.arange(len(at))))


def scripted(tokens: list[int]) -> Scripted:
    engine = Scripted(small_model(), TOKENIZER, EngineSettings(cache_tokens=4096)).script(tokens)
    engine._turns = None  # native code would draw by itself
    return engine


def say(thinking: str, answer: str) -> list[int]:
    return [*TOKENIZER.encode(thinking), CLOSE, *TOKENIZER.encode(answer), EOS]


def test_own_close_and_end() -> None:
    script = say("hm", "ok")
    (completion,) = scripted(script).generate([prompt(5, 1)], SamplingParams(thinking_budget=50))[0]
    assert (completion.thinking, completion.answer, completion.text) == ("hm", "ok", "hm</think>ok")
    assert (completion.finish_reason, completion.forced_close) == ("stop", False)
    assert (completion.thinking_tokens, completion.answer_tokens) == (2, 2)
    assert list(completion.token_ids) == script


def test_stop_strings_sleep_inside_thinking() -> None:
    for loud in (False, True):
        engine, sampling = scripted(say("a. b. c", "d. e. f")), SamplingParams(stop=(". ",))
        if loud:
            events = list(engine.stream(prompt(5, 1), sampling))
            completion = events[-1].finished
            assert completion is not None
            assert "".join(e.text or "" for e in events if not e.thinking) == "d"
        else:
            completion = engine.generate([prompt(5, 1)], sampling)[0][0]
        assert (completion.thinking, completion.answer, completion.finish_reason) == ("a. b. c", "d", "stop")


def test_second_close_is_text() -> None:
    script = [*say("x", "1")[:-1], CLOSE, *TOKENIZER.encode("2"), EOS]
    completion = scripted(script).generate([prompt(5, 1)], SamplingParams())[0][0]
    assert (completion.thinking, completion.answer) == ("x", "1</think>2")


def test_end_inside_thinking_has_no_answer() -> None:
    completion = scripted([*TOKENIZER.encode("xy"), EOS]).generate([prompt(5, 1)], SamplingParams())[0][0]
    assert (completion.thinking, completion.answer, completion.thinking_tokens) == ("xy", "", 2)


def test_prompt_without_thinking_is_all_answer() -> None:
    plain = prompt(9, 1)[:-1]
    completion = one(plain, params(1, thinking_budget=3, answer_tokens=4, max_tokens=30))
    assert (completion.thinking, completion.answer_tokens, completion.forced_close) == ("", 30, False)
    completion = one([*prompt(9, 1), CLOSE], params(1, answer_tokens=4))
    assert (completion.thinking, completion.answer_tokens) == ("", 4)


def test_events_tell_the_whole_story() -> None:
    engine = make_engine()
    number = engine.submit(prompt(12, 1), params(3, thinking_budget=20))[0]
    events: list[Event] = []
    while not events or events[-1].finished is None:
        events += engine.step()
    completion = events[-1].finished
    assert completion is not None
    assert {event.sequence_id for event in events} == {number}
    assert tuple(event.token_id for event in events) == completion.token_ids
    assert "".join(event.text or "" for event in events if event.thinking) == completion.thinking
    assert "".join(event.text or "" for event in events if not event.thinking) == completion.answer
    assert 0 < completion.first_token_seconds <= completion.seconds


def test_generate_leaves_other_sequences_their_events() -> None:
    engine, alone = make_engine(), make_engine()
    number = engine.submit(prompt(6, 1), params(1))[0]
    engine.generate([prompt(20, 2)], params(2, max_tokens=80))
    completion = next(event.finished for event in engine.step() if event.finished)
    assert completion.token_ids == alone.generate([prompt(6, 1)], params(1))[0][0].token_ids
    assert number == 0


def test_closing_a_stream_cancels_it() -> None:
    engine = make_engine()
    stream = engine.stream(prompt(9, 1), params(1))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert (engine.stats.running, engine.stats.pages_free) == (0, engine.stats.pages_total)
    assert engine.step() == []


def test_cancel_frees_pages_at_once() -> None:
    engine = make_engine()
    numbers = engine.submit(prompt(13, 1), params(1), n=4)
    engine.step()
    engine.step()
    for number in numbers:
        engine.cancel(number)
    assert engine.stats.pages_free == engine.stats.pages_total
    ends = [event.finished for event in engine.step()]
    assert [end.finish_reason for end in ends if end] == ["cancelled"] * 4
    assert all(len(end.token_ids) == 2 for end in ends if end)


def test_random_lives_lose_no_page() -> None:
    """200 mixes of submitting, stepping and cancelling in a cache that is too small for them."""
    numbers = random.Random(0)
    engine = make_engine(cache_tokens=96, max_batch=5, prefill_chunk=7)
    for mix in range(200):
        known: list[int] = []
        for _ in range(numbers.randint(1, 4)):
            sampling = params(mix, max_tokens=numbers.randint(1, 30))
            start = prompt(numbers.randint(3, 30), numbers.randint(0, 3))
            known += engine.submit(start, sampling, numbers.randint(1, 4))
        for _ in range(numbers.randint(0, 12)):
            engine.step()
            if numbers.random() < 0.4:
                engine.cancel(numbers.choice(known))
        while engine.stats.running or engine.stats.waiting:
            if numbers.random() < 0.2:
                engine.cancel(numbers.choice(known))
            engine.step()
        pool = engine._scheduler.pool
        assert pool.available == pool.total
        assert not pool.references.any()
        assert not engine._scheduler.followers
    assert engine.stats.preemptions > 50


def test_seeds() -> None:
    engine = make_engine()
    first, again, other = (engine.generate([prompt(9, 1)], params(s), n=2) for s in (1, 1, 2))
    assert ids(first) == ids(again) != ids(other)
    spread = SamplingParams(seed=3).spread(50)
    assert len({p.seed for p in spread}) == 50
    assert SamplingParams(seed=3).spread(5) == spread[:5]
    assert len({sample_seed(p.seed, i) for p in spread for i in range(50)}) == 50 * 50, "of all samples of all prompts"


def test_on_step_sees_the_counters() -> None:
    seen: list[Stats] = []
    engine = make_engine()
    engine.generate([prompt(9, 1)], params(1, max_tokens=10), n=3, on_step=seen.append)
    assert seen[-1].tokens_sampled == 30
    assert (seen[-1].steps, seen[0].running, seen[-1].prompt_tokens_cached) == (10, 3, 18)


def test_requests_that_cannot_be_served() -> None:
    engine = make_engine(cache_tokens=64)
    for start, sampling, n, message in [
        ([], params(1), 1, "prompt is empty"),
        ([5, 99999], params(1), 1, "outside the vocabulary of 1280"),
        (prompt(20, 1), params(1, max_tokens=45), 1, "exceed the 64 that fit; lower max_tokens"),
        (prompt(20, 1), params(1, max_tokens=10), 0, "n is 0"),
    ]:
        with pytest.raises(UserError, match=message):
            engine.submit(start, sampling, n)
    with pytest.raises(UserError, match="2 prompts but 1 sampling"):
        engine.generate([prompt(5, 1)] * 2, [params(1)])
    assert engine.stats.waiting == 0


@pytest.mark.parametrize(
    ("field", "value"), [("page_size", 0), ("max_batch", 0), ("cache_tokens", 3), ("dtype", "int8")]
)
def test_settings_are_checked(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{field} is"):
        EngineSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_scores_of_a_text_are_the_models_own(kernels: str) -> None:
    engine = make_engine(kernels=kernels)
    engine.submit(prompt(9, 1), params(3))
    engine.step()
    free, ids = engine.stats.pages_free, prompt(70, 4)
    assert torch.allclose(engine.score(ids), small_model().score(ids), atol=1e-4)
    assert engine.stats.pages_free == free and engine.stats.running == 1
    with pytest.raises(UserError, match="1 to 1024"):
        engine.score([])
    with pytest.raises(UserError, match="outside the vocabulary"):
        engine.score([5, 99999])
    full = make_engine(kernels=kernels, max_batch=1)
    full.submit(prompt(9, 1), params(3))
    full.step()
    with pytest.raises(UserError, match="do not fit beside"):
        full.score(ids)
