"""The analysis on cells that were really measured: the whole grid of 2026-11-23 (docs/results.md), without the answers
to single problems."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from raison.bench.frontier.cells import all_cells
from raison.bench.frontier.grid import shipped_grid
from raison.bench.frontier.record import Record, from_row
from raison.bench.frontier.result import Analysis, analyse
from tests.bench.grids import resamples

CELLS = Path(__file__).with_name("frontier_cells.json")
GRID = shipped_grid("countdown")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [from_row(row) for row in json.loads(CELLS.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def analysis(records: list[Record]) -> Iterator[Analysis]:
    with resamples(2):
        yield analyse(GRID, records)


def test_the_cells_are_those_of_the_shipped_grid(records: list[Record]) -> None:
    assert [record.cell for record in records] == all_cells(GRID)


def test_the_loss_tells_accuracy_and_the_smallest_size_does_not_learn(analysis: Analysis) -> None:
    """pico has not learned with the most tokens measured; tokens and size alone would let it learn with half as many
    more."""
    laws = analysis.fitted.laws
    assert laws.told_by == "loss" and laws.trained(189_416, 9.2e6) < 0.5
    for record in (one.record for one in analysis.placed if not one.record.cell.steps):
        told = laws.trained(record.parameters, record.training.units)
        assert told == pytest.approx(record.best_single.accuracy.value, abs=0.15), record.cell.id


def test_larger_budgets_go_to_larger_models_and_cost_what_they_may(analysis: Analysis) -> None:
    ladder = analysis.ladders["flops"]
    parameters = [analysis.prices["flops"][one.split.size].parameters for one in ladder]
    assert parameters == sorted(parameters) and len(set(parameters)) == 3
    assert all(one.split.cost <= one.total * (1 + 1e-9) for one in ladder)
    accuracies = [one.split.accuracy for one in ladder]
    assert accuracies == sorted(accuracies) and accuracies[-1] > 0.95


def test_a_price_is_near_what_the_cells_paid(analysis: Analysis, records: list[Record]) -> None:
    """Within a third, for the answers of every model that has learned."""
    for record in records:
        if (single := record.best_single.accuracy.value) > 0.5:
            price = analysis.prices["flops"][record.cell.size].answering(448, 4, single)
            assert price == pytest.approx(GRID.answers * record.at(448, 4).flops, rel=0.34), record.cell.id
