"""Cost arithmetic of a ModelSpec: parameters, cache bytes and FLOPs per token. The only place where these are computed.

It feeds the trainer's MFU, the engine's bandwidth use, the bill of a run and the planner. Conventions: a multiply and
an add are 2 FLOPs; only matrix products and attention products count (norms, softmax, SwiGLU's product and RoPE do
not); the backward pass is twice the forward pass. The router's bias (`e_score_correction_bias`) is in the count, as it
is in the checkpoint and in DeepSeek-V3's 671,026,419,200; no gradient trains it and it is a buffer of Transformer, so
that `Parameters.trained` leaves it out. Sources: V3 = DeepSeek-V3 report (arXiv 2412.19437), ISCA25 = "Insights into
DeepSeek-V3" (arXiv 2505.09343). Not covered: activations' memory, optimizer state, communication, quantisation scales,
the cost of drafting with the MTP module. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from raison.model.spec import ModelSpec

Dtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]
DTYPE_BYTES: Mapping[Dtype, float] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "int4": 0.5}

BACKWARD = 2
"""FLOPs of the backward pass as a multiple of the forward pass: one product for the inputs, one for the weights."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters by part, summed over layers."""

    embedding: int
    head: int
    """0 where the head is the embedding table."""
    attention: int
    """With what stands within it: norms of latents or heads, biases."""
    dense_ffn: int
    experts: int
    shared_experts: int
    router: int
    router_bias: int
    """e_score_correction_bias: one number for each routed expert (V3 eq. 16)."""
    projection: int
    """The MTP modules' d x 2d projection M_k; 0 in the main model."""
    norms: int
    """RMSNorms of width d: two in each layer, those before the head, and two more in each MTP module."""

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    @property
    def trained(self) -> int:
        """What the optimizer moves: all but the router's bias, which balancing sets."""
        return self.total - self.router_bias


@dataclass(frozen=True, slots=True)
class Activated:
    """Parameters that one token passes through; both conventions in use."""

    with_embedding: int
    """All of it, the embedding table counted whole: "37B" (V3 abstract)."""
    without_embedding: int
    """The table left out, as one row is read and none of it multiplied: what FLOPs follow."""


@dataclass(frozen=True, slots=True)
class CostSheet:
    """What `raison spec` prints. FLOPs are per token."""

    parameters: Parameters
    parameters_total: int
    activated: Activated
    mtp_parameters: int
    """Parameters of the MTP modules that they do not share with the main model."""
    context: int
    """Tokens: the training sequence and the decoding context that the figures below hold for."""
    cache_bytes: float
    """Cache per token of context, bf16."""
    weight_bytes: float
    """Main model, bf16."""
    matmul_flops: int
    training_flops: float
    training_flops_mtp: float
    decode_flops: float


def attention_parameters(spec: ModelSpec) -> int:
    """One layer's attention with what stands within it: biases, and norms of latents or heads."""
    return _latent_attention(spec) if spec.is_latent else _grouped_query(spec)


def _grouped_query(spec: ModelSpec) -> int:
    d, head = spec.hidden_size, spec.qk_head_dim
    queries, keys = spec.num_attention_heads * head, spec.key_value_heads * head
    biases = spec.qkv_bias * (queries + 2 * keys) + spec.o_bias * d
    return 2 * d * queries + 2 * d * keys + biases + (2 * head if spec.qk_norm else 0)


def _latent_attention(spec: ModelSpec) -> int:
    """V3 eq. 1-11: down- and up-projections, output, and the latents' norms."""
    heads, d = spec.num_attention_heads, spec.hidden_size
    queries = heads * spec.qk_head_dim
    rank = spec.q_lora_rank
    query = d * queries if rank is None else d * rank + rank + rank * queries
    latent = d * spec.cache_width + spec.latent_rank
    unfold = spec.latent_rank * heads * (spec.qk_nope_head_dim + spec.v_head_dim)
    return query + latent + unfold + heads * spec.v_head_dim * d


def dense_ffn_parameters(spec: ModelSpec) -> int:
    """One dense SwiGLU layer: gate, up and down."""
    return 3 * spec.hidden_size * spec.intermediate_size


