"""The Python interface on a random model: limits, seeds, streams, and what `import raison` does not import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import raison
from raison import reasoner as module
from raison.engine.backend import token_bytes
from raison.engine.kernels.native import library
from raison.engine.settings import EngineSettings
from raison.errors import CheckpointError, UserError
from raison.reasoner import Reasoner
from raison.text.chat import Turn, prompt_ids
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from tests.shapes import SMALL, random_model

TOKENIZER = Tokenizer.build()
SPEC = replace(SMALL, vocab_size=TOKENIZER.size, max_position_embeddings=96, initializer_range=0.05)
PROMPT = "Make 46 from 3, 7, 25"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("reasoner") / "model"
    folder.save(target, random_model(SPEC), TOKENIZER, {"stage": "sft"})
    return target


@pytest.fixture(scope="module")
def reasoner(path: Path) -> Reasoner:
    return raison.load(path)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, raison; assert raison.__version__; assert 'torch' not in sys.modules; raison.load; import torch"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        raison.lode  # noqa: B018


def test_loading(path: Path, reasoner: Reasoner) -> None:
    assert reasoner.spec == SPEC
    assert reasoner.provenance == {"stage": "sft"}
    assert isinstance(raison.load(str(path)), raison.Reasoner)


def test_loading_what_is_not_there(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no model folder"):
        raison.load(tmp_path / "nothing")
    monkeypatch.setattr(module, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"raison run recipes/countdown\.toml"):
        raison.load()
    monkeypatch.setattr(module, "SHIPPED", path)
    assert raison.load().spec == SPEC
    with pytest.raises(UserError, match="threads is -1"):
        raison.load(path, threads=-1)
    with pytest.raises(UserError, match="threads is 100000"):
        raison.load(path, threads=100_000)
    with pytest.raises(UserError, match="fp16"):
        raison.load(path, dtype="fp16")


def test_threads_are_set(path: Path) -> None:
    before = torch.get_num_threads()
    try:
        raison.load(path, threads=before + 1)
        assert torch.get_num_threads() == before + 1
        raison.load(path)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_logits(reasoner: Reasoner) -> None:
    ids = TOKENIZER.encode(PROMPT)
    logits = reasoner.logits(ids)
    assert logits.shape == (len(ids), SPEC.vocab_size)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, reasoner.model.score(ids))
    assert not logits.requires_grad
    for wrong in ([], [SPEC.vocab_size], [-1], [0] * (SPEC.max_position_embeddings + 1)):
        with pytest.raises(UserError, match="token ids"):
            reasoner.logits(wrong)


def test_logits_are_those_the_engine_samples_from(reasoner: Reasoner) -> None:
    (done,) = reasoner.generate(PROMPT, budget=12, answer_tokens=6)
    prompt = prompt_ids(TOKENIZER, PROMPT)
    logprobs = reasoner.logits([*prompt, *done.token_ids])[len(prompt) - 1 : -1].log_softmax(-1)
    for place, (token, said) in enumerate(zip(done.token_ids, done.logprobs, strict=True)):
        forced = done.forced_close and place == done.thinking_tokens
        assert said == pytest.approx(0.0 if forced else float(logprobs[place, token]), abs=1e-4)


def test_the_same_seed_gives_the_same_tokens(reasoner: Reasoner) -> None:
    """A random model has an entropy of about 7 nats a token: two seeds agree by chance once in e^70."""
    one = reasoner.generate(PROMPT, budget=12, seed=5)
    several = reasoner.generate(PROMPT, budget=12, seed=5, n=3)
    other = reasoner.generate(PROMPT, budget=12, seed=6)
    assert one[0].token_ids == several[0].token_ids != other[0].token_ids
    assert len({c.token_ids for c in several}) == 3


@pytest.mark.parametrize("budget", [0, 5, 512, None])
def test_prompt_thinking_and_answer_fit_the_context(reasoner: Reasoner, budget: int | None) -> None:
    (done,) = reasoner.generate(PROMPT, budget=budget, answer_tokens=8)
    assert done.answer_tokens <= 8
    assert done.prompt_tokens + len(done.token_ids) <= SPEC.max_position_embeddings
    if budget is not None:
        assert done.thinking_tokens <= budget
        assert done.finish_reason == "stop" or done.answer_tokens == 8  # thinking never eats the answer's room


def test_a_prompt_that_leaves_no_room(reasoner: Reasoner) -> None:
    with pytest.raises(UserError, match="context is 96; shorten the prompt"):
        reasoner.generate(PROMPT * 20)
    with pytest.raises(UserError, match="thinking_budget is -1"):
        reasoner.generate(PROMPT, budget=-1)


def test_think_draws_the_samples_that_generate_draws(reasoner: Reasoner) -> None:
    several = reasoner.generate(PROMPT, budget=6, n=3, seed=2)
    outcome = reasoner.think(PROMPT, {"vote": "self-consistency", "max_samples": 3}, budget=6, seed=2)
    assert [branch.answer for branch in outcome.branches] == [completion.answer for completion in several]
    assert outcome.tokens == sum(len(completion.token_ids) for completion in several)
    best = reasoner.think(PROMPT, "best-of-n", budget=6, seed=2, score=lambda said: float(said.seed == several[1].seed))
    assert best.chosen == 1 and len(best.branches) == 16
    with pytest.raises(UserError, match="did you mean"):
        reasoner.think(PROMPT, "autto")


def test_stream_is_generate_in_pieces(reasoner: Reasoner) -> None:
    (whole,) = reasoner.generate(PROMPT, budget=9, answer_tokens=5, seed=3)
    events = list(reasoner.stream(PROMPT, budget=9, answer_tokens=5, seed=3))
    last = events[-1].finished
    assert last is not None
    assert last.token_ids == whole.token_ids
    assert "".join(e.text or "" for e in events if e.thinking) == whole.thinking
    assert "".join(e.text or "" for e in events if not e.thinking) == whole.answer


def test_history_is_part_of_the_prompt(reasoner: Reasoner) -> None:
    history = (Turn("user", "1 + 1"), Turn("assistant", "2"))
    (done,) = reasoner.generate("2 + 2", budget=1, answer_tokens=1, history=history)
    assert done.prompt_tokens == len(prompt_ids(TOKENIZER, "2 + 2", history))


@pytest.mark.parametrize("settings", [{}, {"dtype": "q8"}, {"cache_dtype": "fp16"}, {"speculation": "mtp"}], ids=str)
def test_the_cache_takes_its_share_of_what_is_left(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter, but for less than one page and the page that nobody holds; whatever a number's width."""
    left = 1 << 20
    monkeypatch.setattr(module, "available_memory", lambda: left)
    asked = EngineSettings(cache_tokens=1 << 30, **settings)
    planned = Reasoner(random_model(SPEC), TOKENIZER, settings=asked)
    page = 16 * token_bytes(planned.model, asked)
    assert left // 4 - page < planned.engine.cache_bytes <= left // 4 + page


def test_a_draft_model_guesses_and_changes_nothing(path: Path, tmp_path: Path) -> None:
    folder.save(tmp_path / "smaller", random_model(replace(SPEC, num_hidden_layers=1), 3), TOKENIZER, {})
    drafted, plain = raison.load(path, draft=tmp_path / "smaller"), raison.load(path)
    told = [[c.token_ids for c in one.generate(PROMPT, budget=20, n=3)] for one in (drafted, plain)]
    assert told[0] == told[1]
    if library().handle is not None:  # three layers in fp32 and one in 16 bits, but no MTP module's
        assert drafted.engine.cache_bytes == (65536 + 16) * SPEC.cache_width * (3 * 4 + 2)
        assert drafted.engine.stats.tokens_guessed > 0
    other = Tokenizer.build()
    other.backend.add_tokens(["wonder"])
    with pytest.raises(UserError, match="another vocabulary"):
        Reasoner(drafted.model, other, draft=drafted.draft)
