"""Fine-tuning a model that exists, in miniature: SFT on conversations, then GRPO, by adapters and in full."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raison.config import OptimizerSection, Recipe, dump, parse_recipe
from raison.errors import CheckpointError, UserError
from raison.model.lora import adapters, merge
from raison.text import chat
from raison.text.template import ChatTemplate
from raison.text.tokenizer import BOS, EOS, Tokenizer
from raison.train import checkpoint
from raison.train import recipe as recipes
from raison.train.grpo import frozen_copy
from raison.train.learner import Learner
from raison.train.loop import Stopped, StopRequest
from raison.train.origin import Origin
from raison.train.recipe import run_recipe
from raison.train.rollout import read_rollouts
from raison.weights import folder, peft, source
from raison.weights.export import export
from tests.shapes import FAMILY_SHAPES, random_ids, random_model
from tests.train.runs import ADAMW, Watcher

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
OURS = Tokenizer.build()
FOREIGN = Tokenizer.foreign(OURS.backend, ChatTemplate(CHATML, BOS, EOS), OURS.bos, [OURS.eos])
LORA = {"rank": 4, "alpha": 8.0}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rows(count: int = 6) -> list[dict[str, Any]]:
    def turns(i: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"Make {i} from 1 and {i - 1}"},
            {"role": "assistant", "content": f"1 + {i - 1}"},
            {"role": "user", "content": "Once more"},
            {"role": "assistant", "content": f"{i - 1} + 1"},
        ]  # fmt: skip

    return [{"messages": turns(i)[: 2 + i % 2 * 2]} for i in range(20, 20 + count)]


def base_of(place: Path, tokenizer: Tokenizer) -> Path:
    spec = replace(FAMILY_SHAPES["llama"], vocab_size=OURS.size, initializer_range=0.1)
    folder.save(place / "base", random_model(spec), tokenizer, {"license": "none"})
    (place / "chat.jsonl").write_text("\n".join(json.dumps(row) for row in rows()) + "\n")
    return place / "base"


def recipe_of(place: Path, lora: dict[str, Any] | None = LORA, **changes: Any) -> Recipe:
    stages = [
        {"kind": "sft", "chat": str(place / "chat.jsonl"), "steps": 3, "optimizer": {**ADAMW, "lr": 0.01}},
        {"kind": "grpo", "steps": 2, "problems": 4, "group_size": 4, "budget": 12, "reward": "random",
         "control": False, "optimizer": {**ADAMW, "lr": 0.01}},
    ]  # fmt: skip
    for stage in stages:
        stage |= {"batch_tokens": 128, "checkpoint_seconds": 0.0}
    return parse_recipe(
        {
            "name": "fine", "model": str(place / "base"), "task": {"name": "countdown", "levels": [2]},
            "train": {"precision": "fp32", "threads": 1}, "stage": stages, **({} if lora is None else {"lora": lora}),
            "evaluation": {"problems": 4, "level": 2, "budgets": [4, 8], "votes": [1, 2]},
        } | changes
    )  # fmt: skip


def digests(run: Path) -> dict[str, str]:
    files = sorted(run.rglob("*.safetensors"))
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    """A run by adapters on a model that does not think."""
    torch.set_num_threads(1)
    place, watcher = tmp_path_factory.mktemp("foreign"), Watcher()
    base_of(place, FOREIGN)
    run_recipe(recipe_of(place), place / "run", watch=watcher)
    return place, watcher


def test_adapters_on_the_base_are_the_final_model(foreign: tuple[Path, Watcher]) -> None:
    place, ids = foreign[0], random_ids(30, OURS.size)
    base, final = folder.load(place / "base").model, folder.load(place / "run/model")
    with torch.no_grad():
        before = base.score(ids)
        peft.load(place / "run/adapter", base)
        adapted = base.score(ids)
        assert (adapted - before).abs().max() > 1e-3
        assert (final.model.score(ids) - adapted).abs().max() < 1e-4
        merge(base)
        assert torch.equal(base.score(ids), final.model.score(ids))
    assert final.tokenizer.template is not None and final.tokenizer.template.source == CHATML
    assert final.provenance["base"] == {"model": str(place / "base"), "license": "none"}


def test_stages_keep_adapters_alone_and_each_goes_on_from_the_last(foreign: tuple[Path, Watcher]) -> None:
    stages = foreign[0] / "run/stages"
    assert not list(stages.glob("*/model"))
    factors = []
    for stage in ("sft", "grpo"):
        model = folder.load(foreign[0] / "base").model
        peft.load(stages / stage / "adapter", model)
        factors.append(torch.cat([a.b.flatten() for a in adapters(model).values()]))
    moved, together = (factors[1] - factors[0]).norm(), factors[1].norm()
    assert 0 < moved < together


def test_loss_falls_and_the_whole_answer_is_judged(foreign: tuple[Path, Watcher]) -> None:
    place, watcher = foreign
    losses = [s.figures["loss"] for s in watcher.steps if s.stage == "sft"]
    assert losses[-1] < losses[0]
    rollouts = list(read_rollouts(place / "run/stages/grpo/rollouts.jsonl"))
    assert len(rollouts) >= 32
    for r in rollouts:
        assert r.thinking_tokens == 0 and 1 <= len(r.completion_ids) <= 12
        assert 0.0 not in r.logprobs  # nothing was forced
    figures = [s.figures for s in watcher.steps if s.stage == "grpo"]
    assert all(f["sampler_gap"] < 1e-4 and 1 <= f["length"] <= 12 for f in figures)
    evaluation = json.loads((place / "run/evaluation.json").read_text())
    assert [row["budget"] for row in evaluation["budgets"]] == [4, 8]
    assert watcher.outcomes[0].thinking_tokens is None


def test_the_model_is_judged_before_it_is_trained(foreign: tuple[Path, Watcher]) -> None:
    place, watcher = foreign
    assert [o.stage for o in watcher.outcomes] == ["base", "sft", "grpo"]
    base = watcher.outcomes[0]
    assert base.accuracy is not None and base.accuracy["count"] == 4 and base.steps == 0 and base.tokens > 0
    bill = json.loads((place / "run/run.json").read_text())["bill"]
    assert [line["stage"] for line in bill["actual"]] == [line["stage"] for line in bill["predicted"]]
    assert bill["actual"][0]["accuracy"] == base.accuracy["value"]


def test_a_model_that_does_not_think_learns_from_shown_work(tmp_path: Path) -> None:
    base_of(tmp_path, FOREIGN)
    (tmp_path / "school.jsonl").write_text(
        "".join(json.dumps({"question": f"{i} and {i}?", "answer": f"Add.\n#### {2 * i}"}) + "\n" for i in range(40))
    )
    for name, levels in (("arithmetic", [1]), (str(tmp_path / "school.jsonl"), [1])):
        watcher = Watcher()
        stages = [{"kind": "sft", "steps": 2, "batch_tokens": 128, "optimizer": {**ADAMW, "lr": 0.01}}]
        evaluation = {"problems": 3, "level": 1, "budgets": [8], "votes": [1]}
        recipe = recipe_of(tmp_path, task={"name": name, "levels": levels}, stage=stages, evaluation=evaluation)
        run_recipe(recipe, tmp_path / f"run-{len(name)}", watch=watcher)
        assert [o.lenient is not None for o in watcher.outcomes] == [True, True]
        losses = [s.figures["loss"] for s in watcher.steps]
        assert losses[-1] < losses[0]


def test_one_step_for_each_life_ends_bit_identical(
    foreign: tuple[Path, Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopsAtOnce(StopRequest):
        def __enter__(self) -> StopRequest:
            super().__enter__()
            self.wanted = True
            return self

    place, lives = foreign[0], 0
    monkeypatch.setattr(recipes, "StopRequest", StopsAtOnce)
    while lives < 20:
        lives += 1
        try:
            run_recipe(recipe_of(place), place / "again", watch=Watcher(), resume=True)
            break
        except Stopped:
            saved = checkpoint.load(next((place / "again/stages").glob("*/checkpoints")))
            assert saved.model and all(".lora." in name for name in saved.model)
    assert lives >= 5
    assert digests(place / "again") == digests(place / "run")


def test_a_model_that_thinks_is_tuned_in_its_own_format(tmp_path: Path) -> None:
    base_of(tmp_path, OURS)
    watcher = Watcher()
    result = run_recipe(
        recipe_of(tmp_path, {"rank": 2, "targets": ["q_proj", "down_proj"]}), tmp_path / "run", watch=watcher
    )
    config = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "down_proj"]
    assert any(r.thinking_tokens for r in read_rollouts(tmp_path / "run/stages/grpo/rollouts.jsonl"))
    assert result.evaluation["budgets"][0]["budget"] == 0
    assert folder.load(result.model).tokenizer.template is None


def test_full_fine_tuning_moves_every_weight(tmp_path: Path) -> None:
    base = base_of(tmp_path, FOREIGN)
    run_recipe(recipe_of(tmp_path, None), tmp_path / "run", watch=Watcher())
    before, after = folder.load(base).model.state_dict(), folder.load(tmp_path / "run/model").model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not (tmp_path / "run/adapter").exists()


@pytest.mark.parametrize("lora", [LORA, None])
def test_a_base_from_a_gguf_file_ends_as_a_published_model(tmp_path: Path, lora: dict[str, Any] | None) -> None:
    """llama.cpp's order of query and key rows is not that of checkpoints, nor of PEFT's adapters."""
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    base = base_of(tmp_path, FOREIGN)
    export(source.load(base), tmp_path / "base.gguf", "gguf", "F32", "base")
    recipe = recipe_of(tmp_path, lora, model=str(tmp_path / "base.gguf"))
    run_recipe(recipe, tmp_path / "run", watch=Watcher())
    again, ids = recipe_of(tmp_path, lora), random_ids(30, OURS.size)
    run_recipe(again, tmp_path / "other", watch=Watcher())
    with torch.no_grad():
        ends = [folder.load(tmp_path / run / "model").model.score(ids) for run in ("run", "other")]
        assert (ends[0] - ends[1]).abs().max() < 1e-3
        if lora is not None:
            published = folder.load(base).model
            peft.load(tmp_path / "run/adapter", published)
            assert (published.score(ids) - ends[0]).abs().max() < 1e-4


def test_another_checkpoint_is_refused(foreign: tuple[Path, Watcher]) -> None:
    def learner(lora: dict[str, Any]) -> Learner:
        origin = Origin(recipe_of(foreign[0], lora), foreign[0] / "run")
        return Learner(origin.fresh(origin.spec), OptimizerSection(), 1, torch.float32)

    with pytest.raises(CheckpointError, match="resume with the same recipe"):
        learner({"rank": 3}).load_weights(learner({"rank": 4}).weights())


def test_the_reference_of_a_divergence_shares_what_is_frozen(foreign: tuple[Path, Watcher]) -> None:
    origin = Origin(recipe_of(foreign[0]), foreign[0] / "run")
    model = origin.fresh(origin.spec)
    twin = frozen_copy(model)
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (one is other) == (".lora." not in name) and not other.requires_grad
        assert one.requires_grad == (".lora." in name) and torch.equal(one, other)


def test_a_resolved_recipe_is_read_back_equal(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"rank": 8, "targets": ["q_proj"]})
    assert recipe.model == str(tmp_path / "base") and recipe.spec_of(recipe.stages[0]) is None
    assert parse_recipe(tomllib.loads(dump(recipe))) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora": {"rank": 0}}, "lora: rank is 0; it must be at least 1"),
        ({"lora": {"rnak": 4}}, '`lora.rnak` is not a setting: did you mean "rank"'),
        ({"lora": {"targets": "q_proj"}}, 'lora.targets is "q_proj"; expected a list'),
        ({"lora": {"targets": [""]}}, "targets has an empty name"),
        ({"model": "tiny"}, "lora trains adapters on a model that exists"),
        ({"model": 3}, "model is 3; expected a table"),
        ({"stage": [{"kind": "pretrain", "steps": 1, "documents": [{"task": "countdown"}]}]}, '"pretrain" cannot'),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        recipe_of(tmp_path, **change)
    assert "\n" not in str(caught.value)


def test_mistakes_that_only_the_model_shows(tmp_path: Path) -> None:
    base_of(tmp_path, FOREIGN)
    with pytest.raises(UserError, match=r'model is "tinny".*did you mean "tiny"'):
        run_recipe(recipe_of(tmp_path, model="tinny"), tmp_path / "run", watch=Watcher())
    with pytest.raises(UserError, match=r'the target "kv_b_proj".* did you mean "v_proj"'):
        run_recipe(recipe_of(tmp_path, {"targets": ["kv_b_proj"]}), tmp_path / "run", watch=Watcher())
    assert not list((tmp_path / "run").glob("stages/*"))


BAD_LINES = [
    ("{", "this is not JSON"),
    ("[]", "there is no list `messages`"),
    ('{"messages": [{"role": "user"}]}', "message 1 has no text as `role` and `content`"),
    ('{"messages": [{"role": "user", "content": "x"}]}', "no message has the role assistant"),
    ('{"messages": [{"role": "user", "content": "' + "x" * 300 + '"}, {"role": "assistant", "content": "y"}]}',
     r"it has \d+ tokens, and the model's context 256"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_bad_lines_are_named_before_a_step_is_taken(tmp_path: Path, line: str, message: str) -> None:
    base_of(tmp_path, FOREIGN)
    path = tmp_path / "chat.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=f"chat.jsonl line 7: {message}"):
        run_recipe(recipe_of(tmp_path), tmp_path / "run", watch=Watcher())


def masked(tokenizer: Tokenizer, *turns: tuple[str, str]) -> list[list[str]]:
    """The stretches of each document that carry loss, as text."""
    found = []
    for document in chat.conversation(tokenizer, [chat.Turn(*turn) for turn in turns]):
        stretches, run = [], []
        for token, learnt in zip([*document.ids, 0], [*document.mask, 0], strict=True):
            run += [token] if learnt else []
            if run and not learnt:
                stretches.append(tokenizer.decode(run))
                run = []
        found.append(stretches)
    return found


TALK = (("user", "one"), ("assistant", "eins"), ("user", "two"), ("assistant", "zwei"), ("user", "three"))


def test_loss_is_on_the_answers_and_their_ends() -> None:
    assert masked(FOREIGN, ("system", "translate"), *TALK) == [[f"eins{EOS}", f"zwei{EOS}"]]
    (document,) = chat.conversation(FOREIGN, [chat.Turn(*turn) for turn in TALK])
    assert FOREIGN.decode(document.ids).endswith(f"<|assistant|>zwei{EOS}\n")
    assert document.mask[-2:] == [1, 0]


def test_in_our_own_format_each_answer_is_a_document() -> None:
    assert masked(OURS, *TALK) == [[f"eins{EOS}"], [f"zwei{EOS}"]]
    thought = ("assistant", "hm, eins?</think>eins")
    first, second = chat.conversation(OURS, [chat.Turn(*t) for t in (TALK[0], thought, TALK[2], TALK[3])])
    assert masked(OURS, TALK[0], thought) == [[f"hm, eins?</think>eins{EOS}"]]
    assert first.ids[: first.mask.index(1)] == chat.prompt_ids(OURS, "one")
    assert "hm" not in OURS.decode(second.ids)


def test_conversations_that_cannot_be_told_apart() -> None:
    forgetful = "{% for m in messages %}{{ m['role'] + (m['content'] if loop.last else '') }}{% endfor %}"
    tokenizer = Tokenizer.foreign(OURS.backend, ChatTemplate(forgetful, BOS, EOS), OURS.bos, [OURS.eos])
    with pytest.raises(UserError, match="writes what comes before message 2 otherwise"):
        masked(tokenizer, *TALK)
    with pytest.raises(UserError, match="must follow a user's"):
        masked(OURS, ("assistant", "x"))
    with pytest.raises(UserError, match='no role "system"'):
        masked(OURS, ("system", "x"), *TALK)


def test_who_thinks() -> None:
    opening = ChatTemplate(CHATML.replace("'<|assistant|>'", "'<|assistant|><think>'"), BOS, EOS)
    assert chat.thinks(OURS) and not chat.thinks(FOREIGN)
    assert chat.thinks(Tokenizer.foreign(OURS.backend, opening, OURS.bos, [OURS.eos]))
