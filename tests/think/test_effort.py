"""Effort levels from measured curves, from provenance, and by share of the context."""

from __future__ import annotations

from typing import Any

import pytest

from raison.errors import UserError
from raison.think.effort import KEY, LEVELS, budget_of, budgets_of, efforts_from, provenance_of


def test_levels_are_the_shares_of_what_thinking_gains() -> None:
    """From 0.2 to 0.6 in a straight line over 400 tokens: a quarter, a half, 80 and 95 % of it."""
    assert efforts_from([(0, 0.2), (400, 0.6)]) == {"minimal": 100, "low": 200, "medium": 320, "high": 380}


def test_a_dip_by_chance_changes_nothing() -> None:
    dipped = efforts_from([(0, 0.0), (100, 0.5), (200, 0.45), (400, 1.0)])
    assert dipped == efforts_from([(0, 0.0), (100, 0.5), (200, 0.5), (400, 1.0)])
    assert list(dipped.values()) == sorted(dipped.values())


def test_a_model_that_thinking_does_not_help_answers_at_once() -> None:
    assert set(efforts_from([(0, 0.3), (64, 0.2), (128, 0.3)]).values()) == {0}


@pytest.mark.parametrize("curve", [[], [(8, 0.5)], [(0, 0.1), (0, 0.2)]])
def test_what_is_no_curve_is_refused(curve: list[tuple[int, float]]) -> None:
    with pytest.raises(ValueError, match="rise from 0"):
        efforts_from(curve)


def test_measured_levels_come_before_shares_of_the_context() -> None:
    measured = provenance_of([(0, 0.0), (100, 1.0)])
    assert budgets_of(measured, 1024) == {"none": 0, "minimal": 25, "low": 50, "medium": 80, "high": 95, "max": None}
    assert budgets_of({}, 1024) == {"none": 0, "minimal": 32, "low": 64, "medium": 128, "high": 256, "max": None}
    assert budgets_of(measured, 60)["high"] == 60
    assert provenance_of([(8, 0.1)]) == {}


@pytest.mark.parametrize(
    "found",
    [None, 7, [], {"low": 4}, dict.fromkeys(LEVELS, True), dict.fromkeys(LEVELS, -1), dict.fromkeys(LEVELS, "9")],
)
def test_a_damaged_record_is_no_measurement(found: Any) -> None:
    assert budgets_of({KEY: found}, 1024) == budgets_of({}, 1024)


def test_names() -> None:
    assert budget_of("xhigh", {}, 64) is None
    assert budget_of("none", {}, 64) == 0
    with pytest.raises(UserError, match='did you mean "medium"'):
        budget_of("medum", {}, 64)
