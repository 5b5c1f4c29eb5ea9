"""`raison plan fit`: constants of chips and engines from published points.

A tree of nodes (a class of chips; an engine, or a family of models, on it; a family on a chip, under an engine) is
fitted from the root down, each node near its parent (constants_fit.py). Then each source is left out in turn (of a
sample of many models: each model), the nodes that it counts in are fitted without it, and its points say how far the
planner is off elsewhere. Not covered: which formula (roofline.py), rows of training (utilization.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from statistics import median

from raison.plan.calibration import Calibration, deepest, keys_of
from raison.plan.constants_fit import solve
from raison.plan.interval import factor_of, quantile
from raison.plan.points import ENOUGH, Point, thinned
from raison.plan.serving import Case
from raison.plan.setup import Constants

Key = tuple[str, ...]
Tree = dict[Key, Calibration]
Note = Callable[[str], None]
PRIOR = Constants(0.8, 0.55, 0.55, 60, 8, 0.4, 60, 0.12, 0.97, 0.85, 10)
HOST = Constants(0.7, 0.6, 0.04, 80, 8, 0.4, 100, 0.12, 0.97, 1.0, 10)
"""Where a class of processors starts: their peaks are matrix units' (AMX), which few engines use."""
OURS = Constants(0.95, 0.75, 0.6, 8, 8, 0.4, 5, 0.12, 0.8, 1.0, 1)
"""Where our own engine starts: a whole step in one call of native code."""
PRIORS: Mapping[str, Constants] = {"cpu": HOST, "numa": HOST, "this": OURS}
CHILD = 0.6
"""How far a child may lie from its parent, of what the parent may from its own."""
FREE: Mapping[str, float] = {
    "cpu": 2.0, "numa": 2.0, "apple": 3.0, "consumer": 2.0, "rdu": 3.0, "sram": 4.0, "tpu": 1.5, "this": 2.0,
}  # fmt: skip
"""Classes whose constants nobody expects near a data centre's GPU: factor on the prior's widths."""
FEWEST = 3
"""Points that a node is fitted to at least."""
SHARE = 0.05
"""Of a node's points: a source with less does not move it."""
WIDEST = 4.0
"""Factor of an interval at most: beyond it the figure says nothing."""
ONE_MACHINE = 1.25
"""Least factor of our own engine elsewhere, as its points are of one machine."""
LEAST = {"tpot": 1.1, "ttft": 1.2, "rate": 1.1, "frontier": 1.2}
"""Intervals are never narrower: published figures of equal machines differ by that much (MLPerf: up to 1.7 times)."""
HEAVIEST = 8
"""Points that a source left out counts as at most: how far the next source is off, many points of one do not tell."""


TELLING: Mapping[str, tuple[str, ...]] = {"rate": ("rate", "tpot")}
"""Whose errors tell how far a figure is off elsewhere, beside its own: tokens/s are sequences over TPOT (Little's law),
and few sources give them where many give TPOT."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One source's points as constants say that were fitted without them."""

    fold: str
    tree: Tree
    errors: Mapping[tuple[str, str], tuple[float, ...]]
    """(class, metric) -> ln(measured / predicted)."""


def fit(points: Sequence[Point], note: Note) -> Tree:
    """The tree over all points, with errors within and elsewhere."""
    tree = grow(points, {}, "", note)
    return with_elsewhere(tree, leave_each_out(points, tree, note))


def leave_each_out(points: Sequence[Point], whole: Tree, note: Note) -> list[LeftOut]:
    """Every source left out in turn of the fit that `whole` came from."""
    some = thinned(points)
    found = []
    for fold in sorted({point.fold for point in points}):
        tree = grow(some, whole, fold, note)
        if not tree:
            continue  # nothing is left to speak of it
        errors: dict[tuple[str, str], list[float]] = defaultdict(list)
        for point in some:
            if point.fold == fold and not _stranger(point.case, whole, tree):
                errors[point.case.kind, point.metric].append(point.error(deepest(tree, point.case).constants))
        found.append(LeftOut(fold, tree, {key: tuple(logs) for key, logs in errors.items()}))
    return found


def _stranger(case: Case, whole: Tree, tree: Tree) -> bool:
    """Whether the case's engine is known to the whole alone: how far an engine is off that was never seen says nothing
    of those that were (calibration.STRANGE is for it)."""
    return (case.kind, case.engine) in whole and (case.kind, case.engine) not in tree


def grow(points: Sequence[Point], known: Tree, fold: str, note: Note) -> Tree:
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
    within = _errors(points, constants)
    sources = tuple(sorted({p.row.origin for p in points}))
    return Calibration(key, constants, len(points), sources, _dates(points), *within, kind=kind)


def with_elsewhere(tree: Tree, left: Sequence[LeftOut]) -> Tree:
    """Every entry with what was seen of sources left out in its class."""
    seen: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for one in left:
        for key, logs in one.errors.items():
            seen[key] += [(log, min(1.0, HEAVIEST / len(logs))) for log in logs]
    return {key: _elsewhere(entry, seen) for key, entry in tree.items()}


def _elsewhere(entry: Calibration, seen: Mapping[tuple[str, str], Sequence[tuple[float, float]]]) -> Calibration:
    """The entry with the class's errors elsewhere; never less than of its own points."""
    mine = {metric: logs for (kind, metric), logs in seen.items() if kind == entry.kind}
    telling = {metric: [pair for name in TELLING.get(metric, (metric,)) for pair in mine.get(name, ())]
               for metric in mine}  # fmt: skip
    least = ONE_MACHINE if entry.kind == "this" else 1.0
    away = {name: max(_factor(name, logs), entry.within.get(name, 1.0), least) for name, logs in telling.items()}
    missed = {name: quantile([(abs(exp(-e) - 1), weight) for e, weight in logs], 0.5) for name, logs in mine.items()}
    return replace(entry, elsewhere=_rounded(away), missed=_rounded(missed))


def _errors(points: Sequence[Point], constants: Constants) -> tuple[dict[str, float], dict[str, float]]:
    """Median relative error, and the factor that holds 80 %, by metric."""
    found: dict[str, list[float]] = defaultdict(list)
    for point in points:
        found[point.metric].append(point.error(constants))
    return (
        _rounded({metric: median(abs(exp(-e) - 1) for e in logs) for metric, logs in found.items()}),
        _rounded({metric: _factor(metric, [(e, 1.0) for e in logs]) for metric, logs in found.items()}),
    )


def _factor(metric: str, weighed: Sequence[tuple[float, float]]) -> float:
    """The factor that holds four of five of these errors: their own quantile, as tails are heavier than a log-normal's;
    by the normal's rule where they are fewer than ten."""
    if len(weighed) < 10:
        return min(WIDEST, factor_of([log for log, _ in weighed], least=LEAST[metric]))
    return min(WIDEST, max(LEAST[metric], exp(quantile([(abs(log), weight) for log, weight in weighed], 0.8))))


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _dates(points: Sequence[Point]) -> tuple[str, str]:
    dates = sorted(p.row.date for p in points if p.row.date) or [""]
    return dates[0], dates[-1]
