"""Copies of a model that the engine computes with: in another dtype, with rounded weights, or on a device.

A copy follows its model: `refresh_copy` takes over changed weights in place, so that what was recorded of a step stays
true. Not covered: what native code packs for itself (kernels/weights.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from raison.engine.device import CPU
from raison.model.layers import Linear, RMSNorm
from raison.model.mla import MultiHeadLatentAttention
from raison.model.moe import Experts, Router
from raison.model.packed import packed_parts
from raison.model.rounding import rounded
from raison.model.transformer import Transformer

Dtype = Literal["fp32", "bf16", "q8", "q4"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "q8": torch.float32, "q4": torch.float32}
"""What activations are kept in; q8 and q4 are of weights (model/rounding.py)."""
ROUNDED = ("q8", "q4")
EXACT = torch.float32
"""What adapters are merged in before the sum is rounded once."""
ROW_BYTES = 16


@torch.no_grad()
def compute_copy(model: Transformer, dtype: Dtype) -> Transformer:
    """A twin whose products run in `dtype`, adapters merged; what is packed stays so where it has no adapter.

    In q8 and q4 everything is expanded and holds the rounded values; the head has 8 bits. Norms, routers and embedding
    are the model's own and stay exact.
    """
    twin = _deep_copy(model, {})
    if dtype in ROUNDED:
        twin.spec, twin.rounds = replace(model.spec, tie_word_embeddings=False), True
        twin.lm_head = _frozen(rounded(model.head, "q8"))
        twin.packed, twin.embed_tokens = None, _frozen(model.embedding)
    _fill(model, twin, dtype, CPU, whole=dtype in ROUNDED)
    _round_by_heads(model, twin, dtype)
    return twin


@torch.no_grad()
def refresh_copy(model: Transformer, twin: Transformer, dtype: Dtype) -> None:
    """Cast or round the model's weights into the twin again, in place."""
    if dtype in ROUNDED:
        twin.head.copy_(rounded(model.head, "q8"))
    for source, target in _products(model, twin):
        if target.packed:
            continue
        if isinstance(source, Linear) and isinstance(target, Linear):
            target.weight.copy_(_cast(source.matrix(EXACT), dtype))
            if source.bias is not None and target.bias is not None:
                target.bias.copy_(source.bias)
        elif isinstance(source, Experts) and isinstance(target, Experts):
            gate_up, down = source.matrices(EXACT)
            target.gate_up_proj.copy_(_cast(gate_up, dtype))
            target.down_proj.copy_(_cast(down, dtype))
    _round_by_heads(model, twin, dtype)


@torch.no_grad()
def device_copy(model: Transformer, dtype: Dtype, device: torch.device) -> Transformer:
    """A twin that stands whole on `device`: tables and products in `dtype`, norms and routers exact, nothing packed.

    Experts' products ask nothing of the host where their widths allow it. There are no MTP modules.
    """
    twin = _deep_copy(model, {id(x): _at(x, device) for x in _exact(model)})
    twin.mtp, twin.packed = nn.ModuleList(), None
    twin.embed_tokens = _frozen(model.embedding.to(device, DTYPES[dtype]))
    twin.lm_head = None if model.spec.tie_word_embeddings else _frozen(model.head.to(device, DTYPES[dtype]))
    _fill(model, twin, dtype, device, whole=True)
    for experts in (m for m in twin.modules() if isinstance(m, Experts)):
        experts.grouped = _can_be_grouped(experts.gate_up_proj) and _can_be_grouped(experts.down_proj)
    return twin


@torch.no_grad()
def refresh_device_copy(model: Transformer, twin: Transformer, dtype: Dtype) -> None:
    refresh_copy(model, twin, dtype)
    twin.embed_tokens.copy_(model.embedding)
    if twin.lm_head is not None:
        twin.lm_head.copy_(model.head)
    for source, target in zip(_exact(model), _exact(twin), strict=True):
        target.copy_(source)


def _deep_copy(model: Transformer, memo: dict[int, object]) -> Transformer:
    """The same modules around the same tensors but for those in `memo`."""
    kept: dict[int, object] = {id(x): x for x in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, kept | packed_parts(model) | memo)


def _fill(model: Transformer, twin: Transformer, dtype: Dtype, device: torch.device, whole: bool) -> None:
    """Give the twin products of its own; unless it is to be `whole`, what is packed stays so without an adapter."""
    for source, target in _products(model, twin):
        if source.packed and not source.lora and not whole:
            continue
        if isinstance(source, Linear) and isinstance(target, Linear):
            target.weight, target.lora = _frozen(_cast(source.matrix(EXACT), dtype).to(device)), None
            target.packed, target.rounds = None, dtype in ROUNDED
            target.bias = None if source.bias is None else _frozen(source.bias.to(device, DTYPES[dtype]))
        elif isinstance(source, Experts) and isinstance(target, Experts):
            parts = (_frozen(_cast(part, dtype).to(device)) for part in source.matrices(EXACT))
            target.gate_up_proj, target.down_proj = parts
            target.lora, target.packed = nn.ModuleDict(), ()


def _exact(model: Transformer) -> Iterator[Tensor]:
    """Norms and routers outside the MTP modules, whose numbers are never rounded."""
    for module in (*model.layers.modules(), model.norm):
        if isinstance(module, RMSNorm | Router):
            yield from module.parameters(recurse=False)
            yield from module.buffers(recurse=False)


def _can_be_grouped(weights_XFD: Tensor) -> bool:
    """Whether torch's grouped product takes them: rows of whole 16 bytes, and elsewhere than on the CPU in bf16."""
    aligned = weights_XFD.shape[-1] * weights_XFD.itemsize % ROW_BYTES == 0
    return aligned and (weights_XFD.device == CPU or weights_XFD.dtype == torch.bfloat16)


def _at(x: Tensor, device: torch.device) -> Tensor:
    """Itself, or a copy on another device."""
    if x.device == device:
        return x
    return _frozen(x.to(device)) if isinstance(x, nn.Parameter) else x.to(device)


def _round_by_heads(model: Transformer, twin: Transformer, dtype: Dtype) -> None:
    """kv_b is folded into queries and values head by head, in 8 bits: its key rows are summed over, not its columns."""
    if not model.spec.is_latent or dtype not in ROUNDED:
        return
    keys = model.spec.qk_nope_head_dim
    found = (m for m in (*model.layers.modules(), *twin.layers.modules()) if isinstance(m, MultiHeadLatentAttention))
    both = [attention.kv_b_proj for attention in found]
    for source, target in zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True):
        of_heads_HEC = source.matrix(EXACT).unflatten(0, (model.spec.num_attention_heads, -1))
        key_HPC, value_HVC = of_heads_HEC[:, :keys], of_heads_HEC[:, keys:]
        key_HPC = rounded(key_HPC.transpose(1, 2), "q8").transpose(1, 2)
        target.weight.copy_(torch.cat((key_HPC, rounded(value_HVC, "q8")), 1).flatten(0, 1))
        target.rounds = False


def _cast(exact: Tensor, dtype: Dtype) -> Tensor:
    return rounded(exact, dtype) if dtype == "q8" or dtype == "q4" else exact.to(DTYPES[dtype])


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def _products(model: Transformer, twin: Transformer) -> Iterator[tuple[Linear | Experts, Linear | Experts]]:
    """The layers' projections, and what stands for them in the twin."""
    found = dict(twin.layers.named_modules())
    for name, source in model.layers.named_modules():
        if isinstance(source, Linear | Experts):
            target = found[name]
            assert isinstance(target, Linear | Experts)
            yield source, target
