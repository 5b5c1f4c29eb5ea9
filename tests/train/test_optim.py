"""Muon against its definition, AdamW against PyTorch's, states, schedules and clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from raison.errors import CheckpointError, NumericalError
from raison.train.newton_schulz import QUINTIC, orthogonalise_
from raison.train.optim import AdamW, Muon, Optimizer, build_optimizer, clip_gradients, goes_to_muon, lr_scale


@dataclass
class Settings:
    kind: Literal["adamw", "muon"] = "muon"
    lr: float = 1e-2
    muon_lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1


def orthogonalised(matrices: list[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    copies = [matrix.clone() for matrix in matrices]
    orthogonalise_(copies, dtype)
    return copies


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.tall, self.wide, self.square = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 8, bias=False)
        self.experts = nn.Parameter(torch.randn(3, 8, 12) * 0.1)
        self.gate = nn.Linear(8, 3, bias=False)
        self.norm = nn.RMSNorm(8)
        self.lm_head = nn.Linear(8, 7, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.embed(ids))
        mixed = torch.einsum("nd,edi,ne->ni", x, self.experts, self.gate(x).softmax(-1))
        logits: Tensor = self.lm_head(self.square(x) + self.wide(torch.relu(self.tall(x) + mixed)))
        return logits


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def train(model: Small, optimizer: Optimizer, steps: range) -> float:
    """Next token = (3 id + 1) mod 7, on ids drawn by step."""
    for step in steps:
        ids = torch.randint(7, (32,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(ids), (3 * ids + 1) % 7)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1.0)
    return loss.item()


def test_orthogonalised_equals_the_quintic_on_singular_values() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 10), (10, 6), (2, 6, 10), (5, 5)]
    matrices = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    a, b, c = QUINTIC
    for matrix, result in zip(matrices, orthogonalised(matrices, torch.float64), strict=True):
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        s = s / (matrix.norm(dim=(-2, -1))[..., None] + 1e-7)
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        torch.testing.assert_close(result, u @ torch.diag_embed(s) @ vt, rtol=0, atol=1e-10)
        assert result.shape == matrix.shape


def test_bf16_products_keep_the_direction() -> None:
    """Fixed seed, so nothing here is left to chance."""
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    exact, rough = orthogonalised([matrix])[0], orthogonalised([matrix], torch.bfloat16)[0]
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.999


def test_zero_gradient_moves_nothing_but_decay() -> None:
    weight = nn.Parameter(torch.ones(4, 6))
    weight.grad = torch.zeros(4, 6)
    Muon({"w": weight}, lr=0.1, weight_decay=0.5).step(1.0)
    torch.testing.assert_close(weight.data, torch.full((4, 6), 0.95))


def test_muon_step_has_the_size_of_an_adamw_step() -> None:
    """RMS of the change = 0.2 lr, up to the spread of the iteration's singular values (0.7 .. 1.2), for every aspect
    ratio.
    """
    for shape in ((32, 32), (16, 96), (96, 16), (4, 24, 48)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        Muon({"w": weight}, lr=0.5, weight_decay=0.1).step(0.1)
        rms = weight.data.square().mean().sqrt().item()
        assert 0.7 < rms / (0.2 * 0.5 * 0.1) < 1.2


def test_nesterov_momentum_by_hand() -> None:
    weight, reference = nn.Parameter(torch.zeros(5, 7)), torch.zeros(5, 7)
    muon, buffer = Muon({"w": weight}, lr=0.1, weight_decay=0.0), torch.zeros(5, 7)
    for seed in range(4):
        grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
        weight.grad = grad.clone()
        muon.step(1.0)
        buffer = 0.95 * buffer + 0.05 * grad
        reference -= 0.1 * 0.2 * math.sqrt(7) * orthogonalised([0.95 * buffer + 0.05 * grad])[0]
    torch.testing.assert_close(weight.data, reference)


def test_adamw_equals_pytorch_with_decay_on_matrices_only() -> None:
    ours, theirs = small(), small()
    named = dict(theirs.named_parameters())
    plain = [n for n, p in named.items() if p.ndim < 2 or "embed" in n]
    groups = [
        {"params": [p for n, p in named.items() if n not in plain], "weight_decay": 0.1},
        {"params": [named[n] for n in plain], "weight_decay": 0.0},
    ]

    class Reference:
        inner = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)

        def step(self, lr_scale: float) -> None:
            self.inner.step()

        def zero_grad(self) -> None:
            self.inner.zero_grad()

    train(ours, build_optimizer(ours, Settings(kind="adamw")), range(5))
    train(theirs, Reference(), range(5))  # type: ignore[arg-type]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_routing() -> None:
    matrix, vector = torch.zeros(4, 4), torch.zeros(4)
    assert goes_to_muon("layers.0.mlp.gate_proj.weight", matrix)
    assert goes_to_muon("layers.1.mlp.experts.down", torch.zeros(8, 4, 4))
    for name in ("embed_tokens.weight", "lm_head.weight", "layers.1.mlp.gate.weight", "layers.1.router.weight"):
        assert not goes_to_muon(name, matrix)
    assert not goes_to_muon("layers.0.norm.weight", vector)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_learns_and_resumes_bit_for_bit(kind: Literal["adamw", "muon"]) -> None:
    whole, half = small(), small()
    optimizer = build_optimizer(whole, Settings(kind))
    final = train(whole, optimizer, range(60))
    assert final < 0.3  # from ln 7 = 1.95; measured 0.024 with muon, 0.0004 with adamw
    first = build_optimizer(half, Settings(kind))
    train(half, first, range(30))
    state = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    second = build_optimizer(half, Settings(kind))
    second.load_state_dict(state)
    train(half, second, range(30, 60))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))


def test_parameter_without_gradient_is_left_alone() -> None:
    model = small()
    optimizer = build_optimizer(model, Settings())
    model.square(torch.ones(1, 8)).sum().backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step(1.0)
    assert {n for n, p in model.named_parameters() if not torch.equal(p, before[n])} == {"square.weight"}


def test_state_of_another_model_or_kind_is_refused() -> None:
    model = small()
    muon, adamw = build_optimizer(model, Settings()), build_optimizer(model, Settings("adamw"))
    train(model, muon, range(1))
    with pytest.raises(CheckpointError, match="another kind"):
        adamw.load_state_dict(muon.state_dict())
    part = AdamW({"w": nn.Parameter(torch.zeros(3))}, 1e-3, (0.9, 0.95), 0.0)
    with pytest.raises(CheckpointError, match="unknown"):
        part.load_state_dict({"v.exp_avg": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="shape"):
        part.load_state_dict({"w.exp_avg": torch.zeros(4)})
    with pytest.raises(CheckpointError, match="incomplete"):
        part.load_state_dict({"w.exp_avg": torch.zeros(3)})


def test_schedules() -> None:
    def at(kind: Literal["constant", "cosine", "wsd"], *steps: int) -> list[float]:
        return [lr_scale(s, 110, kind, warmup=10, decay_share=0.2, final_share=0.1) for s in steps]

    for kind in ("constant", "cosine", "wsd"):
        assert at(kind, 0, 4, 9, 10) == [0.1, 0.5, 1.0, 1.0]  # type: ignore[arg-type]
    assert at("constant", 109) == [1.0]
    assert at("cosine", 60, 110) == pytest.approx([0.55, 0.1])
    assert at("wsd", 88, 99, 110, 500) == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert lr_scale(0, 1, "cosine", 0, 0.2, 0.0) == 1.0


def test_clipping() -> None:
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([2.0, 1.0]), torch.tensor([2.0])
    assert clip_gradients(params, 0.0) == pytest.approx(3.0)
    assert clip_gradients(params, 1.5) == pytest.approx(3.0)
    assert params[1].grad.item() == pytest.approx(1.0, rel=1e-5)
    params[1].grad = torch.tensor([float("nan")])
    with pytest.raises(NumericalError, match="diverged"):
        clip_gradients(params, 1.0)
    assert params[0].grad.tolist() == pytest.approx([1.0, 0.5], rel=1e-5)
