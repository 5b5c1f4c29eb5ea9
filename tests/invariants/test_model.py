"""Two ways to the same numbers: naive and absorbed attention, packed and single documents."""

from __future__ import annotations

import pytest
import torch

from raison.model.layout import Layout
from raison.model.transformer import Transformer
from tests.shapes import SHAPES, absorbed_logits, random_ids, random_model

TOLERANCE = 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [(1,) * 23, (23,), (9, 1, 1, 12)], ids=["tokenwise", "whole", "chunked"])
@torch.no_grad()
def test_absorbed_is_naive(shape: str, chunks: tuple[int, ...]) -> None:
    model, ids = random_model(SHAPES[shape]), random_ids(23)
    assert (absorbed_logits(model, ids, chunks) - model.score(ids)).abs().max() < TOLERANCE


LENGTHS = [
    pytest.param((7, 7, 7), id="equal"),
    pytest.param((3, 4, 5, 5, 19, 40), id="sorted"),
    pytest.param((40, 1, 2, 39, 1), id="mixed"),
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("max_waste", [0.0, 0.25, 0.9])
@torch.no_grad()
def test_packed_documents_are_single_documents(lengths: tuple[int, ...], max_waste: float) -> None:
    model = random_model(SHAPES["yarn"])
    documents = [random_ids(n, seed=i) for i, n in enumerate(lengths)]
    layout = Layout.of(lengths, max_waste)
    states, _ = model.hidden(torch.tensor([i for ids in documents for i in ids]), layout.positions_N, layout)
    alone = torch.cat([model.score(ids) for ids in documents])
    assert (model.logits(states) - alone).abs().max() < TOLERANCE


def gradients(model: Transformer, documents: list[list[int]], max_waste: float = 0.5) -> dict[str, torch.Tensor]:
    """Of a sum of logits, weighted so that no two count alike."""
    layout = Layout.of([len(ids) for ids in documents], max_waste)
    states, _ = model.hidden(torch.tensor([i for ids in documents for i in ids]), layout.positions_N, layout)
    logits = model.logits(states)
    model.zero_grad()
    torch.sin(logits).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packing_changes_no_gradient() -> None:
    model = random_model(SHAPES["groups"])
    documents = [random_ids(n, seed=i) for i, n in enumerate((5, 9, 8, 17))]
    packed = gradients(model, documents)
    single = [gradients(model, [ids]) for ids in documents]
    for name, grad in packed.items():
        total = torch.stack([grads[name] for grads in single]).sum(0)
        assert (grad - total).abs().max() < 1e-5 * max(1.0, float(total.abs().max())), name
