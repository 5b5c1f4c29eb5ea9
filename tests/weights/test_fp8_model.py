"""DeepSeek-V3's published form in FP8: blocks of 128 x 128 with partial tails, kept packed, expanded per product."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raison.errors import CheckpointError
from raison.model.layers import Linear
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from raison.weights.fp8 import Fp8Blocks
from raison.weights.huggingface import export_tensors
from raison.weights.survey import survey
from tests.shapes import SMALL, random_ids, random_model

SPEC = replace(
    SMALL, vocab_size=1280, hidden_size=160, intermediate_size=200, moe_intermediate_size=136, kv_lora_rank=130,
    q_lora_rank=96, num_nextn_predict_layers=0, initializer_range=0.05,
)  # fmt: skip
IDS = random_ids(30, 1280)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """FP8, scales, and what they mean, block by block."""
    rows, columns = weight.shape
    scale = torch.empty(-(-rows // 128), -(-columns // 128))
    packed, meant = torch.empty(rows, columns, dtype=torch.float8_e4m3fn), torch.empty(rows, columns)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            block = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
            scale[i, j] = weight[block].abs().max() / 448
            packed[block] = (weight[block] / scale[i, j]).to(torch.float8_e4m3fn)
            meant[block] = packed[block].float() * scale[i, j]
    return packed, scale, meant


def saved(path: Path) -> dict[str, Tensor]:
    """The folder in FP8; what its tensors mean."""
    model = random_model(SPEC)
    folder.save(path, model, Tokenizer.build(), {})
    stored: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in export_tensors(model).items():
        if name.endswith(("_proj.weight", "_with_mqa.weight")):
            stored[name], stored[f"{name}_scale_inv"], meant[name] = quantised(tensor)
        else:
            stored[name] = meant[name] = tensor.contiguous()
    save_file(stored, path / "model.safetensors")
    (path / "raison.json").unlink()
    fp8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    config = json.loads((path / "config.json").read_text()) | {"quantization_config": fp8}
    (path / "config.json").write_text(json.dumps(config))
    return meant


@torch.no_grad()
def test_packed_and_expanded_mean_the_same(tmp_path: Path) -> None:
    meant = saved(tmp_path / "m")
    expanded, packed = (folder.load(tmp_path / "m", packed=p).model for p in (False, True))
    assert all(torch.equal(view, meant[name]) for name, view in export_tensors(expanded).items())
    projections = [m for m in packed.modules() if isinstance(m, Linear)]
    assert all(isinstance(module.packed, Fp8Blocks) for module in projections)
    assert (packed.score(IDS) - expanded.score(IDS)).abs().max() < 1e-4
    assert expanded.score(IDS).std() > 0.1
    assert survey(tmp_path / "m").stored["FP8 128x128"] == sum("scale_inv" not in n and "_proj" in n for n in meant)


def test_a_scale_that_does_not_fit_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    tensors = load_file(tmp_path / "m/model.safetensors")
    name = "model.layers.0.self_attn.o_proj.weight_scale_inv"
    save_file({**tensors, name: torch.ones(1, 3)}, tmp_path / "m/model.safetensors")
    with pytest.raises(CheckpointError, match=r"0\.self_attn\.o_proj\.weight: an FP8 weight of .* needs fp32"):
        folder.load(tmp_path / "m")
