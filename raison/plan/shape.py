"""Shape: a model as planning sees it: counts of parameters, and what a token costs.

Numbers of a ModelSpec come from model/cost.py, which is the only place where they are computed. Not covered: where a
shape comes from (models.py), bytes (precision.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from raison.model import cost
from raison.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Shape:
    """One model. Parameters and FLOPs are counts; what a token costs is per token over all layers."""

    name: str
    total: float
    """Parameters of the main model."""
    active: float
    """Parameters that a token is multiplied by: routed experts that it takes, the head, no embedding table."""
    layers: int
    hidden: int
    cache_shards: int
    """Key-value heads, which tensor parallelism can share out; 1 for a latent, which every chip of a group holds."""
    cache_numbers: float
    """Numbers in the cache for a token of context."""
    attention_flops: float
    """FLOPs of a decoded token for each cached token."""
    prefill_flops: float
    """FLOPs of a prompt's token for each token before it."""
    vocabulary: int
    window: int = 0
    """Tokens that layers with a sliding window see; what they hold and compute is on top of the numbers above."""
    window_numbers: float = 0.0
    """Numbers in the cache for each token within the window."""
    window_flops: float = 0.0
    """FLOPs of a token for each token that it sees within the window."""
    embedding: float = 0.0
    """Parameters that are looked up and never multiplied by."""
    experts: int = 0
    experts_per_token: int = 0
    routed: float = 0.0
    """Parameters in routed experts, all of them."""
    mtp: float = 0.0
    """Parameters of MTP modules, on top of `total`."""
    published: str = ""
    """The width that its weights were published in, where that is not 16 bits."""
    context: float = inf
    """Tokens of a sequence that its positions reach; inf where no source was read."""
    spec: ModelSpec | None = None
    assumed: tuple[str, ...] = ()

    @property
    def latent(self) -> bool:
        """Whether the cache is a latent (MLA)."""
        return self.spec is not None and self.spec.is_latent

    @property
    def fixed(self) -> float:
        """Parameters that a token is multiplied by whatever the router says."""
        return self.total - self.embedding - self.routed

    @property
    def passed_shared(self) -> float:
        """Numbers that a token passes from product to product over all layers, where the chips of a layer share them
        out: each matrix has hidden_size on one side, so that its other side is its parameters over hidden_size; each
        expert that is chosen takes a copy of the token and gives a row back."""
        head = self.vocabulary * self.hidden
        copies = 2 * self.experts_per_token * self.layers * self.hidden
        return max(0.0, self.active - head) / self.hidden + copies

    @property
    def passed_whole(self) -> float:
        """The same where every chip of a tensor-parallel group holds them: what goes into attention and what comes out
        of it, and into and out of the MLP."""
        return 4.0 * self.layers * self.hidden

    def cache_of(self, context: float) -> float:
        """Numbers in the cache of a sequence of `context` tokens."""
        return context * self.cache_numbers + min(context, self.window) * self.window_numbers

    def decode_attention(self, context: float) -> float:
        """FLOPs of a decoded token's attention over `context` cached tokens."""
        return context * self.attention_flops + min(context, self.window) * self.window_flops

    def prompt_attention(self, prompt: float, known: float) -> float:
        """FLOPs of a prompt's token in the mean over its places; the cache knows a share `known` of the prompt."""
        seen = self.window * (1 - self.window / (2 * prompt)) if prompt > self.window else prompt * (1 + known) / 2
        return self.prefill_flops * prompt * (1 + known) / 2 + self.window_flops * seen

    def touched(self, tokens: float) -> float:
        """Share of the routed experts that a step of `tokens` tokens reads: 1 - (1 - k/E)^B, where tokens choose
        independently."""
        return 0.0 if not self.experts else 1 - (1 - self.experts_per_token / self.experts) ** tokens


def shape_of(name: str, spec: ModelSpec) -> Shape:
    """A ModelSpec's shape, its numbers from model/cost.py."""
    table = cost.parameter_table(spec)
    return Shape(
        name=name,
        total=table.total,
        active=cost.matmul_flops(spec) / 2,
        layers=spec.num_hidden_layers,
        hidden=spec.hidden_size,
        cache_shards=1 if spec.is_latent else spec.key_value_heads,
        cache_numbers=spec.cache_width * spec.num_hidden_layers,
        attention_flops=cost.cached_attention_flops(spec, 1),
        prefill_flops=2 * cost.naive_attention_flops(spec, 1),
        vocabulary=spec.vocab_size,
        embedding=0 if spec.tie_word_embeddings else table.embedding,
        experts=spec.n_routed_experts,
        experts_per_token=spec.num_experts_per_tok,
        routed=table.experts,
        mtp=cost.mtp_parameters(spec),
        context=longest_context(spec),
        spec=spec,
    )


def longest_context(spec: ModelSpec) -> int:
    """Tokens that a model's positions reach. DeepSeek writes the length after YaRN's extension into its config.json,
    Qwen the one before it, so that the longer of both holds."""
    scaled = spec.rope_scaling
    extended = round(scaled.factor * scaled.original_max_position_embeddings) if scaled else 0
    return max(spec.max_position_embeddings, extended)
