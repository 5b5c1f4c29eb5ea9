"""Adapters against PEFT on transformers' models: theirs reads ours and ours reads theirs, with the same logits.

Where the extra `peers` is installed. Differences are bounded by 1e-4 in fp32, over 60 tokens.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raison.model.lora import adapters, attach, merge
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from raison.weights import peft as ours
from tests.shapes import FAMILY_SHAPES, random_ids, random_model

pytest.importorskip("transformers")
pytest.importorskip("peft")
import peft as theirs
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4
TOKENIZER = Tokenizer.build()
IDS = random_ids(60, TOKENIZER.size)
FAMILIES = ["llama", "qwen2", "qwen3", "v2_lite", "v2"]


def base(tmp_path: Path, shape: str) -> Path:
    folder.save(
        tmp_path / "base", random_model(replace(FAMILY_SHAPES[shape], vocab_size=TOKENIZER.size)), TOKENIZER, {}
    )
    return tmp_path / "base"


def targets_of(shape: str) -> tuple[str, ...]:
    """What PEFT adapts as modules of their own: of families with experts the attention."""
    spec = FAMILY_SHAPES[shape]
    if not spec.is_latent:
        return ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    queries = ("q_proj",) if spec.q_lora_rank is None else ("q_a_proj", "q_b_proj")
    return (*queries, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")


@pytest.mark.parametrize("shape", FAMILIES)
@torch.no_grad()
def test_they_read_ours(tmp_path: Path, shape: str) -> None:
    path = base(tmp_path, shape)
    model = folder.load(path).model
    plain = model.score(IDS)
    attach(model, 4, 16.0, targets_of(shape))
    for adapter in adapters(model).values():
        adapter.b.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(3))
    ours.save(tmp_path / "adapter", model, str(path))
    peer = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    peer = theirs.PeftModel.from_pretrained(peer, tmp_path / "adapter")
    expected = peer(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    assert (expected - plain).abs().max() > 0.1
    assert (model.score(IDS) - expected).abs().max() < TOLERANCE
    merge(model)
    assert (model.score(IDS) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("shape", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
@torch.no_grad()
def test_we_read_theirs(tmp_path: Path, shape: str, rslora: bool) -> None:
    path = base(tmp_path, shape)
    peer = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    settings = theirs.LoraConfig(
        r=4, lora_alpha=8, target_modules=list(targets_of(shape)), lora_dropout=0.1, use_rslora=rslora,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    peer = theirs.get_peft_model(peer, settings).eval()
    torch.manual_seed(0)
    for name, weight in peer.named_parameters():
        if "lora_B" in name:
            weight.uniform_(-0.2, 0.2)
    peer.save_pretrained(tmp_path / "adapter")
    loaded = folder.load(path).model
    plain = loaded.score(IDS)
    ours.load(tmp_path / "adapter", loaded)
    expected = peer(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    assert (expected - plain).abs().max() > 0.1
    assert (loaded.score(IDS) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("shape", ["qwen3_moe", "v2"])
@torch.no_grad()
def test_they_read_our_routed_experts_where_they_convert_the_names(tmp_path: Path, shape: str) -> None:
    path = base(tmp_path, shape)
    model = folder.load(path).model
    attach(model, 4, 16.0, ("o_proj", "experts.gate_proj", "experts.up_proj", "experts.down_proj"))
    for adapter in adapters(model).values():
        adapter.b.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(3))
    ours.save(tmp_path / "adapter", model, str(path))
    peer = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    peer = theirs.PeftModel.from_pretrained(peer, tmp_path / "adapter")
    expected = peer(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    assert (model.score(IDS) - expected).abs().max() < TOLERANCE
