"""A GGUF file as a model: its metadata as a ModelSpec, its tensors under Hugging Face's names.

Architectures llama, qwen2, qwen3, qwen3moe and deepseek2. Llama's query and key rows stand in GGUF in the order that
rotates neighbours: they are used so, and the spec says it. Experts come stacked and are cut without a copy; attn_k_b
and attn_v_b, into which newer converters split kv_b_proj, are joined again. Not covered: the vocabulary
(text/vocabulary.py), the file itself (gguf_file.py), other architectures.

Source: llama.cpp, gguf-py/gguf/constants.py (keys and tensor names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from raison.errors import CheckpointError, UserError
from raison.model.packed import Mapped, PackedMatrix
from raison.model.rope import inverse_frequencies
from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec
from raison.weights.gguf_blocks import GgufBlocks
from raison.weights.gguf_file import GgufFile

ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3moe", "deepseek2")
ROPE_FACTORS = "rope_freqs.weight"
SOFTMAX, SIGMOID = 1, 2
"""expert_gating_func."""
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_LENGTH = 1.0, 4.0, 8192
"""Every published model with Llama-3 scaling has these; a GGUF file holds only the factors that they give."""

# GGUF's name within a layer -> Hugging Face's, without ".weight".
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
}  # fmt: skip
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
EXPERT_NAMES = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
ROUTER_BIAS = "exp_probs_b.bias"


@dataclass(frozen=True, slots=True)
class Keys:
    """The metadata of one architecture, by the rest of the key; errors name the key and the file."""

    file: GgufFile
    architecture: str

    def number(self, name: str, default: float | None = None) -> Any:
        key = f"{self.architecture}.{name}"
        value = self.file.metadata.get(key, default)
        if isinstance(value, list) and value and value == value[:1] * len(value):
            value = value[0]  # the same for every layer
        if value is None:
            raise CheckpointError(f"{self.file.path} lacks the metadata `{key}`")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.file.path} has {value!r:.60} as `{key}`; it must be one number")
        return value

    def text(self, name: str) -> str | None:
        value = self.file.metadata.get(f"{self.architecture}.{name}")
        return value if isinstance(value, str) else None


def spec_of(file: GgufFile) -> ModelSpec:
    """The shape; CheckpointError for another architecture, and for metadata that is missing or describes no model."""
    name = file.metadata.get("general.architecture")
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{file.path} is of the architecture {name!r:.40}; this version reads {known}")
    keys = Keys(file, str(name))
    try:
        spec = ModelSpec(**_common(keys), **(_latent(keys) if name == "deepseek2" else _grouped(keys)))
        return replace(spec, rope_scaling=_scaling(keys, spec))
    except CheckpointError:
        raise
    except (UserError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{file.path} describes no model: {error}") from error


def _common(keys: Keys) -> dict[str, Any]:
    table = keys.file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise CheckpointError(f"{keys.file.path} has no token_embd.weight; it is not a language model")
    return {
        "vocab_size": table.shape[0],
        "hidden_size": keys.number("embedding_length"),
        "num_hidden_layers": keys.number("block_count"),
        "num_attention_heads": keys.number("attention.head_count"),
        "intermediate_size": keys.number("feed_forward_length"),
        "max_position_embeddings": keys.number("context_length"),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": float(keys.number("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in keys.file.tensors,
    }


def _grouped(keys: Keys) -> dict[str, Any]:
    tensors, heads = keys.file.tensors, keys.number("attention.head_count")
    head = keys.number("attention.key_length", keys.number("embedding_length") // max(heads, 1))
    if keys.number("attention.value_length", head) != head or keys.number("rope.dimension_count", head) != head:
        raise CheckpointError(f"{keys.file.path} rotates a part of its heads, which this version does not")
    routed = keys.number("expert_count", 0)
    return {
        "num_key_value_heads": keys.number("attention.head_count_kv", heads),
        "head_dim": head,
        "qkv_bias": "blk.0.attn_q.bias" in tensors,
        "o_bias": "blk.0.attn_output.bias" in tensors,
        "qk_norm": "blk.0.attn_q_norm.weight" in tensors,
        "rope_interleave": keys.architecture == "llama",
        **({} if not routed else _routed(keys, routed) | {"topk_method": "greedy"}),
    }


def _latent(keys: Keys) -> dict[str, Any]:
    rotary = keys.number("rope.dimension_count")
    key = keys.number("attention.key_length_mla", keys.number("attention.key_length"))
    value = keys.number("attention.value_length_mla", keys.number("attention.value_length"))
    routed = keys.number("expert_count", 0)
    rank = keys.number("attention.q_lora_rank", 0)
    sigmoid = keys.number("expert_gating_func", SOFTMAX) == SIGMOID
    groups = {"n_group": keys.number("expert_group_count", 1), "topk_group": keys.number("expert_group_used_count", 1)}
    method = "noaux_tc" if sigmoid or not routed else "greedy" if groups["n_group"] == 1 else "group_limited_greedy"
    return {
        "q_lora_rank": rank or None,
        "kv_lora_rank": keys.number("attention.kv_lora_rank"),
        "qk_nope_head_dim": key - rotary,
        "qk_rope_head_dim": rotary,
        "v_head_dim": value,
        "topk_method": method,
        "first_k_dense_replace": keys.number("leading_dense_block_count", 0) if routed else 0,
        **({} if not routed else _routed(keys, routed) | groups),
    }


def _routed(keys: Keys, experts: int) -> dict[str, Any]:
    normalise = keys.file.metadata.get(f"{keys.architecture}.expert_weights_norm", keys.architecture == "qwen3moe")
    return {
        "n_routed_experts": experts,
        "num_experts_per_tok": keys.number("expert_used_count"),
        "moe_intermediate_size": keys.number("expert_feed_forward_length"),
        "n_shared_experts": keys.number("expert_shared_count", 0),
        "routed_scaling_factor": float(keys.number("expert_weights_scale", 1.0)) or 1.0,
        "norm_topk_prob": bool(normalise),
    }


def _scaling(keys: Keys, plain: ModelSpec) -> YarnSpec | Llama3Spec | None:
    if ROPE_FACTORS in keys.file.tensors:
        return _llama3(keys.file, plain)
    kind = keys.text("rope.scaling.type")
    if kind in (None, "none"):
        return None
    if kind != "yarn":
        raise CheckpointError(f"{keys.file.path} scales RoPE by {kind!r:.40}; this version has yarn and Llama-3's")
    mscale = round(keys.number("rope.scaling.yarn_log_multiplier", 0.0) * 10, 6)  # stored as 0.1 * mscale_all_dim
    length = keys.number("rope.scaling.original_context_length", plain.max_position_embeddings)
    return YarnSpec(float(keys.number("rope.scaling.factor")), length, mscale=mscale or 1.0, mscale_all_dim=mscale)


def _llama3(file: GgufFile, plain: ModelSpec) -> Llama3Spec:
    """The scaling whose factors the file holds; they must be those of a published Llama 3."""
    factors = file.tensors[ROPE_FACTORS].expand().flatten()
    scaling = Llama3Spec(round(float(factors.max()), 4), LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_LENGTH)
    expected = inverse_frequencies(plain) / inverse_frequencies(replace(plain, rope_scaling=scaling))
    if factors.shape != expected.shape or not torch.allclose(factors, expected, rtol=1e-3):
        raise CheckpointError(f"{file.path} has factors of RoPE ({ROPE_FACTORS}) that are not those of Llama 3")
    return scaling


def halved(spec: ModelSpec) -> ModelSpec:
    """Families are told apart without the order of Llama's rows."""
    return spec if spec.is_latent else replace(spec, rope_interleave=False)


