"""Our model against transformers' DeepseekV3ForCausalLM: the same weights, the same logits, the same chat.

transformers reads the folder that we save, and we read the one it saves; nothing is converted by the test. Some
versions of transformers masked dropped groups with 0 instead of -inf; the routers' biases here are such that it would
show. Runs where the extra `peers` is installed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raison.model.layout import Layout
from raison.model.rope import rotation
from raison.model.transformer import Transformer
from raison.text.chat import Turn, prompt_ids
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from tests.shapes import SHAPES, absorbed_logits, random_ids, random_model

pytest.importorskip("transformers")
from transformers import AutoModelForCausalLM, AutoTokenizer, DeepseekV3ForCausalLM, GenerationConfig
from transformers.modeling_layers import MtpModel

TOLERANCE = 1e-4
TOKENIZER = Tokenizer.build()
COUNT = 100


def saved(path: Path, shape: str, **options: Any) -> Transformer:
    model = random_model(replace(SHAPES[shape], vocab_size=TOKENIZER.size))
    folder.save(path, model, TOKENIZER, {"shape": shape}, **options)
    return model


def ids() -> list[int]:
    return random_ids(COUNT, TOKENIZER.size)


@torch.no_grad()
def their_logits(theirs: DeepseekV3ForCausalLM, tokens: list[int]) -> Tensor:
    return theirs(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_logits(tmp_path: Path, shape: str) -> None:
    """Naive and absorbed, over 100 tokens (beyond YaRN's original length where there is YaRN)."""
    ours = saved(tmp_path / "model", shape)
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert isinstance(theirs, DeepseekV3ForCausalLM)
    left = {name for name in report["missing_keys"] if theirs.get_parameter_or_buffer(name).numel()}
    assert not left
    assert all(name.startswith("model.layers.3.") for name in report["unexpected_keys"])  # the MTP module
    expected = their_logits(theirs, ids())
    assert expected.std() > 0.1
    assert (ours.score(ids()) - expected).abs().max() < TOLERANCE
    assert (absorbed_logits(ours, ids(), (60, 1, 39)) - expected).abs().max() < TOLERANCE


def test_dropped_groups_matter_here() -> None:
    """The test above would catch a mask of 0: some token's kept choice scores are below 0."""
    model = random_model(replace(SHAPES["groups"], vocab_size=TOKENIZER.size))
    layout = Layout.of([COUNT])
    _, routings = model.hidden(torch.tensor(ids()), layout.positions_N, layout)
    bias = model.state_dict()["layers.1.mlp.gate.e_score_correction_bias"]
    assert ((routings[0].scores_NX + bias).gather(1, routings[0].experts_NK) < 0).any()


@pytest.mark.parametrize("shape", ["groups", "tied", "yarn"])
@torch.no_grad()
def test_we_read_what_transformers_saves(tmp_path: Path, shape: str) -> None:
    saved(tmp_path / "ours", shape)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.config.num_nextn_predict_layers = 0  # it has no MTP module to save
    theirs.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    loaded = folder.load(tmp_path / "theirs")
    assert (loaded.model.score(ids()) - their_logits(theirs, ids())).abs().max() < TOLERANCE


@torch.no_grad()
def test_bf16_folder(tmp_path: Path) -> None:
    saved(tmp_path / "model", "groups", dtype="bf16")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert theirs.dtype == torch.bfloat16
    assert theirs.model.layers[1].mlp.gate.e_score_correction_bias.dtype == torch.float32
    exact = folder.load(tmp_path / "model").model
    assert (exact.score(ids()) - their_logits(theirs.float(), ids())).abs().max() < TOLERANCE


@torch.no_grad()
def test_mtp_module(tmp_path: Path) -> None:
    """Order of the halves, shared norm and head. The states that go in are those after the main model's final norm.

    transformers finds MTP weights by the number of V3's own layer, 61, so it is told ours; the rest is its own loading.
    """
    ours = saved(tmp_path / "model", "groups")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    theirs._keys_to_ignore_on_load_unexpected = [r"model\.layers\.3\..*"]
    mtp = MtpModel.from_pretrained(theirs)
    tokens = torch.tensor(ids())
    layout = Layout.of([COUNT - 1])
    states, _ = ours.hidden(tokens[:-1], layout.positions_N, layout)
    expected = mtp.forward_layer(
        0, ours.norm(states)[None], layout.positions_N[None], None, input_ids=tokens[None, 1:]
    )  # fmt: skip
    (module,) = ours.predictors()
    rot = rotation(ours.spec, layout.positions_N)
    out, _ = module(ours.norm(states), ours.embed(tokens[1:]), rot, layout)
    assert (module.norm(out) - expected[0]).abs().max() < TOLERANCE


def test_tokenizer_and_chat(tmp_path: Path) -> None:
    saved(tmp_path / "model", "groups")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "Make 46 from 3, 7, 25: 7 * 3 = 21 -> 46 é 語 1234567 \n\t <think>Wait"
    assert theirs.encode(text, add_special_tokens=False) == TOKENIZER.encode(text)
    assert theirs.decode(TOKENIZER.encode(text)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (TOKENIZER.bos, TOKENIZER.eos)
    history = [("user", "What is 2 + 2?"), ("assistant", "4"), ("user", "Make 46 from 3, 7, 25")]
    messages = [{"role": role, "content": content} for role, content in history]
    rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert rendered == prompt_ids(TOKENIZER, history[-1][1], [Turn(*turn) for turn in history[:-1]])
    thought = [messages[0], {"role": "assistant", "content": "<think>two and two</think>4"}, messages[2]]
    assert theirs.apply_chat_template(thought, add_generation_prompt=True, return_dict=False) == rendered


def test_generation_config(tmp_path: Path) -> None:
    saved(tmp_path / "model", "groups")
    theirs = GenerationConfig.from_pretrained(tmp_path / "model")
    assert (theirs.do_sample, theirs.temperature, theirs.eos_token_id) == (True, 1.0, TOKENIZER.eos)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architectures"] == ["DeepseekV3ForCausalLM"]
