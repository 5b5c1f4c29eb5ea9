"""LoRA on a whole Transformer: low-rank adapters on projections that are named, everything else frozen.

A projection is named as in a checkpoint, `layers.3.self_attn.kv_b_proj` or, for all routed experts of a layer at once,
`layers.3.mlp.experts.gate_proj`, which has a pair of factors for each expert. A target is any end of such a name:
`gate_proj` means dense, shared and routed ones, `experts.gate_proj` the routed ones alone. The base may be packed. Not
covered: embeddings, the head, norms, routers and MTP modules, which stay as they are; files (weights/peft.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from raison.errors import UserError, nearest
from raison.model.layers import Linear
from raison.model.low_rank import LowRank
from raison.model.moe import PARTS, Experts
from raison.model.transformer import Transformer

MARK = ".lora"


def attach(model: Transformer, rank: int, alpha: float, targets: Sequence[str] = (), seed: int = 0) -> None:
    """Freeze `model` and put adapters of scale alpha / rank on its projections; no targets means all of them.

    The model computes what it did, until the adapters are trained. Raises UserError for a target that names nothing.
    """
    assert not adapters(model), "the model has adapters already; merge them first"
    chosen = _chosen([name for name, _ in _projections(model)], targets)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, owner in _projections(model):
        if name in chosen:
            adapter = LowRank(_shape(name, owner), rank, alpha / rank, generator)
            if isinstance(owner, Linear):
                owner.lora = adapter
            else:
                owner.lora[_last(name)] = adapter


def adapters(model: Transformer) -> dict[str, LowRank]:
    """The adapters by the names of their projections, in the order of the layers; empty where there are none."""
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, LowRank))
    return {name.replace(MARK, ""): module for name, module in found}


def projections(model: Transformer) -> dict[str, tuple[int, ...]]:
    """What can have an adapter: names and shapes, [F, D] or, for a layer's routed experts, [X, F, D]."""
    return {name: _shape(name, owner) for name, owner in _projections(model)}


def merge(model: Transformer) -> None:
    """Fold the adapters into the weights, in place, and remove them. The whole model can be trained again.

    What was packed is expanded for good.
    """
    for module in model.modules():
        if isinstance(module, Linear | Experts):
            module.fold()
    model.unpack()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.numel() > 0)


def _projections(model: Transformer) -> Iterator[tuple[str, Linear | Experts]]:
    """Every projection that can have an adapter, by name; a layer's routed experts come three times."""
    for name, module in model.named_modules():
        if not name.startswith("layers."):
            continue
        if isinstance(module, Linear):
            yield name, module
        elif isinstance(module, Experts):
            yield from ((f"{name}.{part}", module) for part in PARTS)


def _shape(name: str, owner: Linear | Experts) -> tuple[int, ...]:
    return owner.shape if isinstance(owner, Linear) else owner.shape_of(_last(name))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _chosen(names: Sequence[str], targets: Sequence[str]) -> set[str]:
    if not targets:
        return set(names)
    found = {target: [name for name in names if f".{name}".endswith(f".{target}")] for target in targets}
    for target, hits in found.items():
        if not hits:
            hint = nearest(target, {_last(name) for name in names})
            raise UserError(f'lora has the target "{target}", but this model has no such projection: {hint}')
    return {name for hits in found.values() for name in hits}
