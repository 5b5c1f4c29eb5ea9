"""Every family of models against transformers: the same folder, the same logits, in both directions.

Where the extra `peers` is installed. Differences are bounded by 1e-4 in fp32, over 100 tokens, whole and through a
cache.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from tests.shapes import FAMILY_SHAPES, absorbed_logits, random_ids, random_model

pytest.importorskip("transformers")
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-4
TOKENIZER = Tokenizer.build()
IDS = random_ids(100, TOKENIZER.size)


@pytest.mark.parametrize("shape", FAMILY_SHAPES)
@torch.no_grad()
def test_they_read_ours(tmp_path: Path, shape: str) -> None:
    ours = random_model(replace(FAMILY_SHAPES[shape], vocab_size=TOKENIZER.size))
    folder.save(tmp_path / "model", ours, TOKENIZER, {})
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert type(theirs).__name__ == json.loads((tmp_path / "model/config.json").read_text())["architectures"][0]
    expected = theirs(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    assert expected.std() > 0.1
    assert (ours.score(IDS) - expected).abs().max() < TOLERANCE
    assert (absorbed_logits(ours, IDS, (60, 1, 39)) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("shape", FAMILY_SHAPES)
@torch.no_grad()
def test_we_read_theirs(tmp_path: Path, shape: str) -> None:
    """Their config, random weights and save; only the vocabulary is laid beside it."""
    folder.save(
        tmp_path / "ours", random_model(replace(FAMILY_SHAPES[shape], vocab_size=TOKENIZER.size)), TOKENIZER, {}
    )
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(tmp_path / "ours"), attn_implementation="eager"
    )
    for name, weight in theirs.named_parameters():
        if "norm" in name or name.endswith("bias"):
            weight.add_(torch.rand_like(weight))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
    (tmp_path / "theirs/tokenizer.json").write_text(TOKENIZER.to_json())
    loaded = folder.load(tmp_path / "theirs")
    expected = theirs(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    assert (loaded.model.score(IDS) - expected).abs().max() < TOLERANCE
