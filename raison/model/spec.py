"""ModelSpec: the shape of a model as plain numbers, and the named presets from `tiny` to `r1-671b`.

The fields carry the names of Hugging Face's config.json wherever it has one. Two kinds of attention: multi-head latent
attention where `kv_lora_rank` is set (DeepSeek-V2, V3, R1), else grouped-query attention (Llama, Qwen2, Qwen3). Three
kinds of router: `noaux_tc` (V3: sigmoid, biased choice), `greedy` and `group_limited_greedy` (V2, Qwen3: softmax).
Not covered: sliding windows, weights, cost arithmetic (cost.py). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf, log
from typing import Any, Literal

from raison.errors import UserError, nearest

TopkMethod = Literal["noaux_tc", "greedy", "group_limited_greedy"]
TOPK_METHODS = ("noaux_tc", "greedy", "group_limited_greedy")


@dataclass(frozen=True, slots=True)
class YarnSpec:
    """RoPE length extension by YaRN (Peng et al. 2023; DeepSeek-V3 report section 4.3)."""

    factor: float
    original_max_position_embeddings: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 1.0
    """0 puts the temperature into the rotation, as in YaRN's text; another value into the softmax, as DeepSeek does."""


@dataclass(frozen=True, slots=True)
class Llama3Spec:
    """RoPE length extension of Llama 3.1: slow pairs are slowed by `factor`, fast ones are left alone."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One transformer's shape. Every size is a count of elements, layers, heads or tokens."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    q_lora_rank: int | None = None
    """None projects the query at once."""
    kv_lora_rank: int | None = None
    """None makes attention grouped-query; a number makes it latent, of that width."""
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    num_key_value_heads: int | None = None
    """Grouped-query attention only, as are the next four."""
    head_dim: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each head's query and key (Qwen3)."""
    n_routed_experts: int = 0
    """0 makes every layer dense."""
    num_experts_per_tok: int = 0
    n_shared_experts: int = 0
    moe_intermediate_size: int = 0
    n_group: int = 1
    topk_group: int = 1
    topk_method: TopkMethod = "noaux_tc"
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    first_k_dense_replace: int = 0
    num_nextn_predict_layers: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: YarnSpec | Llama3Spec | None = None
    rope_interleave: bool = True
    """Rotate neighbours (DeepSeek), or the first half of a head against the second (Llama, Qwen)."""
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def latent_rank(self) -> int:
        """kv_lora_rank of a model with latent attention."""
        assert self.kv_lora_rank is not None, "grouped-query attention has no latent"
        return self.kv_lora_rank

    @property
    def is_latent(self) -> bool:
        return self.kv_lora_rank is not None

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def qk_head_dim(self) -> int:
        if self.is_latent:
            return self.qk_nope_head_dim + self.qk_rope_head_dim
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def value_head_dim(self) -> int:
        return self.v_head_dim if self.is_latent else self.qk_head_dim

    @property
    def rotary_width(self) -> int:
        """Columns of a head that are rotated."""
        return self.qk_rope_head_dim if self.is_latent else self.qk_head_dim

    @property
    def cache_width(self) -> int:
        """Numbers cached per token and layer: the latent and one shared rotary key, or every key and value head."""
        if self.kv_lora_rank is not None:
            return self.kv_lora_rank + self.qk_rope_head_dim
        return 2 * self.key_value_heads * self.qk_head_dim

    @property
    def softmax_scale(self) -> float:
        """1/sqrt(d_qk), times YaRN's m^2 where RoPE is scaled (0.13523378 for R1)."""
        scale: float = self.qk_head_dim**-0.5
        return scale * yarn_mscale(self.rope_scaling) ** 2 if isinstance(self.rope_scaling, YarnSpec) else scale

    def is_moe_layer(self, index: int) -> bool:
        """Whether layer `index` routes; MTP modules, numbered from num_hidden_layers on, follow the same rule."""
        return self.n_routed_experts > 0 and index >= self.first_k_dense_replace

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise UserError(f"a model has no field `{key}`: {nearest(key, known)}")
        scaling = values.get("rope_scaling")
        if isinstance(scaling, Mapping):
            scaling = Llama3Spec(**scaling) if "low_freq_factor" in scaling else YarnSpec(**scaling)
        return cls(**{**values, "rope_scaling": scaling})


def yarn_mscale(yarn: YarnSpec) -> float:
    """m = 0.1 * mscale_all_dim * ln(factor) + 1: the attention temperature YaRN adds (1.36888795 for R1)."""
    return 1.0 if yarn.factor <= 1 else 0.1 * yarn.mscale_all_dim * log(yarn.factor) + 1.0


