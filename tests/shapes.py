"""Small models of many shapes for the tests, with routers whose choices are not a matter of chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raison.model.attention import CacheGroup
from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec
from raison.model.transformer import Transformer, initialise

SMALL = ModelSpec(
    vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, q_lora_rank=24,
    kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=20, n_routed_experts=8, num_experts_per_tok=2,
    n_shared_experts=1, moe_intermediate_size=16, n_group=4, topk_group=2, routed_scaling_factor=2.5,
    first_k_dense_replace=1, num_nextn_predict_layers=1, max_position_embeddings=256, initializer_range=0.2,
)  # fmt: skip

SHAPES: dict[str, ModelSpec] = {
    "groups": SMALL,
    "plain_queries": replace(SMALL, q_lora_rank=None),
    "one_group": replace(SMALL, n_group=1, topk_group=1, num_experts_per_tok=3, first_k_dense_replace=0),
    "all_dense": replace(SMALL, n_routed_experts=0, num_experts_per_tok=0, n_shared_experts=0, moe_intermediate_size=0,
                         n_group=1, topk_group=1, first_k_dense_replace=0),
    "no_shared_expert": replace(SMALL, n_shared_experts=0),
    "two_shared_experts": replace(SMALL, n_shared_experts=2, norm_topk_prob=False, routed_scaling_factor=1.0),
    "yarn": replace(SMALL, rope_scaling=YarnSpec(4.0, original_max_position_embeddings=64), rope_theta=500.0),
    "yarn_ratio": replace(SMALL, rope_scaling=YarnSpec(8.0, 32, mscale=1.3, mscale_all_dim=0.7)),
    "tied": replace(SMALL, tie_word_embeddings=True, first_k_dense_replace=2),
}  # fmt: skip

GROUPED = ModelSpec(
    vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, intermediate_size=48,
    num_key_value_heads=2, head_dim=10, rope_interleave=False, max_position_embeddings=256, initializer_range=0.2,
)  # fmt: skip

FAMILY_SHAPES: dict[str, ModelSpec] = {
    "llama": GROUPED,
    "llama_tied_one_key_head": replace(GROUPED, num_key_value_heads=1, tie_word_embeddings=True),
    "llama_biased_full_heads": replace(GROUPED, num_key_value_heads=6, qkv_bias=True, o_bias=True, rope_theta=5e5),
    "llama3_scaled": replace(GROUPED, rope_scaling=Llama3Spec(8.0, 1.0, 4.0, 32), rope_theta=500.0),
    "qwen2": replace(GROUPED, qkv_bias=True, rms_norm_eps=1e-5),
    "qwen2_yarn": replace(GROUPED, qkv_bias=True, rope_scaling=YarnSpec(4.0, 64, mscale_all_dim=0.0)),
    "qwen3": replace(GROUPED, qk_norm=True, head_dim=14, tie_word_embeddings=True),
    "qwen3_moe": replace(GROUPED, qk_norm=True, n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=20,
                         topk_method="greedy"),
    "qwen3_moe_unnormalised": replace(GROUPED, qk_norm=True, n_routed_experts=5, num_experts_per_tok=3,
                                      moe_intermediate_size=16, topk_method="greedy", norm_topk_prob=False),
    "v2_lite": replace(SMALL, q_lora_rank=None, n_group=1, topk_group=1, topk_method="greedy", norm_topk_prob=False,
                       n_shared_experts=2, routed_scaling_factor=1.0, num_nextn_predict_layers=0),
    "v2": replace(SMALL, topk_method="group_limited_greedy", norm_topk_prob=False, routed_scaling_factor=16.0,
                  num_nextn_predict_layers=0, rope_scaling=YarnSpec(40.0, 64, mscale=0.707, mscale_all_dim=0.707)),
}  # fmt: skip


def random_model(spec: ModelSpec, seed: int = 0) -> Transformer:
    """Random weights, with norms away from one and router biases away from zero, so that an omission of either shows.

    Most choice scores are negative: a router that masks dropped groups with 0 instead of -inf chooses from those.
    """
    model = initialise(Transformer(spec), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("_proj.bias"):
                tensor.uniform_(-0.5, 0.5, generator=generator)
            elif name.endswith("e_score_correction_bias"):
                tensor.uniform_(-1.2, -0.4, generator=generator)
    return model.eval()


def random_ids(count: int, vocabulary: int = SMALL.vocab_size, seed: int = 0) -> list[int]:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class OneDocument:
    """The simplest latent cache there is (a model.attention.LayerCache): one document, all of it kept in one tensor."""

    def __init__(self, width: int) -> None:
        self.keys_LW = torch.empty(0, width)
        self.fresh = 0

    def write(self, latents_NW: Tensor) -> None:
        self.keys_LW = torch.cat((self.keys_LW, latents_NW))
        self.fresh = len(latents_NW)

    def groups(self) -> Iterator[CacheGroup]:
        length = len(self.keys_LW)
        seen_QL = torch.ones(self.fresh, length, dtype=torch.bool).tril(length - self.fresh)
        bias_QL = torch.zeros(self.fresh, length).masked_fill(~seen_QL, -torch.inf)
        yield CacheGroup(0, self.fresh, 1, self.keys_LW.unsqueeze(0), bias_QL.unsqueeze(0))


@torch.no_grad()
def absorbed_logits(model: Transformer, ids: Sequence[int], chunks: Sequence[int]) -> Tensor:
    """Logits of a document read through the cache in pieces of these sizes, [tokens, vocabulary]."""
    assert sum(chunks) == len(ids)
    caches = [OneDocument(model.spec.cache_width) for _ in model.layers]
    rows, start = [], 0
    for size in chunks:
        places = torch.arange(start, start + size)
        states, _ = model.hidden(torch.tensor(ids)[places], places, caches)
        rows.append(model.logits(states))
        start += size
    return torch.cat(rows)
