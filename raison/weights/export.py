"""A model for other people's software: a Hugging Face folder, or a GGUF file.

A model from a GGUF file of Llama's architecture rotates neighbours; transformers rotates halves, so its query and key
rows go back into that order first. Not covered: LoRA adapters, sharded folders.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from raison.errors import UserError
from raison.model.grouped_query import GroupedQueryAttention
from raison.model.layers import Linear
from raison.model.transformer import Transformer
from raison.weights import folder
from raison.weights.gguf_export import export_gguf
from raison.weights.opened import LoadedModel

Quant = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"]
FOLDER_DTYPES: dict[str, Literal["fp32", "fp16", "bf16"]] = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def export(loaded: LoadedModel, out: Path, to: Literal["hf", "gguf"], quant: Quant | None, name: str) -> None:
    """Write `loaded`, as bf16 in a folder and F16 in a GGUF file where `quant` is None.

    Raises UserError for a kind that the form does not have, a shape that nobody else knows, and a disk that is full.
    """
    if to == "hf":
        kind = quant or "BF16"
        if kind not in FOLDER_DTYPES:
            raise UserError(f"a Hugging Face folder is written in F32, F16 or BF16, not {kind}; {kind} needs --to gguf")
        rotate_halves_of(loaded.model)
        folder.save(out, loaded.model, loaded.tokenizer, loaded.provenance, FOLDER_DTYPES[kind])
        return
    if quant == "BF16":
        raise UserError("a GGUF file is written in F32, F16, Q8_0 or Q4_0, not BF16")
    out.parent.mkdir(parents=True, exist_ok=True)
    export_gguf(out, loaded.model, loaded.tokenizer, quant or "F16", name)


@torch.no_grad()
def rotate_halves_of(model: Transformer) -> None:
    """Reorder a grouped-query model that rotates neighbours, in place, so that it rotates halves as published ones do.

    The two projections whose rows move are packed no more.
    """
    spec = model.spec
    if spec.is_latent or not spec.rope_interleave:
        return
    for module in model.modules():
        if isinstance(module, GroupedQueryAttention):
            for projection in (module.q_proj, module.k_proj):
                _to_halves(projection, spec.qk_head_dim)
            module.spec = replace(spec, rope_interleave=False)
    model.spec = replace(spec, rope_interleave=False)


def _to_halves(projection: Linear, head: int) -> None:
    assert projection.lora is None, "an adapter's rows would stay where they are"
    projection.fold()
    for tensor in (projection.weight, projection.bias):
        if tensor is not None:
            tensor.copy_(tensor.unflatten(0, (-1, head // 2, 2)).transpose(1, 2).flatten(0, 2).clone())
