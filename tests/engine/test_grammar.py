"""Answers that follow a grammar, from a model that would never keep to one by itself."""

from __future__ import annotations

import json
import re

import pytest

from raison.engine.grammar import KEPT, Grammar, Grammars
from raison.engine.sequence import SamplingParams
from raison.errors import UserError
from raison.reasoner import Reasoner
from tests.engine.small import TOKENIZER, make_engine, params, prompt, small_model

pytest.importorskip("llguidance", reason="the extra structured is not installed")
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["a", "bc"]}},
    "required": ["ok", "kind"],
    "additionalProperties": False,
}


def asked(seed: int, grammar: Grammar, **more: object) -> SamplingParams:
    return params(seed, grammar=grammar, **{"max_tokens": 200, "thinking_budget": 5, **more})


def test_every_whole_answer_keeps_to_the_schema_and_thinking_is_free() -> None:
    engine, whole = make_engine(), 0
    for seed in range(12):
        ((free,),) = engine.generate([prompt(9, seed)], params(seed, max_tokens=200, thinking_budget=5))
        ((found,),) = engine.generate([prompt(9, seed)], asked(seed, Grammar.of_schema(SCHEMA)))
        assert found.thinking == free.thinking
        if found.finish_reason == "stop":
            answer, whole = json.loads(found.answer), whole + 1
            assert (
                set(answer) <= {"ok", "kind", "n"} and answer["kind"] in ("a", "bc") and answer["ok"] in (True, False)
            )
    assert whole >= 6


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_regex_decides_every_token_and_where_it_ends(temperature: float) -> None:
    grammar = Grammar("regex", "[0-9]{3}-(yes|no)")
    engine = make_engine()
    groups = engine.generate([prompt(9, i) for i in range(6)], asked(3, grammar, temperature=temperature), n=3)
    for completion in (c for group in groups for c in group):
        assert completion.finish_reason == "stop" and re.fullmatch("[0-9]{3}-(yes|no)", completion.answer)


@pytest.mark.usefixtures("native_code")
def test_neighbours_and_interruptions_change_nothing() -> None:
    """Beside free requests, in a cache too small for all: the same tokens as alone, and theirs as without."""
    grammar = Grammar("regex", "(ab|c)[0-9]{2,20};")
    prompts = [prompt(12 + i, i) for i in range(6)]
    each = [asked(i, grammar, top_k=5 * (i % 2), max_tokens=40) if i % 3 else params(i) for i in range(6)]
    tight = make_engine(cache_tokens=128, max_batch=4)
    found = tight.generate(prompts, each)
    assert tight.stats.preemptions > 0
    for start, one, group in zip(prompts, each, found, strict=True):
        (alone,) = make_engine().generate([start], one)
        assert group[0].token_ids == alone[0].token_ids and group[0].logprobs == alone[0].logprobs


def test_log_probabilities_are_of_the_free_distribution() -> None:
    ((found,),) = make_engine().generate([prompt(9, 1)], asked(1, Grammar("regex", "x"), thinking_budget=0))
    assert found.answer == "x" and found.logprobs[1] < -1.0  # nothing had made an x likely


@pytest.mark.parametrize(
    ("grammar", "message"),
    [(Grammar("regex", "(["), "regex cannot be used"), (Grammar.of_schema({"type": "nonsense"}), "json_schema cannot")],
)
def test_grammars_that_make_no_sense(grammar: Grammar, message: str) -> None:
    engine = make_engine()
    with pytest.raises(UserError, match=message):
        engine.submit(prompt(9, 1), asked(1, grammar))
    assert engine.stats.waiting == 0


def test_the_python_interface() -> None:
    reasoner = Reasoner(small_model(), TOKENIZER)
    found = reasoner.generate("3 7 25 -> 46", budget=4, regex="(yes|no)", n=2)
    assert all(c.answer in ("yes", "no") for c in found)
    *_, last = reasoner.stream("3 7 25 -> 46", budget=4, schema={"enum": [1, 2]})
    assert last.finished is not None and json.loads(last.finished.answer) in (1, 2)
    with pytest.raises(UserError, match="not both"):
        reasoner.generate("x", regex="a", schema={})
    with pytest.raises(UserError, match="not JSON"):
        reasoner.generate("x", schema="{")


def test_ever_new_grammars_take_no_more_memory() -> None:
    grammars = Grammars(TOKENIZER, small_model().spec.vocab_size)
    for number in range(KEPT + 10):
        grammars.start(Grammar("regex", f"a{number}"))
        grammars.start(Grammar("regex", "a0"))
    assert len(grammars._compiled) == KEPT
    assert Grammar("regex", "a0") in grammars._compiled and Grammar("regex", "a1") not in grammars._compiled
