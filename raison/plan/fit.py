"""`raison plan fit`: constants of chips and engines from published points.

A tree of nodes (a class of chips; an engine, or a family of models, on it; a family on a chip, under an engine) is
fitted from the root down: each node by Gauss-Newton on the logarithms of measured over predicted, with Huber's weights
against outliers and a Gaussian prior around its parent, so that a node with few points stays near it. Then each source
is left out in turn (a sample of many models: each model), the nodes that it counts in are fitted without it, and its
points say how far the planner is off elsewhere. Not covered: which formula (roofline.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import exp, log
from statistics import median

import numpy as np
from numpy.typing import NDArray

from raison.errors import UserError
from raison.plan.asked import Asked, asked_of
from raison.plan.calibration import Calibration, keys_of
from raison.plan.interval import factor_of
from raison.plan.roofline import Constants
from raison.plan.rows import Row
from raison.plan.serving import Case, memory_of
from raison.plan.serving_cases import case_of
from raison.plan.serving_rows import resolved, value_of

Key = tuple[str, ...]
NAMES = tuple(field.name for field in fields(Constants))
PRIOR = Constants(0.8, 0.55, 0.55, 60, 8, 0.4, 60, 0.12, 0.97)
HOST = Constants(0.7, 0.6, 0.04, 80, 8, 0.4, 100, 0.12, 0.97)
"""Where a class of processors starts: their peaks are matrix units' (AMX), which few engines use."""
OURS = Constants(0.95, 0.75, 0.6, 8, 8, 0.4, 5, 0.12, 0.8)
"""Where our own engine starts: a whole step in one call of native code."""
PRIORS: Mapping[str, Constants] = {"cpu": HOST, "numa": HOST, "this": OURS}
SPREADS = {"memory": 0.15, "decode": 0.3, "prefill": 0.4, "layer_us": 0.8, "hop_us": 0.6, "link": 0.4,
           "first_ms": 1.0, "queue": 0.5, "spread": 0.06}  # fmt: skip
"""How far a class may lie from PRIOR: standard deviations of logarithms. A child may lie CHILD times as far."""
MOST = {"memory": 1.0, "decode": 0.95, "prefill": 0.95, "link": 1.0, "spread": 1.05}
"""What physics allows; a fit that wants more has met what the formula leaves out."""
CHILD = 0.6
FREE: Mapping[str, float] = {
    "cpu": 2.0,
    "numa": 2.0,
    "apple": 3.0,
    "consumer": 2.0,
    "rdu": 3.0,
    "sram": 4.0,
    "tpu": 1.5,
    "this": 2.0,
}
"""Classes whose constants nobody expects near a data centre's GPU: factor on the prior's widths."""
NOISE = {"tpot": 0.2, "ttft": 0.5, "rate": 0.25}
"""What a measurement is trusted to, as a share."""
HUBER, STEPS, FEWEST = 1.5, 7, 3
SHARE = 0.05
"""Of a node's points: a source with less does not move it."""
ENOUGH = 1500
"""Points that a node, or a fit without one source, takes: every n-th of more."""
WIDEST = 4.0
ONE_MACHINE = 1.25
"""Least factor of our own engine elsewhere, as its points are of one machine."""
LEAST = {"tpot": 1.1, "ttft": 1.2, "rate": 1.1}
"""Intervals are never narrower: published figures of equal machines differ by that much (MLPerf: up to 1.7 times)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement that can be predicted."""

    row: Row
    case: Case
    asked: Asked
    fold: str
    """What is left out together with it."""
    metric: str

    @property
    def open(self) -> bool:
        """Whether its streams and layout have to be searched, which depends on the constants."""
        return not self.case.load.streams

    def closed(self, constants: Constants) -> Point:
        """The point with the streams and the layout that are best with these constants."""
        return replace(self, case=resolved(self.case, self.row, constants)[0]) if self.open else self

    def error(self, constants: Constants) -> float:
        """ln(measured / predicted)."""
        case = self.closed(constants).case
        return log((self.row.value or 1.0) / value_of(case, self.asked, constants, self.row))


Tree = dict[Key, Calibration]


def points_of(rows: Iterable[Row]) -> list[Point]:
    """The rows that constants can be fitted to: serving, with a value above 0, in memory, not a claim (confidence
    "low"), not money, not so many streams that they wait for room."""
    return [point for row in rows if (point := _point(row))]


def _point(row: Row) -> Point | None:
    try:
        asked = asked_of(row)
        if (
            asked is None
            or not row.value
            or row.value <= 0
            or row.confidence == "low"
            or asked.metric.startswith("cost")
        ):
            return None
        case = case_of(row, asked)[0]
    except UserError:
        return None
    room = memory_of(case).room
    if case.load.streams and (room < 1 or (asked.metric == "ttft" and room < case.load.streams)):
        return None
    alike = row.id.endswith(("-tpot", "-ttft")) or case.kind == "this"  # one source of many models
    fold = f"{row.origin} {case.shape.name}" if alike else row.origin
    return Point(row, case, asked, fold, asked.spread)


