"""DeepSeek-V3's published form: its tensor names and its config.json, to and from our Transformer and ModelSpec.

A published checkpoint names every expert's three matrices singly and keeps MTP module k as layer
`num_hidden_layers + k`, with copies of the embedding and the head. Ours are written without those copies, which would
be a sixth of a tiny model; where a checkpoint has them they must equal what they copy, and are then ignored. Every
other tensor that is missing or left over is an error. Not covered: FP8 block scales (a checkpoint with
`quantization_config` is refused), other architectures.

Legend: X experts, I inner width of an expert, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

import torch
from torch import Tensor

from raison.errors import CheckpointError, UserError
from raison.model.spec import ModelSpec, YarnSpec
from raison.model.transformer import Transformer

ARCHITECTURE, MODEL_TYPE = "DeepseekV3ForCausalLM", "deepseek_v3"
ROUTER_BIAS = "e_score_correction_bias"
LISTED = 8
"""Tensors that an error names; the rest is counted."""

# What the architecture fixes and a config.json states nevertheless; a config that says otherwise is not ours to run.
FIXED: Mapping[str, Any] = {
    "hidden_act": "silu", "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1,
    "attention_bias": False, "rope_interleave": True,
}  # fmt: skip
OPTIONAL = ("num_nextn_predict_layers", "tie_word_embeddings", "initializer_range")
KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "int | None": (int, type(None))
}  # fmt: skip


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


def config_from_spec(spec: ModelSpec, bos: int, eos: int, dtype: str) -> dict[str, Any]:
    """config.json as DeepSeek publishes it; `dtype` is torch's name, such as "bfloat16"."""
    values = asdict(spec)
    if spec.rope_scaling is not None:
        values["rope_scaling"] = {"type": "yarn", **values["rope_scaling"]}
    if spec.n_routed_experts == 0:  # others know dense layers only as the first k
        values["first_k_dense_replace"] = spec.num_hidden_layers + spec.num_nextn_predict_layers
    return {
        "architectures": [ARCHITECTURE], "model_type": MODEL_TYPE, **values, **FIXED,
        "num_key_value_heads": spec.num_attention_heads, "attention_dropout": 0.0, "use_cache": True,
        "bos_token_id": bos, "eos_token_id": eos, "torch_dtype": dtype,
    }  # fmt: skip


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The shape that a config.json describes, as DeepSeek or as transformers (4 and 5) writes it.

    Where there are no experts, `first_k_dense_replace` says nothing and becomes 0. Raises CheckpointError for another
    architecture, a field that is missing or of another type, and a variant that Transformer does not have.
    """
    _check_architecture(config)
    rope = _section(config, "rope_scaling") or _section(config, "rope_parameters")
    known = {"rope_theta": rope["rope_theta"], **config} if "rope_theta" in rope else config
    values: dict[str, Any] = {
        f.name: _value(known, f.name, str(f.type), f.default if f.name in OPTIONAL else MISSING)
        for f in fields(ModelSpec)
        if f.name != "rope_scaling"
    }
    if values["n_routed_experts"] == 0:
        values["first_k_dense_replace"] = 0
    try:
        return ModelSpec(**values, rope_scaling=_yarn(rope, values["max_position_embeddings"]))
    except CheckpointError:
        raise
    except UserError as error:
        raise CheckpointError(f"config.json describes no model: {error}") from error


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


def _check_architecture(config: Mapping[str, Any]) -> None:
    names = config.get("architectures") or [config.get("model_type")]
    if names[0] is None:
        raise CheckpointError("config.json lacks `architectures` and `model_type`")
    if names[0] not in (ARCHITECTURE, MODEL_TYPE):
        raise CheckpointError(f"the architecture {names[0]} is not known; this version reads {ARCHITECTURE}")
    if config.get("quantization_config") is not None:
        raise CheckpointError("the weights are quantised (`quantization_config`); convert them to bfloat16 first")
    heads = config.get("num_attention_heads")
    for key, fixed in {**FIXED, "num_key_value_heads": heads}.items():
        if config.get(key, fixed) not in (fixed, None):
            raise CheckpointError(f"config.json sets `{key}` to {config[key]!r}; this version has only {fixed!r}")


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = config.get(key)
    if not isinstance(section, Mapping | None):
        raise CheckpointError(f"config.json has {section!r} as `{key}`; it must be an object or null")
    return section or {}


def _value(section: Mapping[str, Any], key: str, kind: str, default: Any) -> Any:
    if key not in section:
        if default is MISSING:
            raise CheckpointError(f"config.json lacks `{key}`")
        return default
    value, kinds = section[key], KINDS[kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise CheckpointError(f"config.json has {value!r} as `{key}`; it must be of type {kind}")
    return value


def _yarn(rope: Mapping[str, Any], longest: int) -> YarnSpec | None:
    """The defaults are those of DeepSeek's code where a field is absent, not our presets'."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise CheckpointError(f"config.json scales RoPE by {kind!r}; this version has only 'yarn'")
    absent = {"original_max_position_embeddings": longest, "mscale_all_dim": 0.0}
    return YarnSpec(
        **{f.name: _value(rope, f.name, str(f.type), absent.get(f.name, f.default)) for f in fields(YarnSpec)}
    )
