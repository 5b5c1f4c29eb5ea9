"""Lines of the cache by hand: what 8 bits keep of them, and what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raison.engine.line import LineForm
from tests.shapes import GROUPED, SMALL


def test_each_group_has_a_scale_of_its_own() -> None:
    """A part of 200 numbers has two groups; rounding is at most half of what a step of its group is worth."""
    form = LineForm(2, 200, torch.int8)
    x_NW = torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    x_NW[:, :128] *= 1000
    read_NW = form.read(form.kept(x_NW), torch.float32)
    for start, stop in ((0, 128), (128, 200), (200, 328), (328, 400)):
        part, found = x_NW[:, start:stop], read_NW[:, start:stop]
        step_N1 = part.abs().amax(1, keepdim=True) / 127
        assert ((part - found).abs() <= step_N1 * 0.501).all()
        assert torch.allclose(found.abs().amax(1), part.abs().amax(1))


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


@pytest.mark.parametrize(
    ("dtype", "heads", "latent"), [(torch.float32, 4, 4), (torch.float16, 2, 2), (torch.int8, 1.0625, 1 + 20 / 576)]
)
def test_bytes(dtype: torch.dtype, heads: float, latent: float) -> None:
    """Of two heads' keys and values, and of R1's latents with their rotary keys, which have a group for themselves."""
    assert LineForm.of(replace(GROUPED, head_dim=64), dtype).nbytes == 2 * 2 * 64 * heads
    assert LineForm.of(replace(SMALL, kv_lora_rank=512, qk_rope_head_dim=64), dtype).nbytes == 576 * latent
