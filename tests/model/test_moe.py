"""Routing against a plain loop over tokens, and the sorted products against one expert at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raison.model import moe
from raison.model.autograd import PickRows
from raison.model.moe import MixtureOfExperts, Router, balance_bias, balance_loss
from raison.model.spec import ModelSpec
from tests.shapes import SHAPES, SMALL

ROUTED = [name for name, spec in SHAPES.items() if spec.n_routed_experts]


def layer(spec: ModelSpec, seed: int = 0) -> MixtureOfExperts:
    made = MixtureOfExperts(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.normal_(0.0, 0.3, generator=generator)
    return made


def tokens(count: int, spec: ModelSpec = SMALL) -> Tensor:
    return torch.randn(count, spec.hidden_size, generator=torch.Generator().manual_seed(7))


def route_one(spec: ModelSpec, scores: list[float], bias: list[float]) -> dict[int, float]:
    """Section 2.1.2 of DeepSeek-V3's report for one token, spelt out: expert -> weight."""
    choice = [s + b for s, b in zip(scores, bias, strict=True)]
    size = len(scores) // spec.n_group
    groups = [range(g * size, (g + 1) * size) for g in range(spec.n_group)]
    worth = [sum(sorted((choice[e] for e in group), reverse=True)[:2]) for group in groups]
    kept = sorted(range(spec.n_group), key=lambda g: -worth[g])[: spec.topk_group]
    allowed = [e for g in kept for e in groups[g]]
    chosen = sorted(allowed, key=lambda e: -choice[e])[: spec.num_experts_per_tok]
    total = sum(scores[e] for e in chosen) if spec.norm_topk_prob else 1.0
    return {e: scores[e] / total * spec.routed_scaling_factor for e in chosen}


@pytest.mark.parametrize("shape", ROUTED)
def test_router_is_the_plain_loop(shape: str) -> None:
    spec = SHAPES[shape]
    router, x = layer(spec).gate, tokens(64, spec)
    routing = router(x)
    for i, scores in enumerate((x @ router.weight.T).sigmoid().tolist()):
        expected = route_one(spec, scores, router.e_score_correction_bias.tolist())
        got = dict(zip(routing.experts_NK[i].tolist(), routing.weights_NK[i].tolist(), strict=True))
        assert got == pytest.approx(expected, abs=1e-5), i


def forced_router(scores: list[float], bias: list[float], **changes: int | float | bool) -> Router:
    """A router of one-dimensional tokens: the token 1.0 has these scores."""
    router = Router(replace(SMALL, hidden_size=1, n_routed_experts=len(scores), **changes))
    with torch.no_grad():
        router.weight.copy_(torch.tensor(scores).logit().unsqueeze(1))
        router.e_score_correction_bias.copy_(torch.tensor(bias))
    return router


def test_dropped_groups_are_out_even_where_kept_choices_are_negative() -> None:
    """Masked with 0 instead of -inf, experts 2 and 3 would be chosen: every kept choice score is below 0."""
    router = forced_router(
        [0.6, 0.5, 0.4, 0.3], [-1.0, -1.0, -1.0, -1.0], n_group=2, topk_group=1, num_experts_per_tok=2
    )
    assert sorted(router(torch.ones(1, 1)).experts_NK[0].tolist()) == [0, 1]


def test_bias_chooses_and_does_not_weigh() -> None:
    router = forced_router(
        [0.9, 0.2, 0.1, 0.3], [-5.0, 5.0, 0.0, 5.0], n_group=1, topk_group=1, num_experts_per_tok=2,
        routed_scaling_factor=2.0,
    )  # fmt: skip
    routing = router(torch.ones(1, 1))
    got = dict(zip(routing.experts_NK[0].tolist(), routing.weights_NK[0].tolist(), strict=True))
    assert got == pytest.approx({1: 0.8, 3: 1.2})


def test_router_scores_in_fp32_when_tokens_are_bf16() -> None:
    router, x = layer(SMALL).gate, tokens(16).bfloat16()
    assert torch.equal(router(x).scores_NX, (x.float() @ router.weight.T).sigmoid())


@pytest.mark.parametrize("shape", ROUTED)
@pytest.mark.parametrize("count", [1, 37])
def test_layer_is_the_sum_of_its_experts(shape: str, count: int) -> None:
    """Sorting, grouped products and their undoing, against every chosen expert of every token one by one."""
    spec = SHAPES[shape]
    block, x = layer(spec), tokens(count, spec)
    y, routing = block(x)
    for i in range(count):
        expected = torch.zeros(spec.hidden_size) if block.shared_experts is None else block.shared_experts(x[i])
        for expert, weight in zip(routing.experts_NK[i].tolist(), routing.weights_NK[i], strict=True):
            gate, up = (block.experts.gate_up_proj[expert] @ x[i]).chunk(2)
            expected = expected + weight * (block.experts.down_proj[expert] @ (F.silu(gate) * up))
        assert torch.allclose(y[i], expected, rtol=1e-4, atol=1e-5), i


