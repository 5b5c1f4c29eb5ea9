"""DeepSeekMoE (DeepSeek-V3 report, eq. 12-20): sigmoid router, group-limited top-k, balance by bias, shared experts.

Tokens are sorted by expert and each expert's share is one product; there is no loop over tokens and no token is
dropped. Groups that are not kept are masked with -inf, as in DeepSeek's code (some Hugging Face versions stored 0).
The bias only chooses; the weights come from the unbiased scores. Not covered: expert parallelism, V2's softmax
router.

Legend: N tokens, D width, X experts, K experts per token, G groups, M = N*K routed copies, I inner width of an expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raison.model.layers import SwiGLU
from raison.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Routing:
    """Where each token goes. `scores_NX` are the unbiased affinities, with gradient."""

    experts_NK: Tensor
    weights_NK: Tensor
    scores_NX: Tensor


class Router(nn.Module):
    """Scores in fp32 whatever the compute dtype: a rounded score picks another expert."""

    e_score_correction_bias: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.n_routed_experts, spec.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(spec.n_routed_experts, dtype=torch.float32))

    def forward(self, x_ND: Tensor) -> Routing:
        spec = self.spec
        scores_NX = F.linear(x_ND.float(), self.weight.float()).sigmoid()
        choice_NX = _keep_groups(scores_NX.detach() + self.e_score_correction_bias, spec.n_group, spec.topk_group)
        experts_NK = choice_NX.topk(spec.num_experts_per_tok, dim=-1, sorted=False).indices
        weights_NK = scores_NX.gather(1, experts_NK)
        if spec.norm_topk_prob:
            weights_NK = weights_NK / (weights_NK.sum(-1, keepdim=True) + 1e-20)
        return Routing(experts_NK, weights_NK * spec.routed_scaling_factor, scores_NX)


def _keep_groups(choice_NX: Tensor, groups: int, kept: int) -> Tensor:
    """-inf outside the `kept` groups whose best two experts score highest together (node-limited routing)."""
    if kept == groups:
        return choice_NX
    per_group_NGx = choice_NX.unflatten(1, (groups, -1))
    group_NG = per_group_NGx.topk(2, dim=-1).values.sum(-1)
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


class _Dispatch(torch.autograd.Function):
    """Copy each token once per chosen expert, in the experts' order; backward is a gather, hence deterministic."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, order_M: Tensor, inverse_M: Tensor) -> Tensor:
        ctx.save_for_backward(inverse_M)
        ctx.tokens = len(x_ND)
        return x_ND[order_M // (len(order_M) // len(x_ND))]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inverse_M,) = ctx.saved_tensors
        return grads[0][inverse_M].unflatten(0, (ctx.tokens, -1)).sum(1), None, None


class _Collect(torch.autograd.Function):
    """Undo the sort: a permutation whose backward is the opposite permutation."""

    @staticmethod
    def forward(ctx: Any, y_MD: Tensor, order_M: Tensor, inverse_M: Tensor) -> Tensor:
        ctx.save_for_backward(order_M)
        return y_MD[inverse_M]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order_M,) = ctx.saved_tensors
        return grads[0][order_M], None, None


class _GroupedProduct(torch.autograd.Function):
    """y[s:e] = x[s:e] W_x^T for each expert's run of sorted rows, written in place without concatenation."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, w_XFD: Tensor, sizes: list[int]) -> Tensor:
        ctx.save_for_backward(x_MD, w_XFD)
        ctx.sizes = sizes
        y_MF = x_MD.new_empty(len(x_MD), w_XFD.shape[1])
        for w_FD, x, y in zip(w_XFD, x_MD.split(sizes), y_MF.split(sizes), strict=True):
            torch.mm(x, w_FD.t(), out=y)
        return y_MF

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_MD, w_XFD = ctx.saved_tensors
        dy_MF = grads[0].contiguous()
        dx_MD, dw_XFD = torch.empty_like(x_MD), torch.empty_like(w_XFD)
        runs = (t.split(ctx.sizes) for t in (x_MD, dx_MD, dy_MF))
        for w_FD, dw_FD, x, dx, dy in zip(w_XFD, dw_XFD, *runs, strict=True):
            torch.mm(dy, w_FD, out=dx)
            torch.mm(dy.t(), x, out=dw_FD)
        return dx_MD, dw_XFD, None


class Experts(nn.Module):
    """All routed experts of a layer, stacked: gate and up [X, 2I, D], down [X, D, I]."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        experts, width, inner = spec.n_routed_experts, spec.hidden_size, spec.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """The weighted sum of each token's experts, [N, D]."""
        flat_M = routing.experts_NK.flatten()
        order_M = flat_M.argsort(stable=True)
        inverse_M = torch.empty_like(order_M).scatter_(0, order_M, torch.arange(len(order_M), device=order_M.device))
        sizes = torch.bincount(flat_M, minlength=len(self.down_proj)).tolist()
        x_MD = _Dispatch.apply(x_ND, order_M, inverse_M)  # type: ignore[no-untyped-call]
        gate, up = _GroupedProduct.apply(x_MD, self.gate_up_proj.to(x_ND.dtype), sizes).chunk(2, dim=-1)  # type: ignore[no-untyped-call]
        y_MD = _GroupedProduct.apply(F.silu(gate) * up, self.down_proj.to(x_ND.dtype), sizes)  # type: ignore[no-untyped-call]
        y_NKD = _Collect.apply(y_MD, order_M, inverse_M).unflatten(0, routing.experts_NK.shape)  # type: ignore[no-untyped-call]
        return torch.bmm(routing.weights_NK.to(x_ND.dtype).unsqueeze(1), y_NKD).squeeze(1)


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
