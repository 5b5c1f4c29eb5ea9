"""A model as a GGUF file that llama.cpp runs: metadata and tensor names, the inverse of gguf_model.py.

Architectures llama, qwen2, qwen3, qwen3moe and deepseek2. Llama's query and key rows are reordered so that rotating
neighbours turns the pairs that the model means. Not covered: MTP modules (llama.cpp runs a model without), YaRN's
mscale other than mscale_all_dim, quantisations but Q8_0 and Q4_0; norms, biases and routers stay F32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raison.errors import UserError
from raison.model.rope import inverse_frequencies
from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec
from raison.model.transformer import Transformer
from raison.text.chat import TEMPLATE
from raison.text.pre_tokenizer import pre_of
from raison.text.tokenizer import Tokenizer
from raison.text.vocabulary import gguf_from_backend
from raison.weights.families import family_of
from raison.weights.gguf_blocks import FORMATS
from raison.weights.gguf_model import (
    EXPERT_NAMES,
    LAYER_NAMES,
    ROPE_FACTORS,
    ROUTER_BIAS,
    SIGMOID,
    SOFTMAX,
    TOP_NAMES,
    halved,
)
from raison.weights.gguf_write import Field, FieldType, Kind, write_gguf
from raison.weights.huggingface import named_views

ARCHITECTURE_OF = {
    "deepseek_v3": "deepseek2", "deepseek_v2": "deepseek2", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
}  # fmt: skip
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}
"""general.file_type, llama.cpp's number for what most tensors are."""


def export_gguf(
    path: Path, model: Transformer, tokenizer: Tokenizer, quant: Kind, name: str, absorbed: bool = False
) -> None:
    """Write the main model; `absorbed` splits kv_b_proj as llama.cpp's own conversion does.

    llama.cpp attends to latents with the halves, and to expanded keys and values with kv_b_proj whole. Raises UserError
    where no architecture of llama.cpp's has this shape.
    """
    spec = model.spec
    architecture = ARCHITECTURE_OF[family_of(halved(spec)).model_type]
    fields = _metadata(spec, architecture, quant, name, absorbed) | _vocabulary(tokenizer, spec.vocab_size)
    tensors = dict(_tensors(model, architecture))
    if absorbed and spec.is_latent:
        tensors = {key: part for name, tensor in tensors.items() for key, part in _split(name, tensor, spec)}
    write_gguf(path, fields, tensors, lambda key, shape: _kind(key, shape, quant))


def _kind(name: str, shape: tuple[int, ...], quant: Kind) -> Kind:
    """Vectors and routers exact; rows that do not divide into blocks at 16 bits."""
    if len(shape) < 2 or "ffn_gate_inp" in name or quant == "F32":
        return "F32"
    return quant if shape[-1] % FORMATS[quant].elements == 0 else "F16"


def _metadata(spec: ModelSpec, architecture: str, quant: Kind, name: str, absorbed: bool) -> dict[str, Field]:
    plain = {
        "general.architecture": Field(architecture, "str"), "general.name": Field(name, "str"),
        "general.file_type": Field(FILE_TYPES[quant], "u32"), "general.quantization_version": Field(2, "u32"),
    }  # fmt: skip
    sizes = {
        "block_count": spec.num_hidden_layers, "context_length": spec.max_position_embeddings,
        "embedding_length": spec.hidden_size, "feed_forward_length": spec.intermediate_size,
        "attention.head_count": spec.num_attention_heads, "vocab_size": spec.vocab_size,
        "rope.dimension_count": spec.rotary_width, **(_latent(spec, absorbed) if spec.is_latent else _grouped(spec)),
        **(_routed(spec) if spec.n_routed_experts else {}),
    }  # fmt: skip
    reals = {"attention.layer_norm_rms_epsilon": spec.rms_norm_eps, "rope.freq_base": spec.rope_theta}
    numbers = {key: Field(value, "u32") for key, value in sizes.items()}
    numbers |= {key: Field(value, "f32") for key, value in reals.items()} | _scaling(spec)
    if spec.n_routed_experts:
        numbers["expert_weights_scale"] = Field(spec.routed_scaling_factor, "f32")
        numbers["expert_weights_norm"] = Field(spec.norm_topk_prob, "bool")
    return plain | {f"{architecture}.{key}": field for key, field in numbers.items()}


def _grouped(spec: ModelSpec) -> dict[str, int]:
    head = spec.qk_head_dim
    return {
        "attention.head_count_kv": spec.key_value_heads, "attention.key_length": head, "attention.value_length": head
    }  # fmt: skip


def _latent(spec: ModelSpec, absorbed: bool) -> dict[str, int]:
    """With kv_b_proj whole as many keys and values as queries; absorbed, one latent for all."""
    ranks = {"attention.kv_lora_rank": spec.latent_rank} | (
        {"attention.q_lora_rank": spec.q_lora_rank} if spec.q_lora_rank else {}
    )
    if not absorbed:
        return ranks | {
            "attention.head_count_kv": spec.num_attention_heads, "attention.key_length": spec.qk_head_dim,
            "attention.value_length": spec.v_head_dim,
        }  # fmt: skip
    return ranks | {
        "attention.head_count_kv": 1, "attention.key_length": spec.latent_rank + spec.qk_rope_head_dim,
        "attention.value_length": spec.latent_rank, "attention.key_length_mla": spec.qk_head_dim,
        "attention.value_length_mla": spec.v_head_dim,
    }  # fmt: skip


