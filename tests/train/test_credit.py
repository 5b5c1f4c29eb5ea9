"""Advantages against the definition, dead groups and the overlong ramp."""

from __future__ import annotations

import statistics

import pytest
import torch

from raison.errors import UserError
from raison.train.credit import advantages, dead_groups, overlong_penalty

NAN = float("nan")
REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.2, 0.9, 0.4, 0.4]], dtype=torch.float64)


def test_group_scale_is_the_sample_deviation() -> None:
    expected = [(r - statistics.mean(row)) / (statistics.stdev(row) + 1e-4) for row in REWARDS.tolist() for r in row]
    torch.testing.assert_close(advantages(REWARDS).flatten().tolist(), expected, rtol=1e-12, atol=0)


def test_batch_scale_divides_by_one_number_and_none_by_nothing() -> None:
    centred = REWARDS - REWARDS.mean(1, keepdim=True)
    deviation = statistics.stdev(REWARDS.flatten().tolist()) + 1e-4
    torch.testing.assert_close(advantages(REWARDS, "none"), centred)
    torch.testing.assert_close(advantages(REWARDS, "batch"), centred / deviation)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_unscorable_sample_gets_zero_and_leaves_the_others_alone(scale: str) -> None:
    with_nan = torch.tensor([[1.0, NAN, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    result = advantages(with_nan, scale)  # type: ignore[arg-type]
    assert result[0, 1] == 0
    if scale == "group":
        torch.testing.assert_close(result[0, [0, 2, 3]], advantages(torch.tensor([[1.0, 0.0, 0.0]]).double())[0])
    assert result[0].sum().abs() < 1e-12


@pytest.mark.parametrize("row", [[NAN, NAN, NAN], [NAN, 1.0, NAN], [0.1, 0.1, 0.1]])
def test_group_without_contrast_is_dead_and_teaches_nothing(row: list[float]) -> None:
    rewards = torch.tensor([row, [0.0, 0.0, 1.0]])
    assert dead_groups(rewards).tolist() == [True, False]
    assert advantages(rewards)[0].abs().max() < 1e-3


def test_overlong_ramp() -> None:
    assert [overlong_penalty(n, limit=100, cache=20) for n in (0, 80, 85, 100, 130)] == [0, 0, -0.25, -1, -1]
    assert [overlong_penalty(n, limit=100, cache=0) for n in (99, 100)] == [0, -1]
    with pytest.raises(UserError, match="does not fit"):
        overlong_penalty(5, limit=10, cache=11)
