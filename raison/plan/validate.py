"""Holding the planner against published figures: coverage first, then errors, row by row and by group.

Every row of a file gets an `Outcome`: predicted, out of scope (of no predictor's kind), or not covered (of a kind that
is predicted, but this row lacks something, and the outcome says what). Coverage is predicted over those in scope.
Errors are |predicted - measured| / measured. Splitting by source refits the constants of training without each source
in turn. Not covered: what is predicted and how (training_rows.py, serving_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from raison.errors import UserError
from raison.plan import rl_rows, training_rows
from raison.plan.interval import relative_error
from raison.plan.rows import Prediction, Predictor, Row
from raison.plan.utilization import fit

OUT_OF_SCOPE = "no figure of a model's training or serving: "
NO_VALUE = "the row has no value above 0 to hold a prediction against"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row."""

    row: Row
    prediction: Prediction | None
    reason: str = ""
    """Why there is no prediction; empty where there is one."""
    scope: bool = True
    """Whether a predictor claims rows of this kind."""

    @property
    def error(self) -> float:
        assert self.prediction is not None and self.row.value
        return relative_error(self.prediction.value.mid, self.row.value)

    @property
    def held(self) -> bool:
        """Whether the measurement lies inside the stated 80 % interval."""
        assert self.prediction is not None and self.row.value
        return self.prediction.value.holds(self.row.value)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over some rows; None where nothing was predicted."""

    n: int
    """Rows in scope."""
    covered: int
    median_error: float | None
    p90_error: float | None
    interval_coverage: float | None
    """Share of measurements inside the stated 80 % intervals."""

    @property
    def coverage(self) -> float | None:
        return self.covered / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Report:
    """A file held against the planner."""

    outcomes: tuple[Outcome, ...]

    @property
    def in_scope(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.scope)

    @property
    def whole(self) -> Summary:
        return summarize(self.in_scope)

    def by(self, key: Callable[[Outcome], str]) -> dict[str, Summary]:
        """A summary for each value of `key`, in order of its name."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.in_scope:
            groups.setdefault(key(outcome), []).append(outcome)
        return {name: summarize(groups[name]) for name in sorted(groups)}


def validate(rows: Sequence[Row], predictors: Sequence[Predictor]) -> Report:
    """Every row, by the first predictor that claims it; no row raises."""
    return Report(tuple(_outcome(row, predictors) for row in rows))


def hold_out(rows: Sequence[Row], others: Sequence[Predictor]) -> Report:
    """The same, with training's constants refitted without each source before its rows are predicted."""
    return each_left_out(rows, lambda row: row.origin, lambda _: others)


def each_left_out(
    rows: Sequence[Row], fold_of: Callable[[Row], str], others: Callable[[str], Sequence[Predictor]]
) -> Report:
    """Every row, by training's constants refitted without its fold and by `others` of its fold; in order of folds."""
    folds: dict[str, list[Row]] = {}
    for row in rows:
        folds.setdefault(fold_of(row), []).append(row)
    seen = [(fold, point) for fold, mine in folds.items() for row in mine if (point := training_rows.observe(row))]
    outcomes: list[Outcome] = []
    for fold, mine in folds.items():
        law = fit([point for other, point in seen if other != fold])
        outcomes += validate(mine, (partial(training_rows.predict, law=law), *others(fold))).outcomes
    return Report(tuple(outcomes))


def summarize(outcomes: Iterable[Outcome]) -> Summary:
    """Coverage and errors over rows in scope."""
    rows = list(outcomes)
    done = [outcome for outcome in rows if outcome.prediction]
    if not done:
        return Summary(len(rows), 0, None, None, None)
    middle, far = np.quantile([outcome.error for outcome in done], (0.5, 0.9))
    held = sum(outcome.held for outcome in done) / len(done)
    return Summary(len(rows), len(done), float(middle), float(far), held)


def groups_of(report: Report) -> Callable[[Outcome], str]:
    """A key for `Report.by`: the prediction's group; without one, that of most rows of this metric."""
    names: dict[str, list[str]] = {}
    for outcome in report.in_scope:
        if outcome.prediction:
            names.setdefault(outcome.row.metric, []).append(outcome.prediction.group)
    most = {metric: max(sorted(set(groups)), key=groups.count) for metric, groups in names.items()}

    def group(outcome: Outcome) -> str:
        if outcome.prediction:
            return outcome.prediction.group
        row = outcome.row
        return rl_rows.GROUP if rl_rows.is_reinforced(row) else most.get(row.metric, row.metric)

    return group


def by_group(report: Report) -> dict[str, Report]:
    """The part of each group, in order of its name."""
    key = groups_of(report)
    parts: dict[str, list[Outcome]] = {}
    for outcome in report.in_scope:
        parts.setdefault(key(outcome), []).append(outcome)
    return {name: Report(tuple(parts[name])) for name in sorted(parts)}


def by_source(report: Report) -> dict[str, dict[str, Any]]:
    """{group: {source: figures}}"""
    return {
        name: {source: _figures(summary) for source, summary in part.by(lambda outcome: outcome.row.origin).items()}
        for name, part in by_group(report).items()
    }


def as_json(report: Report) -> dict[str, Any]:
    """{"coverage", "median_error", "p90_error", "interval_coverage", "groups": {group: {..., "metrics"}}}"""
    groups = {}
    for name, part in by_group(report).items():
        metrics = {metric: _figures(summary) for metric, summary in part.by(lambda found: found.row.metric).items()}
        groups[name] = {**_figures(part.whole), "metrics": metrics}
    left = len(report.outcomes) - len(report.in_scope)
    return {**_figures(report.whole), "rows": len(report.outcomes), "out_of_scope": left, "groups": groups}


def row_json(outcome: Outcome) -> Mapping[str, Any]:
    """One row beside its prediction."""
    row, found = outcome.row, outcome.prediction
    told = {"id": row.id, "metric": row.metric, "unit": row.unit, "measured": row.value}
    if found is None:
        return {**told, "scope": outcome.scope, "reason": outcome.reason}
    value = found.value
    return {**told, "predicted": value.mid, "low": value.low, "high": value.high, "error": outcome.error,
            "inside": outcome.held, "group": found.group, "assumptions": list(found.assumptions)}  # fmt: skip


def _figures(summary: Summary) -> dict[str, Any]:
    return {"n": summary.n, "covered": summary.covered, "coverage": summary.coverage,
            "median_error": summary.median_error, "p90_error": summary.p90_error,
            "interval_coverage": summary.interval_coverage}  # fmt: skip


def _outcome(row: Row, predictors: Sequence[Predictor]) -> Outcome:
    if not row.value:
        return Outcome(row, None, NO_VALUE, scope=False)
    for predict in predictors:
        try:
            found = predict(row)
        except UserError as lacking:
            return Outcome(row, None, str(lacking))
        except Exception as error:  # a file of strangers' rows is judged to its end; the row tells what broke
            return Outcome(row, None, f"the planner failed: {type(error).__name__}: {error}")
        if found is not None:
            return Outcome(row, found)
    return Outcome(row, None, f"{OUT_OF_SCOPE}{row.metric}", scope=False)
