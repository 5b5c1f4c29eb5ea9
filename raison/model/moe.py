"""DeepSeekMoE (DeepSeek-V3 report, eq. 12-20): sigmoid router, group-limited top-k, balance by bias, shared experts.
Beside it the softmax routers of DeepSeek-V2 (arXiv 2405.04434, section 2.2) and of Qwen3.

Tokens are sorted by expert and each expert's share is one product; there is no loop over tokens and no token is
dropped. Groups that are not kept are masked with -inf, as in DeepSeek's code (some Hugging Face versions stored 0).
The bias only chooses; the weights come from the unbiased scores. Experts may have low-rank adapters (lora.py). Not
covered: expert parallelism.

Legend: N tokens, D width, X experts, K experts per token, G groups, M = N*K routed copies, P rows of the sorted copies
(M and what pads), I inner width of an expert, R rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raison.model.autograd import PickRows, call
from raison.model.layers import SwiGLU
from raison.model.low_rank import LowRank
from raison.model.packed import PackedMatrix, PackedProduct, Scratch
from raison.model.spec import ModelSpec

PARTS = ("gate_proj", "up_proj", "down_proj")
"""An expert's matrices by the names that checkpoints give them."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where each token goes. `scores_NX` are the unbiased affinities, with gradient."""

    experts_NK: Tensor
    weights_NK: Tensor
    scores_NX: Tensor


class Router(nn.Module):
    """Scores in fp32 whatever the compute dtype: a rounded score picks another expert."""

    e_score_correction_bias: Tensor | None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.n_routed_experts, spec.hidden_size))
        zeros = torch.zeros(spec.n_routed_experts, dtype=torch.float32)
        self.register_buffer("e_score_correction_bias", zeros if spec.topk_method == "noaux_tc" else None)

    @property
    def bias(self) -> Tensor | None:
        """V3's correction of the choice; the softmax routers have none."""
        return self.e_score_correction_bias

    def forward(self, x_ND: Tensor) -> Routing:
        spec = self.spec
        logits_NX = F.linear(x_ND.float(), self.weight.float())
        scores_NX = logits_NX.softmax(-1) if self.bias is None else logits_NX.sigmoid()
        choice_NX = scores_NX.detach() if self.bias is None else scores_NX.detach() + self.bias
        if spec.topk_method != "greedy":
            choice_NX = _keep_groups(choice_NX, spec.n_group, spec.topk_group, best=1 if self.bias is None else 2)
        experts_NK = choice_NX.topk(spec.num_experts_per_tok, dim=-1, sorted=False).indices
        weights_NK = scores_NX.gather(1, experts_NK)
        if spec.norm_topk_prob:
            weights_NK = weights_NK / (weights_NK.sum(-1, keepdim=True) + 1e-20)
        return Routing(experts_NK, weights_NK * spec.routed_scaling_factor, scores_NX)


def _keep_groups(choice_NX: Tensor, groups: int, kept: int, best: int) -> Tensor:
    """-inf outside the `kept` groups whose `best` experts score highest together (node-limited routing)."""
    if kept == groups:
        return choice_NX
    per_group_NGx = choice_NX.unflatten(1, (groups, -1))
    group_NG = per_group_NGx.topk(best, dim=-1).values.sum(-1)
    keep_NG = torch.zeros_like(group_NG, dtype=torch.bool).scatter_(1, group_NG.topk(kept, dim=-1).indices, True)
    masked: Tensor = per_group_NGx.masked_fill(~keep_NG.unsqueeze(-1), -torch.inf)
    return masked.flatten(1)


def balance_loss(routing: Routing, spec: ModelSpec) -> Tensor:
    """sum_i f_i P_i over the batch's tokens, unweighted (eq. 17-20); 1 when the load is even."""
    load_X = torch.bincount(routing.experts_NK.flatten(), minlength=spec.n_routed_experts).float()
    f_X = load_X * (spec.n_routed_experts / max(routing.experts_NK.numel(), 1))
    p_X = (routing.scores_NX / routing.scores_NX.sum(-1, keepdim=True)).mean(0)
    return (f_X * p_X).sum()


def balance_bias(bias_X: Tensor, load_X: Tensor, gamma: float) -> None:
    """Auxiliary-loss-free balancing, in place: overloaded experts are chosen less, underloaded more (section 2.1.2)."""
    bias_X += gamma * torch.sign(load_X.float().mean() - load_X.float())


