"""Training runs as an API: what runs there are, how far each is, its figures step by step, its latest samples.

    GET /v1/raison/runs                               the runs, the one that wrote last first
    GET /v1/raison/runs/{name}?stage=grpo&after=60    one run; of the stage's steps those after step 60

Who watches asks again with `after` = the last step that it has; without `stage` the newest is meant. A name is a name,
not a path: only folders that stand directly under the root and hold a recipe are found. `app.state.runs` is what may
be looked at. Not covered: starting and stopping runs, keys (the server asks for one before any of these routes), the
files (run_files.py), what is said of a run (run_view.py).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request

from raison.serve.run_files import Tail, last_rows, telling, vocabulary
from raison.serve.run_view import Record, RunOnDisk, RunSummary, RunView, figures, samples

MOST_SAMPLES = 64
TAILS = 64
"""Logs of steps that are kept in memory, a megabyte or so each."""

router = APIRouter(prefix="/v1/raison/runs", tags=["training runs"])


class RunList(Record):
    object: Literal["list"] = "list"
    data: list[RunSummary]


class Runs:
    """The runs under a folder, none where there is none; remembers what it has read of each log of steps."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._tail = lru_cache(maxsize=TAILS)(Tail)

    def all(self) -> list[RunOnDisk]:
        """The folders that hold a run: its recipe is the first thing that one writes."""
        if self._root is None:
            return []
        try:
            folders = [p for p in self._root.iterdir() if p.name[0] != "." and (p / "recipe.toml").is_file()]
        except OSError:
            return []
        return [RunOnDisk(folder, self._tail) for folder in folders]

    def open(self, name: str) -> RunOnDisk:
        """Raises HTTPException 404 for a run that is not there."""
        for run in self.all():
            if run.folder.name == name:
                return run
        raise HTTPException(404, "there is no training run of this name")


def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


RunsHere = Annotated[Runs, Depends(_runs)]


@router.get("", summary="The training runs, the one that wrote last first")
def list_runs(runs: RunsHere) -> RunList:
    return RunList(data=sorted((run.summary() for run in runs.all()), key=lambda run: run.updated, reverse=True))


@router.get("/{name}", summary="One training run: stages, steps of one of them, samples")
def one_run(
    runs: RunsHere,
    name: str,
    stage: Annotated[str, Query(description="whose steps and samples; by default the newest stage's")] = "",
    after: Annotated[int, Query(ge=0, description="only steps after this one")] = 0,
    sampled: Annotated[int, Query(alias="samples", ge=0, le=MOST_SAMPLES, description="rollouts to show")] = 8,
) -> RunView:
    run = runs.open(name)
    summary, stages = run.summary(), run.stages()
    shown = stage or summary.stage
    if stage and stage not in [s.name for s in stages]:
        raise HTTPException(404, f"{name} has no such stage; it has: {', '.join(s.name for s in stages)}")
    rows = telling(last_rows(run.rollouts(shown)), sampled) if sampled else []
    return RunView(
        **dict(summary), shown=shown, stages=stages, machine=run.machine,
        metrics=[figures(row) for row in run.steps(shown) if row["step"] > after],
        samples=list(samples(rows, vocabulary(run.folder) if rows else None)),
    )  # fmt: skip
