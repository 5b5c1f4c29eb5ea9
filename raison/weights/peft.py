"""Adapters in the format of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors in one folder.

    base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight           [R, D]
    base_model.model.model.layers.3.mlp.experts.7.gate_proj.lora_B.weight    [I, R]

PEFT reads what is saved here, and the other way round, for attention of all kinds and for the feed-forwards of families
without experts. Routed experts are saved under the names of published checkpoints, one module for each expert.
Transformers 5 keeps a layer's experts in two stacks, to which PEFT converts the names while it loads, where gate_proj
and up_proj are both adapted; but of a model with routed experts it then passes over adapters on the dense layers and
the shared experts, as their names end alike. Its own adapters on stacks (`target_parameters`) are not read here. Merged
weights (model/lora.py) are read by everybody.

Not covered: DoRA, ranks or scales that differ between modules, trained biases or whole modules, adapters whose making
changed the base (PiSSA, OLoRA), pickles.

Legend: X experts, R rank, D width in, F width out, I inner width of an expert.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from raison.errors import CheckpointError, UserError
from raison.files import replace_folder, standing
from raison.model.lora import adapters, attach, projections
from raison.model.low_rank import LowRank
from raison.model.transformer import Transformer
from raison.weights.vocabulary_files import read_json

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model.model."
TENSOR = re.compile(re.escape(PREFIX) + r"(layers\.\d+\..+)\.lora_([AB])\.weight")
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(\w+)")
LISTED = 4

AT_REST: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "bias": ("none",), "use_dora": (False,), "lora_bias": (False,), "fan_in_fan_out": (False,),
    "rank_pattern": ({},), "alpha_pattern": ({},), "modules_to_save": ([],), "target_parameters": ([],),
    "layer_replication": ([],), "trainable_token_indices": ([], {}),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}  # fmt: skip
"""What a config may say of what is not covered; null, or nothing, is always right."""


def save(folder: Path, model: Transformer, base: str) -> None:
    """Write the adapters of `model`, or replace a folder's; `base` is the path or name of the model they belong to.

    Raises UserError when it cannot be written: what was there before is then untouched.
    """
    found = adapters(model)
    assert found, "the model has no adapters"
    weights = safetensors.torch.save(dict(_tensors(found)), metadata={"format": "pt"})
    config = json.dumps(_config(model, found, base), indent=2).encode() + b"\n"
    try:
        replace_folder(folder.resolve(), {CONFIG: config, WEIGHTS: weights})
    except OSError as error:
        raise UserError(
            f"the adapter could not be saved in {folder}: {error.strerror or error}. What was there before is intact; "
            "make room or choose another folder"
        ) from error


def load(folder: Path, model: Transformer) -> None:
    """Attach the adapters in `folder` to `model`, whose base weights freeze.

    Raises CheckpointError, and leaves the model as it was, when they are damaged, of a kind that is not covered, or not
    of this model.
    """
    place = standing(folder.resolve())
    if place is None:
        raise CheckpointError(f"there is no adapter folder {folder}")
    config = read_json(place / CONFIG)
    rank, alpha = _rank_and_alpha(place / CONFIG, config)
    try:
        factors = _stacked(_by_projection(_read(place)))
        _check(model, factors, rank)
    except CheckpointError as error:
        raise CheckpointError(f"{place / WEIGHTS}: {error}") from error
    attach(model, rank, alpha, tuple(factors))
    with torch.no_grad():
        for name, adapter in adapters(model).items():
            adapter.a.copy_(factors[name]["A"])
            adapter.b.copy_(factors[name]["B"])


def _tensors(found: Mapping[str, LowRank]) -> Iterator[tuple[str, Tensor]]:
    for name, adapter in found.items():
        for letter, factor in (("A", adapter.a), ("B", adapter.b)):
            plain = factor.detach().cpu().contiguous()
            if plain.ndim == 2:
                yield f"{PREFIX}{name}.lora_{letter}.weight", plain
                continue
            stack, _, part = name.rpartition(".")
            for index, one in enumerate(plain):
                yield f"{PREFIX}{stack}.{index}.{part}.lora_{letter}.weight", one.clone()


def _config(model: Transformer, found: Mapping[str, LowRank], base: str) -> dict[str, Any]:
    first = next(iter(found.values()))
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": first.rank, "lora_alpha": first.scale * first.rank, "lora_dropout": 0.0, "bias": "none",
        "target_modules": _target_modules(model, found), "init_lora_weights": True, "fan_in_fan_out": False,
        "use_rslora": False, "use_dora": False, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip


def _target_modules(model: Transformer, found: Mapping[str, LowRank]) -> list[str]:
    """The last word of a name where all projections of that name are adapted, else whole names."""
    everything = projections(model)
    bare = {name for name in everything if name not in found}
    plain = {name.rpartition(".")[2] for name in bare}
    words: dict[str, None] = {}
    for name in found:
        word = name.rpartition(".")[2]
        if word not in plain:
            words[word] = None
        elif len(everything[name]) == 2:
            words[f"model.{name}"] = None
        else:
            stack = name.rpartition(".")[0]
            words |= {f"model.{stack}.{index}.{word}": None for index in range(everything[name][0])}
    return list(words)


def _rank_and_alpha(path: Path, config: Mapping[str, Any]) -> tuple[int, float]:
    """rslora's scale is alpha over the root of the rank."""
    for key, allowed in AT_REST.items():
        if config.get(key) is not None and config[key] not in allowed:
            raise CheckpointError(f"{path} has {config[key]!r:.60} as `{key}`; this version reads {allowed[0]!r} only")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise CheckpointError(f"{path} has {rank!r:.60} as `r`; it must be a whole number of at least 1")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise CheckpointError(f"{path} has {alpha!r:.60} as `lora_alpha`; it must be a finite number")
    return rank, alpha * (rank**0.5 if config.get("use_rslora") else 1.0)