def expert_parameters(spec: ModelSpec) -> int:
    """One routed expert; a shared expert is as large (V3 eq. 12)."""
    return 3 * spec.hidden_size * spec.moe_intermediate_size


def parameter_table(spec: ModelSpec) -> Parameters:
    """The main model by part, without MTP modules."""
    d = spec.hidden_size
    table = spec.vocab_size * d
    layers = range(spec.num_hidden_layers)
    return _sum_layers(spec, layers, spec.n_routed_experts, embedding=table,
                       head=0 if spec.tie_word_embeddings else table, norms=d)  # fmt: skip


def mtp_table(spec: ModelSpec) -> Parameters:
    """All MTP modules by part, only what is their own (V3 eq. 21-23): embedding and head are the main model's."""
    return _mtp(spec, spec.n_routed_experts)


def parameters(spec: ModelSpec) -> int:
    """Parameters of the main model; 671,026,419,200 for r1-671b."""
    return parameter_table(spec).total


def mtp_parameters(spec: ModelSpec) -> int:
    """Parameters that the MTP modules add; 11,610,068,224 for r1-671b."""
    return mtp_table(spec).total


def activated(spec: ModelSpec) -> Activated:
    """Parameters that one token passes through in the main model. A tied table counts, as the head, in both figures."""
    active = _active(spec).total
    extra = 0 if spec.tie_word_embeddings else spec.vocab_size * spec.hidden_size
    return Activated(with_embedding=active + extra, without_embedding=active)


def cache_bytes_per_token(spec: ModelSpec, dtype: Dtype = "bf16") -> float:
    """Bytes cached per token of context over all layers: (kv_lora_rank + rope) x layers (ISCA25 Table 1), or keys and
    values of every key-value head.
    """
    return spec.cache_width * spec.num_hidden_layers * DTYPE_BYTES[dtype]


def weight_bytes(spec: ModelSpec, dtype: Dtype = "bf16") -> float:
    """Bytes of the main model's weights, all at one dtype, without quantisation scales."""
    return parameters(spec) * DTYPE_BYTES[dtype]


def matmul_flops(spec: ModelSpec) -> int:
    """Forward FLOPs per token in products with weights: 2 per activated weight without the norms (ISCA25 Table 2).

    The absorbed form moves kv_b_proj from the keys to the query and the output, at the same cost per token.
    """
    return 2 * _multiplied(_active(spec), spec.num_hidden_layers * _unmultiplied(spec))


def naive_attention_flops(spec: ModelSpec, sequence: int) -> float:
    """Forward FLOPs per token of causal attention in training, over all layers; `sequence` in tokens.

    q.k over d_qk and p.v over d_v for each head, with half of the sequence visible in the mean (ISCA25 Table 2).
    """
    return spec.num_hidden_layers * _naive_layer_flops(spec, sequence)


def cached_attention_flops(spec: ModelSpec, context: int) -> int:
    """FLOPs to attend from one new token to `context` cached tokens, over all layers.

    In the absorbed form every head scores latent + rotary key and sums latents (V3 section 2.1.1; FlashMLA's d_k 576,
    d_v 512); in grouped-query attention it scores a key and sums values.
    """
    widths = spec.cache_width + spec.latent_rank if spec.is_latent else 2 * spec.qk_head_dim
    return spec.num_hidden_layers * 2 * spec.num_attention_heads * widths * context


def forward_flops(spec: ModelSpec, sequence: int) -> float:
    """Forward FLOPs per token of a whole causal sequence, in training's naive form (also prefill and scoring)."""
    return matmul_flops(spec) + naive_attention_flops(spec, sequence)


def mtp_forward_flops(spec: ModelSpec, sequence: int) -> float:
    """Forward FLOPs per token of all MTP modules, with the shared head that each applies once more (V3 eq. 21-24)."""
    modules = spec.num_nextn_predict_layers
    weights = _mtp(spec, spec.num_experts_per_tok)
    multiplied = _multiplied(weights, modules * _unmultiplied(spec)) + modules * _head(spec)
    return 2 * multiplied + modules * _naive_layer_flops(spec, sequence)


