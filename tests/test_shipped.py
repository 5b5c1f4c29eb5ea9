"""The reasoner that the package ships: whole, small enough, of known origin, and as good as it is said to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.settings import EngineSettings
from raison.model.cost import parameters
from raison.reasoner import SHIPPED, load
from raison.tasks.countdown import Countdown
from raison.think.measure import held_out_problems, measure
from raison.weights.folder import WEIGHTS

pytestmark = pytest.mark.skipif(not SHIPPED.is_dir(), reason="this checkout ships no reasoner yet")


def test_it_is_small_and_tells_where_it_came_from() -> None:
    assert (SHIPPED / WEIGHTS).stat().st_size <= 10_000_000
    reasoner = load()
    assert reasoner.provenance["recipe"] == "countdown"
    assert reasoner.provenance["checker"] == "countdown@1"
    assert reasoner.provenance["commit"]
    assert 1e6 < parameters(reasoner.spec) < 3e6


def test_it_solves_fresh_problems_as_often_as_its_provenance_says() -> None:
    """150 problems: five standard deviations below the claim is a false alarm less than once in a million runs."""
    torch.set_num_threads(2)
    reasoner = load()
    claimed = reasoner.provenance["outcome"]["accuracy"]["value"]
    task = Countdown(held_out=True)
    problems = held_out_problems(task, 3, 150, seed=5_000_000)
    engine = Engine(reasoner.model, reasoner.tokenizer, EngineSettings(max_batch=150))
    found, _ = measure(engine, task, problems, budget=512, samples=1, temperature=1.0, seed=1)
    assert found.pass_at_1.value > claimed - 5 * (claimed * (1 - claimed) / 150) ** 0.5


def test_the_problems_that_are_proposed_to_strangers_are_among_those_it_solves() -> None:
    """Of 64 samples of each it had 62 or more right; half of 16 wrong is a false alarm less than once in 10^7 runs."""
    root = Path(__file__).parents[1]
    texts = [(root / name).read_text() for name in ("README.md", "raison/cli/parser.py")]
    proposed = {problem for text in texts for problem in re.findall(r'raison think "([^"]+)"', text)}
    assert len(proposed) > 1
    reasoner, task = load(), Countdown(held_out=False)
    for text in proposed:
        said = reasoner.generate(text, budget=256, n=16, seed=0)
        right = sum(task.check(task.parse(text), one.answer).correct for one in said)
        assert right > 8, text


def test_the_same_seed_thinks_the_same_thoughts() -> None:
    first, second = (load().generate("3 7 25 -> 46", budget=256, seed=11)[0] for _ in range(2))
    assert first.token_ids == second.token_ids
    assert first.thinking_tokens > 0
