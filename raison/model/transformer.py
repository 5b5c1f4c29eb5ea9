"""The decoder: blocks of attention (latent or grouped-query) and feed-forward (dense or routed), one class for trainer
and engine and for every family of models.

Tokens come flat, without a batch axis: a Layout says which belong together (training, scoring), or a cache does
(decoding). Not covered: loading and saving (weights/), losses (train/), sampling (engine/).

Legend: N tokens, D hidden size, n chosen tokens, Y vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raison.model.attention import LayerCache
from raison.model.autograd import call
from raison.model.grouped_query import GroupedQueryAttention
from raison.model.layers import Linear, RMSNorm, SwiGLU
from raison.model.layout import Layout
from raison.model.mla import MultiHeadLatentAttention
from raison.model.moe import Experts, MixtureOfExperts, Router, Routing
from raison.model.packed import PackedMatrix, PackedProduct, Scratch, rows_at
from raison.model.rope import rotation
from raison.model.rounding import rounded_rows
from raison.model.spec import ModelSpec


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.self_attn = MultiHeadLatentAttention(spec) if spec.is_latent else GroupedQueryAttention(spec)
        self.post_attention_layernorm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.mlp: nn.Module = (
            MixtureOfExperts(spec) if spec.is_moe_layer(index) else SwiGLU(spec.hidden_size, spec.intermediate_size)
        )

    def forward(self, x_ND: Tensor, rot: Tensor, context: Layout | LayerCache) -> tuple[Tensor, Routing | None]:
        x_ND = x_ND + self.self_attn(self.input_layernorm(x_ND), rot, context)
        out = self.mlp(self.post_attention_layernorm(x_ND))
        y_ND, routing = out if isinstance(out, tuple) else (out, None)
        return x_ND + y_ND, routing


class MultiTokenPrediction(nn.Module):
    """One MTP module (eq. 21-25): a block over [embedding of the next token ; hidden state], sharing embedding and
    head.

    The report writes [hidden ; embedding]; the published weights (`eh_proj`) and the engines that run them put the
    embedding first, and so does this.
    """

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.enorm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.hnorm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.eh_proj = Linear(2 * spec.hidden_size, spec.hidden_size)
        self.block = Block(spec, index)
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(
        self, hidden_ND: Tensor, next_ND: Tensor, rot: Tensor, context: Layout | LayerCache
    ) -> tuple[Tensor, Routing | None]:
        joined = torch.cat((self.enorm(next_ND), self.hnorm(hidden_ND)), dim=-1)
        out: tuple[Tensor, Routing | None] = self.block(self.eh_proj(joined), rot, context)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class PackedTables:
    """Embedding and head that stay as they are in a file; the same matrix where they are tied."""

    embedding: PackedMatrix
    head: PackedMatrix
    scratch: Scratch


class Transformer(nn.Module):
    """`hidden` gives states before the final norm; `logits` maps chosen states to the vocabulary in fp32."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed_tokens = nn.Parameter(torch.empty(spec.vocab_size, spec.hidden_size))
        self.layers = nn.ModuleList(Block(spec, i) for i in range(spec.num_hidden_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.lm_head = None if spec.tie_word_embeddings else nn.Parameter(torch.empty_like(self.embed_tokens))
        self.packed: PackedTables | None = None
        self.rounds = False
        """As in Linear, for the head."""
        first = spec.num_hidden_layers
        self.mtp = nn.ModuleList(MultiTokenPrediction(spec, first + i) for i in range(spec.num_nextn_predict_layers))

    def pack(self, tables: PackedTables) -> None:
        """Use `tables` for embedding and head, which then are no parameters and cannot be trained."""
        assert tables.embedding.shape == tables.head.shape == self.embed_tokens.shape
        self.packed = tables
        self.embed_tokens = nn.Parameter(torch.empty(0), requires_grad=False)
        self.lm_head = None if self.lm_head is None else nn.Parameter(torch.empty(0), requires_grad=False)

    def unpack(self) -> None:
        """Make embedding and head parameters again, where they are not."""
        if self.packed is not None:
            self.embed_tokens = nn.Parameter(self.embedding)
            self.lm_head = None if self.lm_head is None else nn.Parameter(self.head)
            self.packed = None

    def embed(self, ids_N: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        if self.packed is not None:
            return rows_at(self.packed.embedding, ids_N, dtype or self.embed_tokens.dtype)
        return F.embedding(ids_N, self.embed_tokens).to(dtype or self.embed_tokens.dtype)

    def hidden(
        self,
        ids_N: Tensor,
        positions_N: Tensor,
        context: Layout | Sequence[LayerCache],
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, list[Routing]]:
        """States after the last block, [N, D] in the compute dtype, and each routed layer's routing."""
        x_ND = self.embed(ids_N, dtype)
        rot = rotation(self.spec, positions_N)
        routings: list[Routing] = []
        for index, block in enumerate(self.layers):
            x_ND, routing = block(x_ND, rot, context if isinstance(context, Layout) else context[index])
            routings += [routing] if routing is not None else []
        return x_ND, routings

    def logits(self, states_nD: Tensor, norm: RMSNorm | None = None) -> Tensor:
        """[n, D] -> [n, Y] in fp32, the product in the states' dtype."""
        normed_nD = (norm or self.norm)(states_nD)
        normed_nD = rounded_rows(normed_nD) if self.rounds else normed_nD
        if self.packed is not None:
            product: Tensor = call(PackedProduct, normed_nD, None, self.packed.head, self.packed.scratch)
            return product.float()
        return F.linear(normed_nD, self.head.to(states_nD.dtype)).float()

    def predictors(self) -> Iterator[MultiTokenPrediction]:
        """The MTP modules in order of depth."""
        for module in self.mtp:
            assert isinstance(module, MultiTokenPrediction)
            yield module

    @property
    def embedding(self) -> Tensor:
        """[Y, D]; new memory where it is packed."""
        return self.embed_tokens if self.packed is None else self.packed.embedding.expand()

    @property
    def head(self) -> Tensor:
        """The output matrix [Y, D]: its own, or the embedding where they are tied; new memory where it is packed."""
        if self.packed is not None:
            return self.packed.head.expand()
        return self.embed_tokens if self.lm_head is None else self.lm_head

    def score(self, ids: Sequence[int]) -> Tensor:
        """Logits of one whole document, [tokens, vocabulary] in fp32, without a cache."""
        layout = Layout.of([len(ids)])
        states, _ = self.hidden(torch.tensor(ids), layout.positions_N, layout)
        return self.logits(states)


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> Transformer:
    """Normal weights of std `initializer_range`, norms at one, biases at zero, from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Linear | Router):
            module.weight.normal_(0.0, model.spec.initializer_range, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, Experts):
            module.gate_up_proj.normal_(0.0, model.spec.initializer_range, generator=generator)
            module.down_proj.normal_(0.0, model.spec.initializer_range, generator=generator)
    for table in (model.embed_tokens, model.lm_head):
        if table is not None:
            table.normal_(0.0, model.spec.initializer_range, generator=generator)
    return model