def training_flops(spec: ModelSpec, sequence: int = 4096, *, mtp: bool = False, frozen: bool = False) -> float:
    """FLOPs per token of forward and backward at a sequence length; 250.45e9 for r1-671b at 4096 (ISCA25 Table 2: 250).

    Args:
        mtp: count the MTP modules too, as when they are trained along; the published figure leaves them out.
        frozen: gradients pass through the weights to adapters, whose own few products are not counted.
    """
    forward = forward_flops(spec, sequence) + (mtp_forward_flops(spec, sequence) if mtp else 0.0)
    return (BACKWARD if frozen else 1 + BACKWARD) * forward


def decode_flops(spec: ModelSpec, context: int) -> int:
    """FLOPs to decode one token after `context` cached tokens."""
    return matmul_flops(spec) + cached_attention_flops(spec, context)


def cost_sheet(spec: ModelSpec, context: int = 4096) -> CostSheet:
    """Every figure at once, for a training sequence and a decoding context of `context` tokens."""
    table = parameter_table(spec)
    return CostSheet(
        parameters=table,
        parameters_total=table.total,
        activated=activated(spec),
        mtp_parameters=mtp_parameters(spec),
        context=context,
        cache_bytes=cache_bytes_per_token(spec),
        weight_bytes=weight_bytes(spec),
        matmul_flops=matmul_flops(spec),
        training_flops=training_flops(spec, context),
        training_flops_mtp=training_flops(spec, context, mtp=True),
        decode_flops=decode_flops(spec, context),
    )


def _sum_layers(
    spec: ModelSpec,
    layers: range,
    experts: int,
    *,
    embedding: int = 0,
    head: int = 0,
    projection: int = 0,
    norms: int = 0,
) -> Parameters:
    """The parts of `layers` with `experts` routed experts counted in each, plus what stands outside the layers."""
    moe = sum(spec.is_moe_layer(index) for index in layers)
    return Parameters(
        embedding=embedding,
        head=head,
        attention=len(layers) * attention_parameters(spec),
        dense_ffn=(len(layers) - moe) * dense_ffn_parameters(spec),
        experts=moe * experts * expert_parameters(spec),
        shared_experts=moe * spec.n_shared_experts * expert_parameters(spec),
        router=moe * spec.n_routed_experts * spec.hidden_size,
        router_bias=moe * spec.n_routed_experts * (spec.topk_method == "noaux_tc"),
        projection=projection,
        norms=len(layers) * 2 * spec.hidden_size + norms,
    )


def _active(spec: ModelSpec) -> Parameters:
    """The main model's parts that one token passes through, without the embedding table."""
    layers = range(spec.num_hidden_layers)
    return _sum_layers(spec, layers, spec.num_experts_per_tok, head=_head(spec), norms=spec.hidden_size)


def _multiplied(parts: Parameters, unmultiplied: int) -> int:
    """The weights among `parts` that a token is multiplied by."""
    return parts.trained - parts.norms - unmultiplied


def _mtp(spec: ModelSpec, experts: int) -> Parameters:
    modules, d = spec.num_nextn_predict_layers, spec.hidden_size
    layers = range(spec.num_hidden_layers, spec.num_hidden_layers + modules)
    return _sum_layers(spec, layers, experts, projection=modules * 2 * d * d, norms=modules * 3 * d)


def _head(spec: ModelSpec) -> int:
    """Weights that the output projection multiplies by, whether its own or the embedding's."""
    return spec.vocab_size * spec.hidden_size


def _unmultiplied(spec: ModelSpec) -> int:
    """Norms and biases inside one layer's attention: counted as its parameters, not as products."""
    if spec.is_latent:
        return spec.latent_rank + (spec.q_lora_rank or 0)
    head, d = spec.qk_head_dim, spec.hidden_size
    biases = spec.qkv_bias * (spec.num_attention_heads + 2 * spec.key_value_heads) * head + spec.o_bias * d
    return biases + (2 * head if spec.qk_norm else 0)


def _naive_layer_flops(spec: ModelSpec, sequence: int) -> float:
    per_key = 2 * spec.num_attention_heads * (spec.qk_head_dim + spec.value_head_dim)
    return per_key * sequence / 2