class GgufTensors(Mapping[str, PackedMatrix]):
    """The tensors of a file under Hugging Face's names; what has no such name keeps its own."""

    def __init__(self, file: GgufFile, spec: ModelSpec) -> None:
        self._found: dict[str, PackedMatrix] = {}
        for name, blocks in file.tensors.items():
            if name != ROPE_FACTORS:
                self._found |= _renamed(name, blocks)
        for layer in range(spec.num_hidden_layers if spec.is_latent else 0):
            self._join_up_projections(layer, spec)

    def __getitem__(self, name: str) -> PackedMatrix:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _join_up_projections(self, layer: int, spec: ModelSpec) -> None:
        """attn_k_b [H, C, P] and attn_v_b [H, V, C] make kv_b_proj [H * (P + V), C]."""
        keys, values = (self._found.get(f"blk.{layer}.{name}.weight") for name in ("attn_k_b", "attn_v_b"))
        shapes = (
            (spec.num_attention_heads, spec.latent_rank, spec.qk_nope_head_dim),
            (spec.num_attention_heads, spec.v_head_dim, spec.latent_rank),
        )
        if keys is None or values is None or (keys.shape, values.shape) != shapes:
            return
        joined: Tensor = torch.cat((keys.expand().transpose(1, 2), values.expand()), dim=1).flatten(0, 1)
        self._found[f"model.layers.{layer}.self_attn.kv_b_proj.weight"] = Mapped(joined)
        for name in ("attn_k_b", "attn_v_b"):
            del self._found[f"blk.{layer}.{name}.weight"]


def _renamed(name: str, blocks: GgufBlocks) -> dict[str, PackedMatrix]:
    stem, _, kind = name.rpartition(".")
    if stem in TOP_NAMES and kind == "weight":
        return {f"{TOP_NAMES[stem]}.weight": blocks}
    match = re.fullmatch(r"blk\.(\d{1,6})\.(.+)", stem)
    if match is None:
        return {name: blocks}
    layer, inner = f"model.layers.{int(match[1])}", match[2]
    if f"{inner}.{kind}" == ROUTER_BIAS:
        return {f"{layer}.mlp.gate.e_score_correction_bias": blocks}
    if inner in EXPERT_NAMES and kind == "weight" and len(blocks.shape) == 3:
        return {f"{layer}.mlp.experts.{i}.{EXPERT_NAMES[inner]}.weight": m for i, m in enumerate(_experts(blocks))}
    if inner in LAYER_NAMES and kind in ("weight", "bias"):
        return {f"{layer}.{LAYER_NAMES[inner]}.{kind}": blocks}
    return {name: blocks}


def _experts(stacked: GgufBlocks) -> Iterator[GgufBlocks]:
    """[X, F, D] as X matrices on the same data."""
    for index in range(stacked.shape[0]):
        yield GgufBlocks(stacked.kind, stacked.shape[1:], stacked.rows(index, index + 1).data)
