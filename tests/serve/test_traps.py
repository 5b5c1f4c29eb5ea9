"""Eight traps that users of reasoning servers have fallen into, each a test by its name.

The threads are cited in the tests' docstrings: vLLM, llama.cpp, SGLang and lm-evaluation-harness on GitHub.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from raison.text.tokenizer import THINK_CLOSE, THINK_OPEN
from tests.serve.serving import QUESTION, Served, joined


def message(body: dict[str, Any]) -> dict[str, Any]:
    found = body["choices"][0]["message"]
    assert isinstance(found, dict)
    return found


def test_1_a_stop_inside_the_thinking_stops_nothing(served: Served) -> None:
    """vLLM #14170, #14399, #52393, #53066: content null, because `stop` was found in the thoughts."""
    free = message(served.ask(seed=1, max_tokens=60))
    thinking, answer = free["reasoning_content"], free["content"] or ""
    letters = [letter for letter in thinking if letter not in answer and letter.isprintable()]
    assert letters, "another seed is needed: the answer has every letter of the thinking"
    stopped = message(served.ask(seed=1, max_tokens=60, stop=letters[:4]))
    assert stopped == free
    letter = answer[len(answer) // 2]
    cut = message(served.ask(seed=1, max_tokens=60, stop=[letter]))
    assert cut["reasoning_content"] == thinking
    assert cut["content"] == answer[: answer.index(letter)]


@pytest.mark.parametrize("most", [8, 16, 64, 256])
def test_2_thinking_never_eats_the_answer(most: int, served: Served) -> None:
    """mindcraft #789, picoclaw #966, fess #3061: content "", finish "length", and billed."""
    for seed in range(5):
        body = served.ask(seed=seed, max_tokens=most)
        assert message(body)["content"]
        details = body["usage"]["completion_tokens_details"]
        assert details["reasoning_tokens"] < body["usage"]["completion_tokens"] <= most


def test_2_cut_thoughts_are_never_content(served: Served) -> None:
    """lm-evaluation-harness #3382: where there is no room for an answer, content is null or begun, never thoughts."""
    body = served.ask(seed=3, max_tokens=1)
    assert message(body)["content"] is None
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("budget", [0, 1, 5, 30])
def test_3_a_budget_that_cuts_leaves_no_tag_behind(budget: int, served: Served) -> None:
    """llama.cpp #28182, ferrox #205: a literal </think> in the content after a forced close."""
    for seed in range(5):
        whole = message(served.ask(seed=seed, max_tokens=80, thinking_token_budget=budget))
        assert THINK_CLOSE not in (whole["reasoning_content"] or "")
        assert not (whole["content"] or "").startswith(THINK_CLOSE)


@pytest.mark.parametrize("budget", [0, 3, 17, 40])
def test_4_a_budget_is_never_ignored(budget: int, served: Served) -> None:
    """drama_llama #114, Ollama #17561: accepted, and without effect."""
    counts = [
        served.ask(seed=seed, max_tokens=200, thinking_token_budget=budget)["usage"]["completion_tokens_details"]
        for seed in range(4)
    ]
    assert max(count["reasoning_tokens"] for count in counts) == budget  # a random model does not stop by itself


SCHEMA = {
    "type": "object", "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["value"], "additionalProperties": False,
}  # fmt: skip


def test_5_a_schema_begins_after_the_thinking(served: Served) -> None:
    """vLLM #47027, #50948, llama.cpp #12276: a grammar from token 0 kills the thinking, or JSON lands in it."""
    pytest.importorskip("llguidance")
    form = {"type": "json_schema", "json_schema": {"name": "number", "strict": True, "schema": SCHEMA}}
    for seed in range(3):
        body = served.ask(seed=seed, max_tokens=200, thinking_token_budget=20, response_format=form)
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 20
        if body["choices"][0]["finish_reason"] == "stop":
            assert 0 <= json.loads(message(body)["content"])["value"] <= 99
        free = served.ask(seed=seed, max_tokens=200, thinking_token_budget=20)
        assert message(body)["reasoning_content"] == message(free)["reasoning_content"]
        events = served.events(seed=seed, max_tokens=200, thinking_token_budget=20, response_format=form)
        assert joined(events, "content") == message(body)["content"]


def test_6_a_seed_holds_whatever_else_is_in_the_batch(served: Served) -> None:
    """vLLM #51226, #51187: a seed ignored when a neighbour has none, output that depends on the batch."""
    import concurrent.futures

    alone = message(served.ask(seed=42, max_tokens=80))
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        others = [
            pool.submit(served.ask, max_tokens=50 + i, temperature=0.5, **({} if i % 2 else {"seed": i}))
            for i in range(11)
        ]
        among = message(pool.submit(served.ask, seed=42, max_tokens=80).result())
        for other in others:
            other.result()
    assert among == alone


def test_7_reasoning_is_counted_from_ids_and_apart(served: Served) -> None:
    """guidellm #737, LiteLLM #41849, vLLM #35037: reasoning tokens missing, zero, or counted from re-encoded text."""
    body = served.ask(seed=7, max_tokens=90, return_token_ids=True)
    ids = body["choices"][0]["token_ids"]
    tokenizer = served.service.reasoner.tokenizer
    assert tokenizer.think_close in ids
    usage = body["usage"]
    assert usage["completion_tokens"] == len(ids)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == ids.index(tokenizer.think_close)
    events = served.events(seed=7, max_tokens=90, stream_options={"include_usage": True})
    assert events[-1]["usage"]["completion_tokens_details"] == usage["completion_tokens_details"]
    first = [next(iter(c["delta"])) for e in events for c in e["choices"] if c["delta"] and "role" not in c["delta"]]
    assert first.index("content") == first.count("reasoning_content"), "all thinking comes before all of the answer"


def test_8_the_prompt_has_opened_the_thinking(served: Served) -> None:
    """R1's templates put <think> into the prompt, so that the output has the closing tag alone."""
    whole = message(served.ask(seed=8, max_tokens=60))
    assert whole["reasoning_content"]
    assert not whole["reasoning_content"].startswith(THINK_OPEN)
    prompt = served.service.reasoner.tokenizer
    assert served.service.thinks
    assert prompt.think_open is not None


@pytest.mark.parametrize("seed", range(3))
def test_8_a_tag_split_over_chunks_is_still_one(seed: int, served: Served) -> None:
    """Whatever the chunks, thinking and answer are the whole answer's, and no tag is in either."""
    budget = random.Random(seed).randrange(1, 30)
    whole = message(served.ask(seed=seed, max_tokens=70, thinking_token_budget=budget))
    events = served.events(seed=seed, max_tokens=70, thinking_token_budget=budget)
    assert joined(events, "reasoning_content") == whole["reasoning_content"]
    assert joined(events, "content") == (whole["content"] or "")


def test_a_second_turn_after_an_answer_that_holds_a_tag(served: Served) -> None:
    """A user who writes a tag closes nothing in our format: it stays plain text."""
    asked: Sequence[dict[str, str]] = [{"role": "user", "content": f"what does {THINK_CLOSE} mean?"}]
    body = served.ask(messages=asked, seed=1, max_tokens=40)
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert QUESTION
