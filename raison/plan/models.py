"""Where a model's shape comes from: a preset, a config.json, a published name, or two numbers.

figures/models.json holds published shapes, each as a ModelSpec's fields, or as a Shape's where the architecture is not
ours (sliding windows, linear attention, layers of experts in between). Of a model that nobody described, only the
parameters are known; the rest is then typical of models of that size, and `assumed` says so. Not covered: what a shape
costs (shape.py), weights, tokenizers, images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from math import exp, inf, log, sqrt
from pathlib import Path
from typing import Any

from raison.errors import UserError, nearest
from raison.model.spec import PRESETS, ModelSpec
from raison.plan.shape import Shape, shape_of
from raison.weights.families import spec_from_config

FILE = Path(__file__).parent / "figures" / "models.json"
COUNT = r"\d+(?:\.\d+)?(?:e\d+)?[bBtT]?"
"""A number of parameters, as 671e9, 70b and 1.5T."""


def find_model(name: str, total: float | None = None, active: float | None = None) -> Shape:
    """The shape called `name`: a preset, a config.json or its folder, a published model, TOTAL/ACTIVE; else a typical
    one of `total` and `active` parameters. Raises UserError where there is neither."""
    said = sizes_in(name)[0]
    if (found := known_model(name)) and (total or not said or _is_size_of(found, said)):
        return _within(found, total, active)
    if (path := Path(name)).exists():
        return _from_file(path)
    if match := re.fullmatch(rf"({COUNT})(?:/({COUNT}))?", name):
        total = _count(match[1])
        return typical(name, total, _count(match[2]) if match[2] else total)
    if not total:
        near = nearest(_plain(name), [*_known(), *PRESETS])
        raise UserError(
            f'there is no model "{name}"; a config.json will do, or its size as TOTAL/ACTIVE, as 671e9/37e9; {near}'
        )
    return typical(name, total, active or total)


def described_model(name: str, total: float | None = None, active: float | None = None) -> Shape:
    """`find_model` for names of published rows: where nobody described the model, sizes that its name tells will do.
    Not for what a user types, where a name with a slip in it would pass for a model of its size."""
    if total:
        return find_model(name, total, active)
    try:
        return find_model(name)
    except UserError:
        total, active = sizes_in(name)
        if total is None:
            raise
        return typical(name, total, active or total)


def known_model(name: str) -> Shape | None:
    """A preset or a published model, by its longest alias among the words of `name`; None where there is none."""
    if name in PRESETS and _plain(name) not in _known():
        return shape_of(name, PRESETS[name])
    words = f" {_plain(name)} "
    aliases = [alias for alias in _known() if f" {alias} " in words]
    return _shape(_known()[max(aliases, key=len)]) if aliases else None


def sizes_in(name: str) -> tuple[float | None, float | None]:
    """Total and activated parameters that a name tells, as "Gemma-2-27b" and "ERNIE-4.5-300B-A47B" do; None where it
    tells none."""
    sizes = re.findall(r"(?<![a-z0-9.])(a?)(\d+(?:\.\d+)?)\s?([bmt])(?![a-z0-9])", name.lower())
    counts = [(taken, float(number) * {"m": 1e6, "b": 1e9, "t": 1e12}[unit]) for taken, number, unit in sizes]
    total = max((count for taken, count in counts if not taken), default=None)
    return total, next((count for taken, count in counts if taken), None)


def _is_size_of(shape: Shape, told: float) -> bool:
    """Whether a name's size is the model's; names of models with experts tell the one or the other."""
    return any(0.7 < told / size < 1.4 for size in (shape.total, shape.active))


def published() -> Mapping[str, str]:
    """Names of the models that are described, each with its source."""
    return {**{name: entry["source"] for name, entry in _entries().items()},
            **dict.fromkeys(PRESETS, "a preset of this package")}  # fmt: skip


def typical(name: str, total: float, active: float) -> Shape:
    """What models of so many parameters mostly look like: an assumption, and said to be one. UserError where there are
    none, or more of them active than there are."""
    if not 0 < active <= total < inf:
        raise UserError(f"{name} has {active:.3g} active of {total:.3g} parameters; write TOTAL/ACTIVE, such as "
                        "671e9/37e9, both above 0 and ACTIVE no more than TOTAL")  # fmt: skip
    dense = active > 0.7 * total
    size = sqrt(total * active)
    layers = round(max(8, (1.0 if dense else 0.7) * _between(LAYERS_AT, size)))
    hidden = round(sqrt((active if dense else active * 0.6) / (12 * layers)) / 64) * 64 or 64
    routed = 0.0 if dense else (total - 0.4 * active)
    experts = 0 if dense else max(9, round(8 * routed / (0.6 * active)))
    numbers = layers * 2048.0
    said = f"only {name}'s parameters are known: {layers} layers and 8 key-value heads of 128, as is typical"
    if not LAYERS_AT[0][0] <= size <= LAYERS_AT[-1][0]:
        said += " of the nearest size that was looked at"
    return Shape(name, total, active, layers, hidden, 8, numbers, 4.0 * layers * hidden, 4.0 * layers * hidden, 128_000,
                 experts=experts, experts_per_token=0 if dense else 8, routed=routed, assumed=(said,))  # fmt: skip


LAYERS_AT = ((1e8, 12), (1e9, 20), (8e9, 32), (32e9, 60), (70e9, 80), (405e9, 126), (2e12, 160))
"""Layers of dense models over their parameters: SmolLM2, Llama 3.x, Qwen 2.5 and 3."""


def _between(points: tuple[tuple[float, float], ...], at: float) -> float:
    """A power law between neighbours."""
    at = min(max(at, points[0][0]), points[-1][0])
    (x0, y0), (x1, y1) = next((a, b) for a, b in pairwise(points) if at <= b[0])
    return exp(log(y0) + (log(y1) - log(y0)) * (log(at) - log(x0)) / (log(x1) - log(x0)))


def _within(shape: Shape, total: float | None, active: float | None) -> Shape:
    """The known shape, unless a row's parameters say that another model was meant."""
    if total and not 0.75 < total / shape.total < 1.33:
        return typical(shape.name, total, active or total)
    return shape


