"""A frontier from its prediction to its result: cells in order, each done once, then the laws, the split, the check.

    runs/<name>-<date>-<time>/
        grid.toml        the grid with every default in place; a run goes on only with an equal one
        run.json         when it began, what it was predicted to take, and the rates that this rests on
        cells/<cell>/    workshop.py
        check/<cell>/    the arms of the check, where it was asked for
        result.json      everything measured and fitted, dated and hashed
        report.html      and its plots as SVG files beside it
        .held            locked by the process that works here

Not covered: what a cell is, and how the laws are fitted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from raison import hardware, provenance
from raison.bench.frontier import check as checks
from raison.bench.frontier import result as results
from raison.bench.frontier.cells import Cell, all_cells
from raison.bench.frontier.forecast import Clock, rates_of, seconds_of
from raison.bench.frontier.grid import Grid, dump
from raison.bench.frontier.page import write_page
from raison.bench.frontier.record import Record
from raison.bench.frontier.result import Analysis
from raison.bench.frontier.workshop import Workshop
from raison.bench.problem_set import ProblemSet, draw
from raison.errors import UserError
from raison.files import holding, write_atomic
from raison.model.spec import ModelSpec
from raison.tasks.catalog import load_task
from raison.tasks.task import checker_id
from raison.train.predict import Rates
from raison.train.recipe import Watch

GRID, STATE, RESULT = "grid.toml", "run.json", "result.json"
MEASURED_SEED, CHECK_SEED = 2_000_000_011, 3_000_000_019
"""Names of the problems that cells, and the arms of a check, are measured on."""


class FrontierWatch(Watch, Protocol):
    def forecast(self, clock: Clock, waiting: Sequence[Cell], done: int) -> None: ...
    def cell_done(self, record: Record, left: float) -> None: ...


class Frontier:
    """One run in its folder, which is held until it ends."""

    def __init__(self, grid: Grid, folder: Path, watch: FrontierWatch) -> None:
        """Raises UserError where the folder holds another grid's run."""
        self.grid, self.folder, self.watch = grid, folder, watch
        self._rates: dict[ModelSpec, Rates] = {}
        self._state: dict[str, Any] = {}

    def run(self, seeds: int = 0, flops: float | None = None) -> dict[str, Any]:
        """Everything that is left to do, then the check with so many seeds. `flops`: the budget that is quoted and
        checked, in place of the middle one. Raises Stopped when the user asked to stop; the run then goes on later.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with holding(self.folder):
            self._begin()
            records = self._make_all(self._workshop("cells", MEASURED_SEED), all_cells(self.grid))
            self.watch.note("fitting the three laws, with their resamples")
            analysis = results.analyse(self.grid, records, flops)
            found = self._head(records) | results.to_json(self.grid, records, analysis)
            self._save(found, analysis)
            if seeds:
                found["check"] = checks.to_json(self._check(analysis, seeds))
                self._save(found, analysis)
        return found

    def predict(self) -> Clock:
        """Seconds of every cell of the grid, from rates timed once for a run."""
        self._rates = self._rates or self._timed()
        return Clock({cell: seconds_of(self.grid, cell, self._rates) for cell in all_cells(self.grid)})

    def _begin(self) -> None:
        path = self.folder / GRID
        text = dump(self.grid)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{self.folder} holds the run of another grid; leave --resume out to start anew")
        write_atomic(path, text.encode())
        if not (self.folder / STATE).exists():
            started, total = provenance.now(), self.predict().total
            rates = {size.name: asdict(self._rates[size.model]) for size in self.grid.sizes}
            state = {"started": started, "predicted_seconds": total, "rates": rates}
            write_atomic(self.folder / STATE, json.dumps(state, indent=1).encode())
        self._state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        self._rates = {size.model: Rates(**self._state["rates"][size.name]) for size in self.grid.sizes}

    def _timed(self) -> dict[ModelSpec, Rates]:
        self.watch.note("timing each size for a few seconds")
        return rates_of(self.grid, self.folder)

    def _workshop(self, name: str, seed: int) -> Workshop:
        return Workshop(self.grid, self.folder / name, self._problems(seed), self._rates)

    def _problems(self, seed: int) -> ProblemSet:
        task = load_task(self.grid.task.name, True, self.grid.task.checker)
        return draw(task, self.grid.level, self.grid.problems, seed + self.grid.seed)

    def _make_all(self, workshop: Workshop, cells: Sequence[Cell]) -> list[Record]:
        found: dict[Cell, Record] = {}
        kept = {cell: record for cell in cells if (record := workshop.done(cell)) is not None}
        waiting = [cell for cell in cells if cell not in kept]
        clock = Clock({cell: seconds_of(self.grid, cell, self._rates) for cell in waiting})
        self.watch.forecast(clock, waiting, len(kept))
        for cell in cells:
            if cell in kept:
                found[cell] = kept[cell]
                continue
            found[cell] = workshop.make(cell, self._parent(found, cell), self.watch)
            clock.ended(cell, found[cell].seconds)
            waiting.remove(cell)
            self.watch.cell_done(found[cell], clock.left(waiting))
        return [found[cell] for cell in cells]

    @staticmethod
    def _parent(found: dict[Cell, Record], cell: Cell) -> Record | None:
        """The record of the cell that this one goes on from; a chain is made in order."""
        wanted = cell.parent
        return None if wanted is None else next(r for c, r in found.items() if c.id == wanted.id)

    def _check(self, analysis: Analysis, seeds: int) -> checks.Check:
        workshop = self._workshop("check", CHECK_SEED)
        return checks.run_check(self.grid, analysis, seeds, lambda cells: self._make_all(workshop, cells))

    def _head(self, records: Sequence[Record]) -> dict[str, Any]:
        return {
            "name": self.grid.name, "grid_sha256": self.grid.sha256, "seed": self.grid.seed,
            "task": checker_id(load_task(self.grid.task.name, True, self.grid.task.checker)),
            "problems_sha256": records[0].problems_sha256, "started": self._state["started"], "ended": provenance.now(),
            "predicted_seconds": self._state["predicted_seconds"], "seconds": sum(r.seconds for r in records),
            "commit": provenance.commit(), "versions": provenance.versions(),
            "machine": hardware.probe().to_dict(), "selector": self.grid.selector,
        }  # fmt: skip

    def _save(self, found: dict[str, Any], analysis: Analysis) -> None:
        write_atomic(self.folder / RESULT, json.dumps(found, indent=1).encode())
        try:
            write_page(self.folder, self.grid, found, analysis)
        except UserError as error:  # hours of work do not fail for their picture
            self.watch.note(f"no report: {error}")
