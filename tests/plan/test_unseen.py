"""Two published pages that no constant was fitted to: what the planner is worth elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from raison.plan import serving_rows, training_rows
from raison.plan.calibration import FILE as CALIBRATIONS
from raison.plan.calibration import read
from raison.plan.rows import read_rows
from raison.plan.utilization import fitted
from raison.plan.validate import Report, by_group, validate

UNSEEN = CALIBRATIONS.parent / "unseen.csv"


@pytest.fixture(scope="module")
def groups() -> dict[str, Report]:
    return by_group(validate(read_rows(UNSEEN), (training_rows.predict, serving_rows.predict)))


def test_no_constant_was_fitted_to_them() -> None:
    sources = {row.origin for row in read_rows(UNSEEN)}
    assert len(sources) == 2
    assert not any(sources & set(entry.sources) for entry in read(Path(CALIBRATIONS)).values())
    assert not sources & set(fitted().sources)


@pytest.mark.parametrize(("group", "rows", "error"), [("throughput", 218, 0.30), ("training throughput", 28, 0.20)])
def test_they_are_covered_and_as_close_as_was_wanted(
    groups: dict[str, Report], group: str, rows: int, error: float
) -> None:
    found = groups[group].whole
    assert found.n == rows and found.coverage == 1.0
    assert found.median_error is not None and found.median_error <= error
    assert found.interval_coverage is not None and found.interval_coverage >= 0.70
