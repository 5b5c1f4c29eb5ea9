"""Calibrations: the constants that `raison plan fit` found, for whom, from what, and how far off they were.

figures/calibrations.json holds one entry for each node of a tree: a class of chips ("gpu"), an engine or a family of
models on it ("gpu", "vllm"; "gpu", "dense"), a family on a chip under an engine ("B200 SXM", "vllm", "latent"). A case
takes the deepest node there is. An entry says how far measurements of its own sources lay off, and its class how far
those of sources that were left out of the fit lay off: a figure of an unknown source gets the wider interval.
RAISON_HOME/calibrations.json, where there is one, goes before. Not covered: fitting (fit.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from raison.errors import UserError
from raison.hardware import cache_folder
from raison.plan.serving import Case
from raison.plan.setup import Constants

FILE = Path(__file__).parent / "figures" / "calibrations.json"
OWN = "calibrations.json"
UNMEASURED = 3.0
"""Factor where no point speaks of a figure."""
STRANGE = 1.5
"""Power of the factor under an engine that no constant was fitted to: llama.cpp on accelerators was off by 3 times when
its only source was left out, other engines by twice as much as usual in their times to the first token."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One node."""

    key: tuple[str, ...]
    constants: Constants
    points: int
    sources: tuple[str, ...]
    dates: tuple[str, str]
    """First and last month of the points."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Median relative error by metric: tpot, ttft, rate (throughput), frontier (throughput at a promised speed)."""
    within: Mapping[str, float] = field(default_factory=dict)
    """Factor that holds 80 % of its own points, by metric."""
    elsewhere: Mapping[str, float] = field(default_factory=dict)
    """Factor that holds 80 % of its class's points whose source was left out of the fit, by metric."""
    missed: Mapping[str, float] = field(default_factory=dict)
    """Median relative error of those points, by metric."""
    kind: str = ""
    """The class of chips."""

    @property
    def name(self) -> str:
        return " / ".join(self.key)

    def spread(self, metric: str, source: str, engine: str = "") -> float:
        """The factor of the 80 % interval of a figure of `source` under `engine`: of another metric's points where its
        own has none, and never less than UNMEASURED for a time to first token then; wider where the engine is named
        but none of its points are here."""
        known = self.within if source in self.sources else self.elsewhere
        other = max(known.values(), default=UNMEASURED)
        factor = known.get(metric, max(other, UNMEASURED) if metric == "ttft" else other)
        return factor**STRANGE if engine and engine not in self.key else factor

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "key": list(self.key)}


def keys_of(case: Case) -> tuple[tuple[str, ...], ...]:
    """The nodes of a case, deepest first."""
    kind, engine = case.kind, case.engine
    return ((case.chip.name, engine, case.family), *(((kind, engine),) if engine else ()), (kind, case.family), (kind,))


def choose(case: Case) -> Calibration:
    """The deepest calibration for a case, of the user's file and ours."""
    return deepest(calibrations(), case)


def deepest(table: Mapping[tuple[str, ...], Calibration], case: Case) -> Calibration:
    """The deepest entry of `table` for a case; "gpu", then any, where its class has none."""
    keys = (*keys_of(case), (case.chip.kind,), ("gpu",), *table)
    return next(table[key] for key in keys if key in table)


@cache
def calibrations() -> Mapping[tuple[str, ...], Calibration]:
    """By key; the user's own file before ours."""
    own = cache_folder() / OWN
    return {**read(FILE), **(read(own) if own.exists() else {})}


def read(path: Path) -> dict[tuple[str, ...], Calibration]:
    """The calibrations of a file. UserError where it is not one."""
    try:
        found = [_entry(values) for values in json.loads(path.read_text(encoding="utf-8"))["calibrations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a file of calibrations, as `raison plan fit --out` writes: {error}") from None
    return {entry.key: entry for entry in found}


def _entry(values: Mapping[str, Any]) -> Calibration:
    return Calibration(**{
        **values, "key": tuple(values["key"]), "constants": Constants(**values["constants"]),
        "sources": tuple(values["sources"]), "dates": tuple(values["dates"]),
    })  # fmt: skip
