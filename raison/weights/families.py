"""config.json as Hugging Face writes it, to and from a ModelSpec: one table of the families that we read and write.

A family says which fields its config has, what else its architecture fixes, and what it implies. A config that says
otherwise (a sliding window, biases where we have none, another activation) is refused: it would load and then compute
something else. Both spellings of the rotary settings are read, that of transformers 4 (`rope_theta`, `rope_scaling`)
and that of 5 (`rope_parameters`). Not covered: tensors and their names (huggingface.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from raison.errors import CheckpointError, UserError
from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec

BLOCK = 128
"""Rows and columns that share a scale in DeepSeek's FP8; here, because reading a config must not wait for torch."""

KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "int | None": (int, type(None)), "TopkMethod": (str,)
}  # fmt: skip
KIND_OF = {f.name: str(f.type) for f in fields(ModelSpec)}

COMMON = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "rms_norm_eps",
    "max_position_embeddings", "rope_theta",
)  # fmt: skip
LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
ROUTED = (
    "n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "n_group", "topk_group",
    "routed_scaling_factor", "first_k_dense_replace",
)  # fmt: skip
ALWAYS: Mapping[str, Any] = {"tie_word_embeddings": False, "initializer_range": 0.02}


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`. Fields carry the spec's names; `renamed` says where a config has another."""

    model_type: str
    architecture: str
    required: tuple[str, ...]
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Fields that may be absent or null, and what they are then."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What a config may state, and must state so if it does."""
    implied: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the spec that every model of the family has alike."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names under which some releases of transformers write a field -> its published name."""


DEEPSEEK_FIXED = {"hidden_act": "silu", "moe_layer_freq": 1, "attention_bias": False, "mlp_bias": False}
HALVES = {"rope_interleave": False}
LLAMA_FIXED = {"hidden_act": "silu", "mlp_bias": False, "pretraining_tp": 1}
QWEN_FIXED = {"hidden_act": "silu", "use_sliding_window": False}
HEADS = {"num_key_value_heads": None, "head_dim": None}

DEEPSEEK_V3 = Family(
    "deepseek_v3", "DeepseekV3ForCausalLM",
    required=(*COMMON, *LATENT, *ROUTED, "norm_topk_prob"),
    optional={**ALWAYS, "num_nextn_predict_layers": 0},
    fixed={**DEEPSEEK_FIXED, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_interleave": True},
)  # fmt: skip
DEEPSEEK_V2 = Family(
    "deepseek_v2", "DeepseekV2ForCausalLM",
    required=(*COMMON, *LATENT, *(name for name in ROUTED if name not in ("n_group", "topk_group"))),
    optional={**ALWAYS, "n_group": 1, "topk_group": 1, "topk_method": "greedy"},
    fixed={**DEEPSEEK_FIXED, "scoring_func": "softmax", "norm_topk_prob": False},
    implied={"norm_topk_prob": False},
)  # fmt: skip
LLAMA = Family(
    "llama", "LlamaForCausalLM", required=COMMON, optional={**ALWAYS, **HEADS, "qkv_bias": False, "o_bias": False},
    fixed=LLAMA_FIXED, implied=HALVES, renamed={"qkv_bias": "attention_bias", "o_bias": "attention_bias"},
)  # fmt: skip
QWEN2 = Family(
    "qwen2", "Qwen2ForCausalLM", required=COMMON, optional={**ALWAYS, **HEADS}, fixed=QWEN_FIXED,
    implied={**HALVES, "qkv_bias": True},
)  # fmt: skip
QWEN3 = Family(
    "qwen3", "Qwen3ForCausalLM", required=COMMON,
    optional={**ALWAYS, "num_key_value_heads": None, "head_dim": 128, "qkv_bias": False, "o_bias": False},
    fixed=QWEN_FIXED, implied={**HALVES, "qk_norm": True},
    renamed={"qkv_bias": "attention_bias", "o_bias": "attention_bias"},
)  # fmt: skip
QWEN3_MOE = Family(
    "qwen3_moe", "Qwen3MoeForCausalLM",
    required=(*COMMON, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"),
    optional={**ALWAYS, **HEADS, "qkv_bias": False, "o_bias": False},
    fixed={**QWEN_FIXED, "decoder_sparse_step": 1, "mlp_only_layers": []},
    implied={**HALVES, "qk_norm": True, "topk_method": "greedy"},
    renamed={"qkv_bias": "attention_bias", "o_bias": "attention_bias", "n_routed_experts": "num_experts"},
    aliases={"num_local_experts": "num_experts"},
)  # fmt: skip
FAMILIES = (DEEPSEEK_V3, DEEPSEEK_V2, LLAMA, QWEN2, QWEN3, QWEN3_MOE)


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The shape that a config.json describes.

    Where there are no experts, `first_k_dense_replace` says nothing and becomes 0. Raises CheckpointError for another
    architecture, a field that is missing or of another type, and a variant that Transformer does not have.
    """
    family = _family(config)
    _check_quantisation(_section(config, "quantization_config"))
    _check_fixed(family, config)
    rope = _section(config, "rope_scaling") or _section(config, "rope_parameters")
    known = {"rope_theta": rope["rope_theta"], **config} if "rope_theta" in rope else dict(config)
    known |= {name: config[alias] for alias, name in family.aliases.items() if alias in config}
    values = {name: _field(family, known, name, MISSING) for name in family.required}
    values |= {name: _field(family, known, name, default) for name, default in family.optional.items()}
    if values.get("n_routed_experts") == 0:
        values["first_k_dense_replace"] = 0
    scaling = _scaling(rope, values["max_position_embeddings"])
    try:
        return ModelSpec(**{**values, **family.implied}, rope_scaling=scaling)
    except CheckpointError:
        raise
    except UserError as error:
        raise CheckpointError(f"config.json describes no model: {error}") from error


def config_from_spec(spec: ModelSpec, dtype: str) -> dict[str, Any]:
    """config.json as the family's authors publish it, but for the ids of special tokens; `dtype` is torch's name, such
    as "bfloat16".

    Raises UserError where no family has such a shape.
    """
    family = family_of(spec)
    values = {family.renamed.get(n, n): getattr(spec, n) for n in (*family.required, *family.optional)}
    if "head_dim" in values:
        values |= {"head_dim": spec.qk_head_dim, "num_key_value_heads": spec.key_value_heads}
    if spec.is_latent:
        values["num_key_value_heads"] = spec.num_attention_heads
        if spec.n_routed_experts == 0:  # others know dense layers only as the first k
            values["first_k_dense_replace"] = spec.num_hidden_layers + spec.num_nextn_predict_layers
    return {
        "architectures": [family.architecture], "model_type": family.model_type, **values, **family.fixed,
        "rope_scaling": _written_scaling(spec), "attention_dropout": 0.0, "use_cache": True,
        "torch_dtype": dtype,
    }  # fmt: skip


def family_of(spec: ModelSpec) -> Family:
    """The first family whose config can describe the shape; UserError where there is none."""
    for family in FAMILIES:
        if spec.is_latent == ("kv_lora_rank" in family.required) and _describes(family, spec):
            return family
    raise UserError("no published architecture has this shape; it can be kept as a Raison folder only")


def _describes(family: Family, spec: ModelSpec) -> bool:
    """Whether what the family's config has no word for is as the family implies, or else at rest."""
    defaults = {f.name: f.default for f in fields(ModelSpec) if f.default is not MISSING}
    told = {*family.required, *family.optional, "rope_scaling"}
    silent = {name: value for name, value in {**defaults, **family.implied}.items() if name not in told}
    one_bias = spec.qkv_bias == spec.o_bias or "o_bias" not in family.renamed
    return one_bias and all(getattr(spec, name) == value for name, value in silent.items())


def _family(config: Mapping[str, Any]) -> Family:
    names = config.get("architectures") or [config.get("model_type")]
    if not isinstance(names, list) or names[0] is None:
        raise CheckpointError("config.json lacks `architectures` and `model_type`")
    for family in FAMILIES:
        if names[0] in (family.architecture, family.model_type):
            return family
    known = ", ".join(family.architecture for family in FAMILIES)
    raise CheckpointError(f"the architecture {names[0]} is not known; this version reads {known}")


def _check_fixed(family: Family, config: Mapping[str, Any]) -> None:
    heads = {"num_key_value_heads": config.get("num_attention_heads")} if family.model_type.startswith("deep") else {}
    for key, fixed in {**family.fixed, **heads}.items():
        if config.get(key, fixed) not in (fixed, None):
            raise CheckpointError(f"config.json sets `{key}` to {config[key]!r}; this version has only {fixed!r}")


def _check_quantisation(section: Mapping[str, Any]) -> None:
    """DeepSeek's FP8 in blocks is read as it is (shards.py); nothing else is."""
    block = section.get("weight_block_size", [BLOCK, BLOCK])
    if section and (section.get("quant_method") != "fp8" or block != [BLOCK, BLOCK]):
        method = section.get("quant_method", "an unnamed method")
        raise CheckpointError(
            f"the weights are quantised by {method} in blocks of {block}; this version has FP8 in blocks of "
            f"{BLOCK} x {BLOCK}, and GGUF: take such a file, or the bfloat16 weights"
        )


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = config.get(key)
    if not isinstance(section, Mapping | None):
        raise CheckpointError(f"config.json has {section!r} as `{key}`; it must be an object or null")
    return section or {}


def _field(family: Family, config: Mapping[str, Any], name: str, default: Any) -> Any:
    key = family.renamed.get(name, name)
    if default is not MISSING and config.get(key) is None:
        return default
    return _value(config, key, KIND_OF[name], default)


def _value(section: Mapping[str, Any], key: str, kind: str, default: Any) -> Any:
    if key not in section:
        if default is MISSING:
            raise CheckpointError(f"config.json lacks `{key}`")
        return default
    value, kinds = section[key], KINDS[kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise CheckpointError(f"config.json has {value!r} as `{key}`; it must be of type {kind}")
    return value


def _scaling(rope: Mapping[str, Any], longest: int) -> YarnSpec | Llama3Spec | None:
    """The defaults are those of transformers where a field is absent, not our presets'."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "llama3":
        return Llama3Spec(**{f.name: _value(rope, f.name, str(f.type), MISSING) for f in fields(Llama3Spec)})
    if kind != "yarn":
        raise CheckpointError(f"config.json scales RoPE by {kind!r}; this version has only 'yarn' and 'llama3'")
    absent = {"original_max_position_embeddings": longest, "mscale_all_dim": 0.0}
    values = {f.name: _value(rope, f.name, str(f.type), absent.get(f.name, f.default)) for f in fields(YarnSpec)}
    if rope.get("attention_factor") is not None and values["factor"] > 1:
        factor = _value(rope, "attention_factor", "float", MISSING)
        values |= {"mscale": (factor - 1) / (0.1 * math.log(values["factor"])), "mscale_all_dim": 0.0}
    return YarnSpec(**values)


def _written_scaling(spec: ModelSpec) -> dict[str, Any] | None:
    if spec.rope_scaling is None:
        return None
    kind = "llama3" if isinstance(spec.rope_scaling, Llama3Spec) else "yarn"
    return {"type": kind, "rope_type": kind, **asdict(spec.rope_scaling)}