ALWAYS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
LATENT = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def _validate(spec: ModelSpec) -> None:
    for name in (*ALWAYS, *(LATENT if spec.is_latent else ()), "max_position_embeddings"):
        if getattr(spec, name) < 1:
            raise UserError(f"{name} is {getattr(spec, name)}; it must be at least 1")
    for name in ("rms_norm_eps", "rope_theta", "routed_scaling_factor"):
        if not 0 < getattr(spec, name) < inf:
            raise UserError(f"{name} is {getattr(spec, name)}; it must be a finite number above 0")
    if not spec.is_latent:
        _validate_heads(spec)
    if spec.rotary_width % 2:
        name = "qk_rope_head_dim" if spec.is_latent else "head_dim"
        raise UserError(f"{name} is {spec.rotary_width}; rotary pairs need an even number")
    if spec.n_routed_experts:
        _validate_routing(spec)


def _validate_heads(spec: ModelSpec) -> None:
    if spec.qk_head_dim < 1:
        raise UserError(f"head_dim is {spec.qk_head_dim}; it must be at least 1")
    if spec.key_value_heads < 1 or spec.num_attention_heads % spec.key_value_heads:
        raise UserError(f"{spec.num_attention_heads} heads cannot share {spec.key_value_heads} key-value heads evenly")
    if spec.num_nextn_predict_layers:
        raise UserError("only models with latent attention have MTP modules; set num_nextn_predict_layers to 0")


def _validate_routing(spec: ModelSpec) -> None:
    if spec.moe_intermediate_size < 1:
        raise UserError("a model with experts needs moe_intermediate_size of at least 1")
    if spec.topk_method not in TOPK_METHODS:
        raise UserError(f'topk_method is "{spec.topk_method}": {nearest(spec.topk_method, TOPK_METHODS)}')
    if not 1 <= spec.topk_group <= spec.n_group or spec.n_routed_experts % spec.n_group:
        raise UserError(f"{spec.n_routed_experts} experts do not make {spec.topk_group} of {spec.n_group} groups")
    reachable = spec.n_routed_experts // spec.n_group * spec.topk_group
    if not 1 <= spec.num_experts_per_tok <= reachable:
        raise UserError(f"num_experts_per_tok is {spec.num_experts_per_tok}; the kept groups hold {reachable} experts")
    if spec.topk_method == "noaux_tc" and spec.n_group > 1 and spec.n_routed_experts // spec.n_group < 2:
        raise UserError("a group needs at least 2 experts: its score is the sum of its best two")


R1_671B = ModelSpec(
    vocab_size=129280, hidden_size=7168, num_hidden_layers=61, num_attention_heads=128, intermediate_size=18432,
    q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1, moe_intermediate_size=2048,
    n_group=8, topk_group=4, routed_scaling_factor=2.5, first_k_dense_replace=3, num_nextn_predict_layers=1,
    max_position_embeddings=163840, rope_scaling=YarnSpec(factor=40.0),
)  # fmt: skip

TINY = ModelSpec(
    vocab_size=1280, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384,
    q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=32,
    n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=128, n_group=2, topk_group=1,
    routed_scaling_factor=1.0, first_k_dense_replace=1, num_nextn_predict_layers=1, max_position_embeddings=1024,
)  # fmt: skip

PRESETS: Mapping[str, ModelSpec] = {
    "tiny": TINY,
    "nano": replace(TINY, hidden_size=96, num_hidden_layers=3, num_attention_heads=3, intermediate_size=288,
                    q_lora_rank=64, kv_lora_rank=48, moe_intermediate_size=96),
    "small": replace(TINY, vocab_size=32768, hidden_size=512, num_hidden_layers=12, num_attention_heads=8,
                     intermediate_size=1536, q_lora_rank=256, kv_lora_rank=128, qk_nope_head_dim=64,
                     qk_rope_head_dim=32, v_head_dim=64, n_routed_experts=32, num_experts_per_tok=4,
                     moe_intermediate_size=384, n_group=4, topk_group=2, routed_scaling_factor=2.5,
                     max_position_embeddings=4096),
    "base-1b": replace(R1_671B, vocab_size=32768, hidden_size=1024, num_hidden_layers=12, num_attention_heads=16,
                       intermediate_size=4096, q_lora_rank=512, kv_lora_rank=256, qk_nope_head_dim=64,
                       qk_rope_head_dim=32, v_head_dim=64, n_routed_experts=64, num_experts_per_tok=6,
                       moe_intermediate_size=416, n_group=8, topk_group=4, first_k_dense_replace=1,
                       rope_scaling=None, max_position_embeddings=8192),
    "r1-671b": R1_671B,
}  # fmt: skip


def preset(name: str) -> ModelSpec:
    """The preset `name`; raises UserError that names the nearest when there is none."""
    if name not in PRESETS:
        raise UserError(f'there is no model "{name}": {nearest(name, PRESETS)}')
    return PRESETS[name]