@dataclass(frozen=True, slots=True)
class Sorted:
    """Routed copies in the order of their experts, each expert's run rounded up to whole steps of rows."""

    sizes: list[int]
    places_M: Tensor
    """Where among the P rows each copy stands; copies of one token follow each other."""
    tokens_P: Tensor
    """Whose copy stands in each row; rows that only pad hold token 0, and nobody reads them."""

    @classmethod
    def of(cls, experts_NK: Tensor, count: int, step: int) -> Sorted:
        flat_M = experts_NK.flatten()
        sorted_M, order_M = flat_M.sort(stable=True)
        counts = torch.bincount(flat_M, minlength=count).tolist()
        sizes = [-(-n // step) * step for n in counts]
        padding_before = accumulate((size - n for size, n in zip(sizes, counts, strict=True)), initial=0)
        shift_X = torch.tensor(list(padding_before)[:-1], device=flat_M.device)
        rows_M = torch.arange(len(flat_M), device=flat_M.device) + shift_X[sorted_M]
        places_M = torch.empty_like(order_M).scatter_(0, order_M, rows_M)
        tokens_P = torch.zeros(sum(sizes), dtype=torch.long, device=flat_M.device)
        return cls(sizes, places_M, tokens_P.scatter_(0, rows_M, order_M // experts_NK.shape[1]))


class _Dispatch(torch.autograd.Function):
    """Copy each token to the rows of its experts; backward gathers and sums, hence is deterministic."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, tokens_P: Tensor, places_M: Tensor) -> Tensor:
        ctx.save_for_backward(places_M)
        ctx.tokens = len(x_ND)
        return x_ND.index_select(0, tokens_P)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places_M,) = ctx.saved_tensors
        return grads[0].index_select(0, places_M).unflatten(0, (ctx.tokens, -1)).sum(1), None, None


class _GroupedProduct(torch.autograd.Function):
    """y[s:e] = x[s:e] W_x^T for each expert's run of sorted rows, written in place without concatenation."""

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, w_XFD: Tensor, sizes: list[int]) -> Tensor:
        ctx.save_for_backward(x_PD, w_XFD)
        ctx.sizes = sizes
        y_PF = x_PD.new_empty(len(x_PD), w_XFD.shape[1])
        for w_FD, x, y in zip(w_XFD, x_PD.split(sizes), y_PF.split(sizes), strict=True):
            torch.mm(x, w_FD.t(), out=y)
        return y_PF

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x_PD, w_XFD = ctx.saved_tensors
        dy_PF = grads[0].contiguous()
        dx_PD = torch.empty_like(x_PD)
        for w_FD, dx, dy in zip(w_XFD, dx_PD.split(ctx.sizes), dy_PF.split(ctx.sizes), strict=True):
            torch.mm(dy, w_FD, out=dx)
        if not ctx.needs_input_grad[1]:  # frozen
            return dx_PD, None, None
        dw_XFD = torch.empty_like(w_XFD)
        for dw_FD, x, dy in zip(dw_XFD, x_PD.split(ctx.sizes), dy_PF.split(ctx.sizes), strict=True):
            torch.mm(dy.t(), x, out=dw_FD)
        return dx_PD, dw_XFD, None


@dataclass(frozen=True, slots=True)
class PackedExpert:
    """One routed expert's matrices: gate and up [I, D], down [D, I]."""

    gate: PackedMatrix
    up: PackedMatrix
    down: PackedMatrix


class Experts(nn.Module):
    """All routed experts of a layer, stacked: gate and up [X, 2I, D], down [X, D, I]; adapters by part."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        experts, width, inner = spec.n_routed_experts, spec.hidden_size, spec.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.lora = nn.ModuleDict()
        self.packed: tuple[PackedExpert, ...] = ()
        self.grouped = False
        """Whether products are made without asking a device how many tokens each expert has: no gradients, adapters or
        packing, and rows of 16 bytes or multiples."""
        self._scratch = Scratch()

    def pack(self, experts: Sequence[PackedExpert], scratch: Scratch) -> None:
        """Use these for the weights, which then are no parameters and cannot be trained."""
        assert len(experts) == len(self.down_proj)
        self.packed, self._scratch = tuple(experts), scratch
        self.gate_up_proj = nn.Parameter(torch.empty(0), requires_grad=False)
        self.down_proj = nn.Parameter(torch.empty(0), requires_grad=False)

    def shape_of(self, part: str) -> tuple[int, int, int]:
        """[X, F, D] of one part, packed or not."""
        if self.packed:
            expert = self.packed[0]
            width, inner, experts = *expert.down.shape, len(self.packed)
        else:
            experts, width, inner = self.down_proj.shape
        return (experts, width, inner) if part == "down_proj" else (experts, inner, width)

    def matrices(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both stacks in `dtype`, adapters included."""
        if self.packed:
            gate, up, down = (torch.stack([p.expand(dtype) for p in ps]) for ps in zip(*self._parts(), strict=True))
        else:
            gate, up = self.gate_up_proj.to(dtype).chunk(2, dim=1)
            down = self.down_proj.to(dtype)
            if not self.lora:
                return self.gate_up_proj.to(dtype), down
        whole = zip(PARTS, (gate, up, down), strict=True)
        gate, up, down = (w + self._adapter(p).delta().to(dtype) if p in self.lora else w for p, w in whole)
        return torch.cat((gate, up), dim=1), down

    @torch.no_grad()
    def fold(self) -> None:
        """Make the adapters, if there are any, part of the weights, which are then packed no more."""
        if not self.lora and not self.packed:
            return
        gate_up, down = self.matrices(self.down_proj.dtype)
        if self.packed:
            self.gate_up_proj, self.down_proj, self.packed = nn.Parameter(gate_up), nn.Parameter(down), ()
        else:
            self.gate_up_proj.copy_(gate_up)
            self.down_proj.copy_(down)
        self.lora.clear()

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """The weighted sum of each token's experts, [N, D]."""
        y_MD = (self._grouped if self.grouped else self._by_size)(x_ND, routing.experts_NK)
        y_NKD = y_MD.unflatten(0, routing.experts_NK.shape)
        return torch.bmm(routing.weights_NK.to(x_ND.dtype).unsqueeze(1), y_NKD).squeeze(1)

    def _by_size(self, x_ND: Tensor, experts_NK: Tensor) -> Tensor:
        count = len(self.packed) or len(self.down_proj)
        rows = Sorted.of(experts_NK, count, row_step(x_ND.dtype, len(x_ND)))
        x_PD = call(_Dispatch, x_ND, rows.tokens_P, rows.places_M)
        y_PD = self._products(x_PD, rows.sizes)
        y_MD: Tensor = call(PickRows, y_PD, rows.places_M)
        return y_MD

    def _grouped(self, x_ND: Tensor, experts_NK: Tensor) -> Tensor:
        sorted_M, order_M = experts_NK.flatten().sort(stable=True)
        experts_X = torch.arange(len(self.down_proj), device=x_ND.device)
        ends_X = torch.searchsorted(sorted_M, experts_X, right=True, out_int32=True)
        x_MD = x_ND.index_select(0, order_M // experts_NK.shape[1])
        gate, up = F.grouped_mm(x_MD, self.gate_up_proj.transpose(1, 2), offs=ends_X).chunk(2, dim=-1)
        y_MD = F.grouped_mm(F.silu(gate) * up, self.down_proj.transpose(1, 2), offs=ends_X)
        return torch.empty_like(y_MD).index_copy_(0, order_M, y_MD)

    def _products(self, x_PD: Tensor, sizes: list[int]) -> Tensor:
        if self.packed:
            gates, ups, downs = zip(*self._parts(), strict=True)
            gate, up = (self._expanded(x_PD, matrices, sizes) for matrices in (gates, ups))
        else:
            gate, up = call(_GroupedProduct, x_PD, self.gate_up_proj.to(x_PD.dtype), sizes).chunk(2, dim=-1)
        gate, up = (self._adapted(*one, x_PD, sizes) for one in (("gate_proj", gate), ("up_proj", up)))
        inner_PI = F.silu(gate) * up
        if self.packed:
            y_PD = self._expanded(inner_PI, downs, sizes)
        else:
            y_PD = call(_GroupedProduct, inner_PI, self.down_proj.to(x_PD.dtype), sizes)
        return self._adapted("down_proj", y_PD, inner_PI, sizes)

    def _expanded(self, x_PD: Tensor, matrices: Sequence[PackedMatrix], sizes: list[int]) -> Tensor:
        """Only experts that are chosen are expanded, one matrix at a time."""
        runs = zip(matrices, x_PD.split(sizes), strict=True)
        return torch.cat([call(PackedProduct, x, None, matrix, self._scratch) for matrix, x in runs if len(x)])

    def _adapted(self, part: str, y_PF: Tensor, x_PD: Tensor, sizes: list[int]) -> Tensor:
        """The product with the part's adapter added, if it has one."""
        if part not in self.lora:
            return y_PF
        adapter, dtype = self._adapter(part), x_PD.dtype
        low_PR = call(_GroupedProduct, x_PD, adapter.a.to(dtype), sizes) * adapter.scale
        gain_PF: Tensor = call(_GroupedProduct, low_PR, adapter.b.to(dtype), sizes)
        return y_PF + gain_PF

    def _parts(self) -> list[tuple[PackedMatrix, PackedMatrix, PackedMatrix]]:
        return [(expert.gate, expert.up, expert.down) for expert in self.packed]

    def _adapter(self, part: str) -> LowRank:
        adapter = self.lora[part]
        assert isinstance(adapter, LowRank)
        return adapter


def row_step(dtype: torch.dtype, tokens: int) -> int:
    """Rows that a product's height is rounded up to.

    In bf16 the CPU's kernels are compiled for each new shape, at 1-4 ms, so few shapes must do; in fp32 they are not.
    """
    if dtype != torch.bfloat16:
        return 1
    return 16 if tokens <= 1024 else 128


class MixtureOfExperts(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gate = Router(spec)
        self.experts = Experts(spec)
        inner = spec.n_shared_experts * spec.moe_intermediate_size
        self.shared_experts = SwiGLU(spec.hidden_size, inner) if inner else None

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Routing]:
        routing = self.gate(x_ND)
        y_ND = self.experts(x_ND, routing)
        if self.shared_experts is not None:
            y_ND = y_ND + self.shared_experts(x_ND)
        return y_ND, routing
