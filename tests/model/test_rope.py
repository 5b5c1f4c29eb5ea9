"""Rotary embedding and YaRN against complex arithmetic and the published figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raison.model.rope import inverse_frequencies, rotate, rotation
from raison.model.spec import R1_671B, YarnSpec, yarn_mscale
from tests.shapes import SMALL


def test_pairs_turn_as_complex_numbers() -> None:
    x = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 1, 2, 7, 100])
    angles = positions[:, None] / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.polar(torch.ones_like(angles), angles)[:, None]
    expected = torch.view_as_real(turned).flatten(-2)
    assert torch.allclose(rotate(x, rotation(SMALL, positions)), expected, atol=1e-5)


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(1)).unbind(0)

    def score(at_q: int, at_k: int) -> float:
        turned = [rotate(x, rotation(SMALL, torch.tensor([at]))) for x, at in ((q, at_q), (k, at_k))]
        return float((turned[0] * turned[1]).sum())

    assert score(12, 5) == pytest.approx(score(207, 200), abs=1e-4)
    assert score(12, 5) != pytest.approx(score(12, 6), abs=1e-4)


def test_yarn_of_r1() -> None:
    """Pairs below 10 keep their speed, those from 23 on are slowed 40 times, a ramp lies between."""
    speeds = inverse_frequencies(R1_671B) * 10000.0 ** (torch.arange(0, 64, 2) / 64)
    assert torch.allclose(speeds[:11], torch.ones(11), atol=1e-5)
    assert torch.allclose(speeds[23:], torch.full((9,), 1 / 40), atol=1e-6)
    ramp = 1 - (torch.arange(10, 24) - 10) / 13
    assert torch.allclose(speeds[10:24], ramp + (1 - ramp) / 40, atol=1e-5)
    turned = rotation(R1_671B, torch.tensor([3]))[:, 0]
    cos, sin = turned.real, turned.imag
    assert torch.allclose(cos**2 + sin**2, torch.ones(1, 32), atol=1e-6)  # mscale / mscale_all_dim is 1


def test_softmax_scale_of_r1_and_v2() -> None:
    assert R1_671B.softmax_scale == pytest.approx(0.13523378, abs=1e-8)
    v2 = replace(R1_671B, rope_scaling=YarnSpec(40.0, mscale=0.707, mscale_all_dim=0.707))
    assert v2.softmax_scale == pytest.approx(0.1147214, abs=1e-7)
    assert yarn_mscale(YarnSpec(40.0)) == pytest.approx(1.36888795, abs=1e-8)


def test_a_factor_of_one_scales_nothing() -> None:
    plain = replace(SMALL, rope_scaling=YarnSpec(1.0))
    assert torch.equal(inverse_frequencies(plain), inverse_frequencies(SMALL))
    assert plain.softmax_scale == SMALL.softmax_scale