def fit(points: Sequence[Point], note: Callable[[str], None]) -> Tree:
    """The tree over all points, with errors within and elsewhere."""
    tree = grow(points, {}, "", note)
    left_out: dict[tuple[str, str], list[float]] = defaultdict(list)
    some = _thinned(points)
    for fold in sorted({point.fold for point in points}):
        mine = [point for point in some if point.fold == fold]
        without = grow(some, tree, fold, note)
        for point in mine:
            if calibration := _deepest(without, point.case):
                left_out[point.case.kind, point.metric].append(point.error(calibration.constants))
    kinds = {key: point.case.kind for point in points for key in keys_of(point.case)}
    return {key: _with_elsewhere(entry, kinds[key], left_out) for key, entry in tree.items()}


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Every n-th of the points of large sources, all of the others."""
    sizes = Counter(point.row.origin for point in points)
    every = 1 + len(points) // ENOUGH
    return [p for place, p in enumerate(points) if sizes[p.row.origin] < ENOUGH or place % every == 0]


def grow(points: Sequence[Point], known: Tree, fold: str, note: Callable[[str], None]) -> Tree:
    """Nodes from the root down, without the points of `fold`; nodes of `known` that it hardly counts in are kept."""
    members: dict[Key, list[Point]] = defaultdict(list)
    for point in points:
        for key in keys_of(point.case):
            members[key].append(point)
    tree: Tree = {}
    for key in sorted(members, key=lambda key: (len(key), key)):
        kept = [point for point in members[key] if point.fold != fold]
        if known and key in known and len(kept) > (1 - SHARE) * len(members[key]):
            tree[key] = known[key]
        elif len(kept) >= FEWEST:
            tree[key] = _node(key, kept, tree)
            note(f"{'without ' + fold + ': ' if fold else ''}{tree[key].name}: {len(kept)} points")
    return tree


def _node(key: Key, points: Sequence[Point], tree: Tree) -> Calibration:
    kind = points[0].case.kind
    parents = [k for k in keys_of(points[0].case) if len(k) < len(key) and k in tree]
    depth = len({len(k) for k in parents})
    start = tree[parents[0]].constants if parents else PRIORS.get(kind, PRIOR)
    width = FREE.get(kind, 1.0) * CHILD**depth
    closed = [point for point in points if not point.open]
    used = closed or points
    constants = solve(used[:: 1 + len(used) // ENOUGH], start, width)
    return Calibration(key, constants, len(points), tuple(sorted({p.row.origin for p in points})), _dates(points),
                       *_errors(points, constants))  # fmt: skip


def solve(points: Sequence[Point], start: Constants, width: float) -> Constants:
    """The constants that fit best, near `start`: STEPS of Gauss-Newton, derivatives by differences."""
    noise = np.array([NOISE[point.metric] for point in points])
    spread = np.array([SPREADS[name] for name in NAMES]) * width
    origin = np.array([log(getattr(start, name)) for name in NAMES])
    ceiling = np.log([MOST.get(name, np.inf) for name in NAMES])
    at = origin.copy()
    for _ in range(STEPS):
        held = [point.closed(_constants(at)) for point in points]
        errors = _errors_at(held, at) / noise
        slopes = np.stack([(_errors_at(held, at + step) / noise - errors) / 1e-3 for step in np.eye(len(NAMES)) * 1e-3])
        weights = np.minimum(1.0, HUBER / np.maximum(np.abs(errors), 1e-9))
        curvature = (slopes * weights) @ slopes.T + np.diag(spread**-2.0)
        slope = slopes @ (weights * errors) + (at - origin) / spread**2
        at = np.minimum(at - np.clip(np.linalg.solve(curvature, slope), -0.7, 0.7), ceiling)
    return _constants(at)


def _errors_at(points: Sequence[Point], logs: NDArray[np.float64]) -> NDArray[np.float64]:
    constants = _constants(logs)
    return np.array([point.error(constants) for point in points])


def _constants(logs: NDArray[np.float64]) -> Constants:
    found = {name: exp(float(value)) for name, value in zip(NAMES, logs, strict=True)}
    return Constants(**{name: min(value, MOST.get(name, value)) for name, value in found.items()})


def _errors(points: Sequence[Point], constants: Constants) -> tuple[dict[str, float], dict[str, float]]:
    """Median relative error, and the factor that holds 80 %, by metric."""
    found: dict[str, list[float]] = defaultdict(list)
    for point in points:
        found[point.metric].append(point.error(constants))
    return (
        _rounded({metric: median(abs(exp(-e) - 1) for e in logs) for metric, logs in found.items()}),
        _rounded({metric: _factor(metric, logs) for metric, logs in found.items()}),
    )


def _factor(metric: str, logs: Sequence[float]) -> float:
    """The factor that holds four of five of these errors: their own quantile, as tails are heavier than a log-normal's;
    by the normal's rule where they are fewer than ten."""
    if len(logs) < 10:
        return min(WIDEST, factor_of(logs, least=LEAST[metric]))
    return min(WIDEST, max(LEAST[metric], exp(sorted(abs(e) for e in logs)[int(0.8 * len(logs))])))


def _with_elsewhere(entry: Calibration, kind: str, left: Mapping[tuple[str, str], Sequence[float]]) -> Calibration:
    """The entry with what was seen of sources left out in its class; never less than of its own points."""
    mine = {metric: logs for (name, metric), logs in left.items() if name == kind}
    away = {metric: max(_factor(metric, logs), entry.within.get(metric, 1.0)) for metric, logs in mine.items()}
    if kind == "this":
        away = {metric: max(factor, ONE_MACHINE) for metric, factor in away.items()}
    missed = {metric: median(abs(exp(-e) - 1) for e in logs) for metric, logs in mine.items()}
    return replace(entry, elsewhere=_rounded(away), missed=_rounded(missed))


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _deepest(tree: Tree, case: Case) -> Calibration | None:
    return next((tree[key] for key in (*keys_of(case), ("gpu",)) if key in tree), None)


def _dates(points: Sequence[Point]) -> tuple[str, str]:
    dates = sorted(p.row.date for p in points if p.row.date) or [""]
    return dates[0], dates[-1]