def _read(place: Path) -> dict[str, Tensor]:
    if not (place / WEIGHTS).is_file() and (place / PICKLE).is_file():
        raise CheckpointError(f"there is only {PICKLE}, a pickle, which is not read; save it as safetensors first")
    try:
        return dict(safetensors.torch.load((place / WEIGHTS).read_bytes()))
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"it is cut off or damaged: {error}") from error


def _by_projection(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Name of a single matrix -> "A", "B" -> factor."""
    found: dict[str, dict[str, Tensor]] = {}
    strange = [name for name in tensors if not TENSOR.fullmatch(name)]
    if strange:
        raise CheckpointError(f"not a factor of a layer's projection: {_list(strange)}")
    for name, tensor in tensors.items():
        match = TENSOR.fullmatch(name)
        assert match is not None
        found.setdefault(match[1], {})[match[2]] = tensor
    half = [name for name, pair in found.items() if len(pair) != 2]
    if half:
        raise CheckpointError(f"only one of the two factors is there: {_list(half)}")
    if not found:
        raise CheckpointError("it holds no adapter")
    return found


def _stacked(single: Mapping[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The same with each layer's experts in one stack, which must be whole."""
    plain = {name: pair for name, pair in single.items() if not EXPERT.fullmatch(name)}
    stacks: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, pair in single.items():
        if match := EXPERT.fullmatch(name):
            stacks.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = pair
    for name, experts in stacks.items():
        alike = len({(pair["A"].shape, pair["B"].shape) for pair in experts.values()}) == 1
        if not alike or sorted(experts) != list(range(len(experts))):
            raise CheckpointError(f"{name}: experts are missing, or their factors differ in shape")
        plain[name] = {k: torch.stack([experts[i][k] for i in range(len(experts))]) for k in ("A", "B")}
    return plain


def _check(model: Transformer, factors: Mapping[str, dict[str, Tensor]], rank: int) -> None:
    shapes = projections(model)
    unknown = [name for name in factors if name not in shapes]
    if unknown:
        raise CheckpointError(f"the model has no such projection: {_list(unknown)}")
    for name, pair in factors.items():
        *stack, out, width = shapes[name]
        for letter, wanted in (("A", [*stack, rank, width]), ("B", [*stack, out, rank])):
            if list(pair[letter].shape) != wanted or not pair[letter].is_floating_point():
                shape, kind = list(pair[letter].shape), pair[letter].dtype
                raise CheckpointError(f"lora_{letter} of {name} is {shape} of {kind}; this model needs {wanted}")


def _list(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(sorted(names)[:LISTED]) + more
