"""Lines of the cache by hand: what 8 bits keep of them, and what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raison.engine.line import LineForm
from tests.shapes import GROUPED, SMALL


def test_each_group_has_a_scale_of_its_own() -> None:
    """A part of 100 numbers has two groups; rounding is at most half of what a step of its group is worth."""
    form = LineForm(2, 100, torch.int8)
    x_NW = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    x_NW[:, :64] *= 1000
    read_NW = form.read(form.kept(x_NW), torch.float32)
    for start, stop in ((0, 64), (64, 100), (100, 164), (164, 200)):
        part, found = x_NW[:, start:stop], read_NW[:, start:stop]
        step_N1 = part.abs().amax(1, keepdim=True) / 127
        assert ((part - found).abs() <= step_N1 * 0.501).all()
        assert torch.equal(found.abs().argmax(1), part.abs().argmax(1))


def test_by_hand() -> None:
    form = LineForm(1, 4, torch.int8)
    kept = form.kept(torch.tensor([[127.0, -63.4, 0.5, 1.5], [0.0] * 4]))
    assert kept.shape == (2, 8) and kept[0, :4].tolist() == [127, -63, 0, 2]
    assert form.read(kept, torch.float32).tolist() == [[127, -63, 0, 2], [0] * 4]


def test_what_is_not_finite_stays_so() -> None:
    form = LineForm(2, 4, torch.int8)
    x_NW = torch.ones(2, 8)
    x_NW[0, 1], x_NW[1, 6] = torch.nan, torch.inf
    assert form.read(form.kept(x_NW), torch.float32).isfinite().tolist() == [
        [False] * 4 + [True] * 4,
        [True] * 4 + [False] * 4,
    ]


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float16, 2), (torch.int8, 1.0625)])
def test_bytes(dtype: torch.dtype, size: float) -> None:
    grouped = replace(GROUPED, head_dim=64)
    latent = replace(SMALL, kv_lora_rank=512, qk_rope_head_dim=64)
    assert LineForm.of(grouped, dtype).nbytes == 2 * 2 * 64 * size
    assert LineForm.of(latent, dtype).nbytes == 576 * size
