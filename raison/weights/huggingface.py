"""Tensors under the names of Hugging Face's checkpoints, to and from our Transformer. config.json: families.py.

A published checkpoint names every expert's three matrices singly and, for DeepSeek-V3, keeps MTP module k as layer
`num_hidden_layers + k`, with copies of the embedding and the head. Ours are written without those copies, which would
be a sixth of a tiny model; where a checkpoint has them they must equal what they copy, and are then ignored. Every
other tensor that is missing or left over is an error. Not covered: FP8 block scales.

Legend: X experts, I inner width of an expert, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from raison.errors import CheckpointError
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer

ROUTER_BIAS = "e_score_correction_bias"
LISTED = 8
"""Tensors that an error names; the rest is counted."""


def named_views(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of `model` under its published name, once. They are views: copying into one changes the model."""
    layers = model.spec.num_hidden_layers
    for name, tensor in model.state_dict().items():
        published = _published_name(name, layers)
        if published.endswith(".mlp.experts.gate_up_proj"):
            yield from _expert_views(published, tensor, ("gate_proj", "up_proj"))
        elif published.endswith(".mlp.experts.down_proj"):
            yield from _expert_views(published, tensor, ("down_proj",))
        else:
            yield published, tensor


def export_tensors(model: Transformer, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The checkpoint of `model`, cast to `dtype`; only the router's bias stays fp32, as a rounded one picks others."""
    return {name: t.to(t.dtype if name.endswith(ROUTER_BIAS) else dtype or t.dtype) for name, t in named_views(model)}


def import_tensors(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> Transformer:
    """A model of `spec` in fp32 with these weights; nothing is allocated before every name and shape is known to fit.

    Raises CheckpointError that lists tensors which are missing, left over or of another shape.
    """
    model = _outline(spec, len(tensors))
    _check(dict(named_views(model)), tensors, _copies(spec))
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, view in named_views(model):
            view.copy_(tensors[name])
    return model


def _outline(spec: ModelSpec, tensors: int) -> Transformer:
    """The model without memory; sizes that are out of all proportion end here, not in hours of counting names."""
    if max(spec.num_hidden_layers + spec.num_nextn_predict_layers, spec.n_routed_experts) > tensors:
        raise CheckpointError(
            f"config.json describes {spec.num_hidden_layers} layers and {spec.n_routed_experts} experts in each, "
            f"but there are only {tensors} tensors"
        )
    try:
        with torch.device("meta"):
            return Transformer(spec)
    except RuntimeError as error:
        raise CheckpointError(f"config.json describes a model of impossible size: {error}") from error


def _published_name(name: str, layers: int) -> str:
    head, _, rest = name.partition(".")
    if head == "lm_head":
        return "lm_head.weight"
    if head == "embed_tokens":
        return "model.embed_tokens.weight"
    if head != "mtp":
        return f"model.{name}"
    index, _, rest = rest.partition(".")
    inner = f"shared_head.{rest}" if rest.startswith("norm.") else rest.removeprefix("block.")
    return f"model.layers.{layers + int(index)}.{inner}"


def _expert_views(published: str, stacked: Tensor, parts: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Slices of a stacked matrix: gate and up are the two halves of [X, 2I, D], down is [X, D, I] whole."""
    experts = published.rpartition(".")[0]
    for index, matrix in enumerate(stacked):
        for part, view in zip(parts, matrix.chunk(len(parts)), strict=True):
            yield f"{experts}.{index}.{part}.weight", view


def _copies(spec: ModelSpec) -> dict[str, str]:
    """Names that published checkpoints give to the embedding and the head a second time."""
    embedding = "model.embed_tokens.weight"
    head = embedding if spec.tie_word_embeddings else "lm_head.weight"
    copies = {"lm_head.weight": embedding} if spec.tie_word_embeddings else {}
    for index in range(spec.num_nextn_predict_layers):
        layer = f"model.layers.{spec.num_hidden_layers + index}"
        copies |= {f"{layer}.embed_tokens.weight": embedding, f"{layer}.shared_head.head.weight": head}
    return copies


def _check(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], copies: Mapping[str, str]) -> None:
    missing = expected.keys() - tensors.keys()
    left_over = tensors.keys() - expected.keys() - copies.keys()
    wrong = [
        f"{name} is {list(tensors[name].shape)} and not {list(view.shape)}"
        for name, view in expected.items()
        if name in tensors and tensors[name].shape != view.shape
    ]
    found = ((missing, "tensors are missing"), (left_over, "tensors are left over"), (wrong, "shapes are wrong"))
    said = [f"{len(items)} {what}: {_list(items)}" for items, what in found if items]
    if said:
        raise CheckpointError(f"the weights are not those of config.json: {'; '.join(said)}")
    for copy, original in copies.items():
        if copy in tensors and not torch.equal(tensors[copy], tensors[original]):
            raise CheckpointError(f"{copy} must be a copy of {original}, but differs; this model shares the two")


def _list(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more
