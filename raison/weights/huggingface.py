"""Tensors under the names of Hugging Face's checkpoints, to and from our Transformer. config.json: families.py.

A published checkpoint names every expert's three matrices singly and, for DeepSeek-V3, keeps MTP module k as layer
`num_hidden_layers + k`, with copies of the embedding and the head. Ours are written without those copies, which would
be a sixth of a tiny model; where a checkpoint has them they must equal what they copy, and are then ignored. Every
other tensor that is missing or left over is an error. Not covered: FP8 block scales.

Legend: X experts, I inner width of an expert, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from raison.errors import CheckpointError
from raison.model.layers import Linear
from raison.model.lora import adapters
from raison.model.memory import materialise
from raison.model.moe import PARTS, Experts, PackedExpert
from raison.model.packed import PackedMatrix, Scratch, packed_parts
from raison.model.spec import ModelSpec
from raison.model.transformer import PackedTables, Transformer

ROUTER_BIAS = "e_score_correction_bias"
LISTED = 8
"""Tensors that an error names; the rest is counted."""
COMPARED_ROWS = 4096


def named_views(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of `model` under its published name, once. They are views: copying into one changes the model."""
    assert not adapters(model), "adapters have no place among a model's own weights; merge them first"
    layers = model.spec.num_hidden_layers
    for name, tensor in model.state_dict().items():
        published = _published_name(name, layers)
        if published.endswith(".mlp.experts.gate_up_proj"):
            yield from _expert_views(published, tensor, PARTS[:2])
        elif published.endswith(".mlp.experts.down_proj"):
            yield from _expert_views(published, tensor, PARTS[2:])
        else:
            yield published, tensor


def export_tensors(model: Transformer, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The checkpoint of `model`, cast to `dtype`; only the router's bias stays fp32, as a rounded one picks others."""
    assert not packed_parts(model), "packed weights are not written; load expanded, or merge"
    return {name: t.to(t.dtype if name.endswith(ROUTER_BIAS) else dtype or t.dtype) for name, t in named_views(model)}


def import_tensors(
    spec: ModelSpec,
    source: Mapping[str, PackedMatrix],
    *,
    packed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Transformer:
    """A model of `spec` with these weights; nothing is allocated before every name and shape is known to fit.

    Expanded to fp32; or `packed`: all matrices but a router's stay as they are in `source`. `progress` is told of bytes
    that are ready, and of all.
    Raises CheckpointError that lists tensors which are missing, left over or of another shape.
    """
    model = check_tensors(spec, source)
    if packed:
        _pack(model, source)
    materialise(model)
    views = [(name, view) for name, view in named_views(model) if view.numel()]  # what is packed left an empty one
    done, total = 0, sum(view.nbytes for _, view in views)
    with torch.no_grad():
        for name, view in views:
            source[name].expand_into(view)
            done += view.nbytes
            if progress is not None:
                progress(done, total)
    return model


def check_tensors(spec: ModelSpec, source: Mapping[str, PackedMatrix]) -> Transformer:
    """The model without memory, once every name and shape is known to fit; CheckpointError where one does not."""
    model = _outline(spec, len(source))
    _check(dict(named_views(model)), source, _copies(spec))
    return model


def without_absent_predictors(spec: ModelSpec, names: Iterable[str]) -> tuple[ModelSpec, tuple[str, ...]]:
    """The spec without MTP modules where the checkpoint holds none of them, as after a save by transformers; a note."""
    first, names = spec.num_hidden_layers, list(names)
    check_proportions(spec, len(names))
    prefixes = tuple(f"model.layers.{first + i}." for i in range(spec.num_nextn_predict_layers))
    if not prefixes or any(name.startswith(prefixes) for name in names):
        return spec, ()
    note = f"the checkpoint lacks the {len(prefixes)} MTP module(s) of its config.json; the model is loaded without"
    return replace(spec, num_nextn_predict_layers=0), (note,)


def _pack(model: Transformer, source: Mapping[str, PackedMatrix]) -> None:
    def published(name: str) -> str:
        return _published_name(f"{name}.weight", model.spec.num_hidden_layers)

    scratch = Scratch()
    embedding = source["model.embed_tokens.weight"]
    model.pack(PackedTables(embedding, embedding if model.lm_head is None else source["lm_head.weight"], scratch))
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            module.pack(source[published(name)], scratch)
        elif isinstance(module, Experts):
            experts = published(name).removesuffix(".weight")
            parts = [[source[f"{experts}.{i}.{part}.weight"] for part in PARTS] for i in range(len(module.down_proj))]
            module.pack([PackedExpert(*three) for three in parts], scratch)


def check_proportions(spec: ModelSpec, tensors: int) -> None:
    """Sizes that are out of all proportion to the number of tensors end here, not in hours of counting names."""
    layers, predictors, experts = spec.num_hidden_layers, spec.num_nextn_predict_layers, spec.n_routed_experts
    if max(layers + predictors, experts) > tensors:
        raise CheckpointError(
            f"config.json describes {layers} layers and {experts} experts in each, with {predictors} MTP modules, "
            f"but there are only {tensors} tensors"
        )


def _outline(spec: ModelSpec, tensors: int) -> Transformer:
    """The model without memory."""
    check_proportions(spec, tensors)
    try:
        with torch.device("meta"):
            return Transformer(spec)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise CheckpointError(f"config.json describes a model of impossible size: {str(error)[:80]}") from error


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


def _check(expected: Mapping[str, Tensor], tensors: Mapping[str, PackedMatrix], copies: Mapping[str, str]) -> None:
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
        if copy in tensors and not _same(tensors[copy], tensors[original]):
            raise CheckpointError(f"{copy} must be a copy of {original}, but differs; this model shares the two")


def _same(a: PackedMatrix, b: PackedMatrix) -> bool:
    """Equal in fp32, compared a piece at a time: published embeddings have gigabytes."""
    pieces = range(0, a.shape[0], COMPARED_ROWS)
    ranges = ((start, min(start + COMPARED_ROWS, a.shape[0])) for start in pieces)
    return a.shape == b.shape and all(torch.equal(a.rows(*r).expand(), b.rows(*r).expand()) for r in ranges)


def _list(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more
