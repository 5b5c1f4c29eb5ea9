"""A model's weights in the order in which native code packs them.

Blocks of a GGUF file that native code knows are handed over as they are, other matrices in fp32, with adapters
folded in. Not covered: bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from raison.model.grouped_query import GroupedQueryAttention
from raison.model.layers import Linear, SwiGLU
from raison.model.mla import MultiHeadLatentAttention
from raison.model.moe import Experts, MixtureOfExperts
from raison.model.packed import PackedMatrix
from raison.model.transformer import Block, Transformer
from raison.weights.gguf_blocks import GgufBlocks

Precision = Literal["fp32", "q8", "q4"]
KINDS = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 8}
"""Blocks of GGUF files that are packed without a change of value, by ggml's numbers."""
GROUP = 32
FP32 = torch.float32

Source = Tensor | GgufBlocks
"""What a weight is read from: fp32, or blocks of a file that native code knows."""


def weights_of(model: Transformer, raw: bool) -> Iterator[Source]:
    """Every weight in the order in which network.hpp reads them, adapters folded in; `raw` leaves known blocks as they
    are.
    """
    embedding, head = _tables(model)
    yield embedding
    for block in model.layers:
        yield from _block(block, raw)
    yield from (model.norm.weight, head)


def predictor_weights(model: Transformer, raw: bool) -> Iterator[Source]:
    """The same of the first MTP module, as a decoder of one layer."""
    (embedding, head), module = _tables(model), next(model.predictors())
    yield from (embedding, module.enorm.weight, module.hnorm.weight, _matrix(module.eh_proj, raw))
    yield from _block(module.block, raw)
    yield from (module.norm.weight, head)


def _block(block: nn.Module, raw: bool) -> Iterator[Source]:
    assert isinstance(block, Block)
    yield block.input_layernorm.weight
    attention = block.self_attn
    yield from _latent(attention, raw) if isinstance(attention, MultiHeadLatentAttention) else _grouped(attention, raw)
    yield block.post_attention_layernorm.weight
    yield from _mixture(block.mlp, raw) if isinstance(block.mlp, MixtureOfExperts) else _dense(block.mlp, raw)


def _tables(model: Transformer) -> tuple[Source, Source]:
    """Embedding and head, as blocks where they are packed so."""
    if model.packed is None:
        return model.embed_tokens, model.head
    matrices = model.packed.embedding, model.packed.head
    embedding = _known_blocks(matrices[0]) or matrices[0].expand()
    return embedding, embedding if matrices[0] is matrices[1] else _known_blocks(matrices[1]) or matrices[1].expand()


def _matrix(linear: nn.Module, raw: bool) -> Source:
    assert isinstance(linear, Linear)
    if raw and linear.lora is None and (blocks := _known_blocks(linear.packed)) is not None:
        return blocks
    return linear.matrix(FP32)


def _known_blocks(matrix: PackedMatrix | None) -> GgufBlocks | None:
    """A matrix whose blocks native code reads; none of them may go over the end of a row."""
    found = isinstance(matrix, GgufBlocks) and matrix.kind in KINDS and matrix.shape[-1] % GROUP == 0
    return matrix if isinstance(matrix, GgufBlocks) and found else None


def known_width(matrix: PackedMatrix) -> Precision:
    """The width at which native code packs the matrix without a change of value."""
    blocks = _known_blocks(matrix)
    return "fp32" if blocks is None else "q8" if blocks.kind == "Q8_0" else "q4"


def _latent(attention: MultiHeadLatentAttention, raw: bool) -> Iterator[Source]:
    if attention.spec.q_lora_rank is None:
        yield _matrix(attention.q_proj, raw)
    else:
        yield from (_matrix(attention.q_a_proj, raw), attention.q_a_layernorm.weight, _matrix(attention.q_b_proj, raw))
    yield from (_matrix(attention.kv_a_proj_with_mqa, raw), attention.kv_a_layernorm.weight)
    yield from (attention.kv_b_proj.matrix(FP32), _matrix(attention.o_proj, raw))


def _grouped(attention: nn.Module, raw: bool) -> Iterator[Source]:
    assert isinstance(attention, GroupedQueryAttention)
    parts = attention.q_proj, attention.k_proj, attention.v_proj
    yield from (_matrix(part, raw) for part in parts)
    yield from (part.bias for part in parts if part.bias is not None)
    if attention.q_norm is not None and attention.k_norm is not None:
        yield from (attention.q_norm.weight, attention.k_norm.weight)
    yield _matrix(attention.o_proj, raw)
    if attention.o_proj.bias is not None:
        yield attention.o_proj.bias


def _dense(swiglu: nn.Module, raw: bool) -> Iterator[Source]:
    assert isinstance(swiglu, SwiGLU)
    yield from (_matrix(part, raw) for part in (swiglu.gate_proj, swiglu.up_proj, swiglu.down_proj))


def _mixture(mixture: MixtureOfExperts, raw: bool) -> Iterator[Source]:
    yield mixture.gate.weight
    if mixture.gate.bias is not None:
        yield mixture.gate.bias
    yield from _experts(mixture.experts, raw)
    if mixture.shared_experts is not None:
        yield from _dense(mixture.shared_experts, raw)


def _experts(experts: Experts, raw: bool) -> Iterator[Source]:
    """Gate, up and down of each expert."""
    if raw and not experts.lora and experts.packed:
        parts = [part for expert in experts.packed for part in (expert.gate, expert.up, expert.down)]
        yield from (_known_blocks(part) or part.expand() for part in parts)
        return
    for gate_up, down in zip(*experts.matrices(FP32), strict=True):
        yield from (*gate_up.chunk(2), down)