@cache
def _known() -> Mapping[str, str]:
    """Alias -> name of an entry."""
    return {_plain(alias): name for name, entry in _entries().items() for alias in (name, *entry.get("aliases", ()))}


@cache
def _entries() -> Mapping[str, Any]:
    entries: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return entries


@cache
def _shape(name: str) -> Shape:
    entry = _entries()[name]
    if "shape" in entry:
        return Shape(name=name, published=entry.get("published", ""), **entry["shape"])
    spec = PRESETS[entry["preset"]] if "preset" in entry else ModelSpec.from_dict(entry["spec"])
    return replace(shape_of(name, spec), published=entry.get("published", ""))


def _from_file(path: Path) -> Shape:
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        assert isinstance(config, dict)
    except (OSError, ValueError, AssertionError):
        raise UserError(f"{file} is not a model's config.json") from None
    names = {f.name for f in fields(ModelSpec)}
    spec = config.get("spec", config)
    ours = "architectures" not in config and "model_type" not in config and set(spec) <= names
    return shape_of(path.resolve().stem if path.is_file() else path.name,
                    ModelSpec.from_dict(spec) if ours else spec_from_config(config))  # fmt: skip


def _plain(name: str) -> str:
    """`meta-llama/Llama-3.1-70B` -> `meta llama llama 3.1 70b`."""
    return " ".join(re.findall(r"[a-z0-9.]+", name.lower()))


def _count(text: str) -> float:
    scale = {"b": 1e9, "t": 1e12}.get(text[-1].lower(), 1.0)
    return float(text.rstrip("bBtT")) * scale