CHOICES = torch.tensor([[0, 3], [1, 3], [3, 0], [0, 1], [1, 0]])
"""Five tokens, four experts, one of them chosen by nobody."""


@pytest.mark.parametrize("step", [1, 4])
def test_rows_are_sorted_by_expert_in_whole_steps(step: int) -> None:
    rows = moe.Sorted.of(CHOICES, 4, step)
    assert rows.sizes == [-(-n // step) * step for n in (4, 3, 0, 3)]
    places = rows.places_M.view(5, 2)
    starts = torch.tensor([0, *rows.sizes]).cumsum(0)
    for token in range(5):
        for k in range(2):
            expert, place = int(CHOICES[token, k]), int(places[token, k])
            assert starts[expert] <= place < starts[expert + 1]
            assert rows.tokens_P[place] == token
    assert len(set(rows.places_M.tolist())) == 10


@pytest.mark.parametrize("step", [1, 4])
def test_custom_gradients_are_the_numerical_ones(step: int) -> None:
    """_Dispatch, _GroupedProduct and PickRows, in float64, with rows that pad and without."""
    generator = torch.Generator().manual_seed(3)
    order = moe.Sorted.of(CHOICES, 4, step)
    height = len(order.tokens_P)
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.randn(4, 6, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    rows = torch.randn(height, 3, dtype=torch.float64, generator=generator, requires_grad=True)

    def through(t: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sorted_rows = moe._Dispatch.apply(t, order.tokens_P, order.places_M)
        return PickRows.apply(moe._GroupedProduct.apply(sorted_rows, v, order.sizes), order.places_M)

    assert torch.autograd.gradcheck(lambda t: PickRows.apply(t, order.places_M), (rows,))
    assert torch.autograd.gradcheck(lambda t, v: moe._GroupedProduct.apply(t, v, order.sizes), (rows, w))
    assert torch.autograd.gradcheck(through, (x, w))


def test_padding_rows_change_nothing() -> None:
    """bf16 pads each expert's rows; the same layer with no padding gives the same numbers."""
    block, x = layer(SMALL).bfloat16(), tokens(37).bfloat16()
    padded, _ = block(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moe, "row_step", lambda dtype, count: 1)
        plain, _ = block(x)
    assert torch.allclose(padded.float(), plain.float(), atol=1e-2, rtol=1e-2)


def test_gradient_reaches_router_and_experts_as_in_the_plain_sum() -> None:
    """The whole layer's gradients against autograd through a loop over tokens."""
    spec = SMALL
    block, x = layer(spec).double(), tokens(11).double().requires_grad_()
    parameters = [x, *(p for p in block.parameters())]
    y, routing = block(x)
    fast = torch.autograd.grad(y.sin().sum(), parameters)
    scores = (x @ block.gate.weight.T).sigmoid()
    rows = []
    for i in range(len(x)):
        chosen = routing.experts_NK[i]
        weights = scores[i, chosen] / scores[i, chosen].sum() * spec.routed_scaling_factor
        out = block.shared_experts(x[i])
        for expert, weight in zip(chosen.tolist(), weights, strict=True):
            gate, up = (block.experts.gate_up_proj[expert] @ x[i]).chunk(2)
            out = out + weight * (block.experts.down_proj[expert] @ (F.silu(gate) * up))
        rows.append(out)
    slow = torch.autograd.grad(torch.stack(rows).sin().sum(), parameters)
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)  # the router computes in fp32 whatever the dtype


def test_balance_loss_of_even_and_of_collapsed_load() -> None:
    spec = replace(SMALL, n_routed_experts=4, num_experts_per_tok=1, n_group=1, topk_group=1)
    even = moe.Routing(torch.arange(4).unsqueeze(1), torch.ones(4, 1), torch.full((4, 4), 0.25))
    assert balance_loss(even, spec).item() == pytest.approx(1.0)
    scores = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).expand(4, 4)
    collapsed = moe.Routing(torch.zeros(4, 1, dtype=torch.long), torch.ones(4, 1), scores)
    assert balance_loss(collapsed, spec).item() == pytest.approx(4 * 0.7)


def test_balance_bias_moves_against_the_load() -> None:
    bias = torch.zeros(4)
    balance_bias(bias, torch.tensor([4, 2, 0, 2]), 0.001)
    assert bias.tolist() == pytest.approx([-0.001, 0.0, 0.001, 0.0])