def _routed(spec: ModelSpec) -> dict[str, int]:
    sizes = {
        "expert_count": spec.n_routed_experts, "expert_used_count": spec.num_experts_per_tok,
        "expert_feed_forward_length": spec.moe_intermediate_size,
    }  # fmt: skip
    if not spec.is_latent:
        return sizes
    return sizes | {
        "expert_shared_count": spec.n_shared_experts, "leading_dense_block_count": spec.first_k_dense_replace,
        "expert_gating_func": SIGMOID if spec.topk_method == "noaux_tc" else SOFTMAX,
        "expert_group_count": spec.n_group, "expert_group_used_count": spec.topk_group,
    }  # fmt: skip


def _scaling(spec: ModelSpec) -> dict[str, Field]:
    if not isinstance(spec.rope_scaling, YarnSpec):
        return {}
    yarn = spec.rope_scaling
    if yarn.mscale_all_dim not in (0.0, yarn.mscale):
        raise UserError("GGUF has no place for an mscale that differs from mscale_all_dim; export to hf instead")
    return {
        "rope.scaling.type": Field("yarn", "str"), "rope.scaling.factor": Field(yarn.factor, "f32"),
        "rope.scaling.original_context_length": Field(yarn.original_max_position_embeddings, "u32"),
        "rope.scaling.yarn_log_multiplier": Field(0.1 * yarn.mscale_all_dim, "f32"),
    }  # fmt: skip


def _vocabulary(tokenizer: Tokenizer, size: int) -> dict[str, Field]:
    """With names for the rows of the embedding that no token has."""
    backend = tokenizer.backend
    bos, eos = (None if i is None else backend.id_to_token(i) for i in (tokenizer.bos, tokenizer.eos))
    found = gguf_from_backend(backend, pre_of(backend), bos=bos, eos=eos, size=size)
    template = TEMPLATE if tokenizer.template is None else tokenizer.template.source
    fields = {key: Field(value, _field_type(key, value)) for key, value in found.items()}
    fields["tokenizer.ggml.padding_token_id"] = Field(tokenizer.eos, "u32")
    return fields | {"tokenizer.chat_template": Field(template, "str")}


def _field_type(key: str, value: Any) -> FieldType:
    if key.endswith(".token_type"):
        return "i32"
    first = value[0] if isinstance(value, list) else value
    return "bool" if isinstance(first, bool) else "u32" if isinstance(first, int) else "str"


def _tensors(model: Transformer, architecture: str) -> Iterator[tuple[str, Tensor]]:
    spec, views = model.spec, dict(named_views(model))
    reorder: Callable[[Tensor], Tensor] = _neighbours(spec) if architecture == "llama" else lambda rows: rows
    for ours, theirs in TOP_NAMES.items():
        if f"{theirs}.weight" in views:
            yield f"{ours}.weight", views[f"{theirs}.weight"]
    for layer in range(spec.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        for ours, theirs in LAYER_NAMES.items():
            for kind in ("weight", "bias"):
                view = views.get(f"{prefix}.{theirs}.{kind}")
                if view is not None:
                    yield f"blk.{layer}.{ours}.{kind}", reorder(view) if ours in ("attn_q", "attn_k") else view
        yield from _experts(layer, f"{prefix}.mlp", spec, views)
    if isinstance(spec.rope_scaling, Llama3Spec):
        yield ROPE_FACTORS, inverse_frequencies(replace(spec, rope_scaling=None)) / inverse_frequencies(spec)


def _split(name: str, tensor: Tensor, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """kv_b_proj [H * (P + V), C] as attn_k_b [H, C, P] and attn_v_b [H, V, C]; all else as it is."""
    if not name.endswith(".attn_kv_b.weight"):
        yield name, tensor
        return
    by_head = tensor.unflatten(0, (spec.num_attention_heads, -1))
    yield name.replace("kv_b", "k_b"), by_head[:, : spec.qk_nope_head_dim].transpose(1, 2)
    yield name.replace("kv_b", "v_b"), by_head[:, spec.qk_nope_head_dim :]


def _experts(layer: int, prefix: str, spec: ModelSpec, views: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    if not spec.is_moe_layer(layer):
        return
    for ours, theirs in EXPERT_NAMES.items():
        matrices = [views[f"{prefix}.experts.{i}.{theirs}.weight"] for i in range(spec.n_routed_experts)]
        yield f"blk.{layer}.{ours}.weight", torch.stack(matrices)
    bias = views.get(f"{prefix}.gate.e_score_correction_bias")
    if bias is not None:
        yield f"blk.{layer}.{ROUTER_BIAS}", bias


def _neighbours(spec: ModelSpec) -> Callable[[Tensor], Tensor]:
    """Rows of each head from (first half, second half) to alternating, as llama.cpp's conversion does for Llama."""
    if spec.rope_interleave:
        return lambda rows: rows

    def reorder(rows: Tensor) -> Tensor:
        alternating: Tensor = rows.unflatten(0, (-1, 2, spec.qk_head_dim // 2)).transpose(1, 2).flatten(0, 2)
        return alternating

    return reorder
