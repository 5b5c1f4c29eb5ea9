"""The honest test: every source's rows predicted by constants that were fitted without it.

Serving: the tree of fit.py without the source; its intervals come from what the other sources were off by when each of
them was left out, so that nothing of the source is in them. Training: the law of utilisation likewise. A sample of many
models is left out model by model. Nodes of the tree that a source has a twentieth of or less are not fitted anew. Not
covered: figures of one machine that two sources both cite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from raison.errors import UserError
from raison.plan import serving_rows
from raison.plan.fit import LeftOut, Tree, with_elsewhere
from raison.plan.points import fold_of
from raison.plan.rows import Predictor, Row
from raison.plan.validate import Report, each_left_out


def cross(rows: Sequence[Row], whole: Tree, left: Sequence[LeftOut]) -> Report:
    """Every row, by constants without its source. `left` is what leave_each_out made of `whole`; rows of sources that
    neither has a point of are predicted by the whole. UserError where there is one source alone."""
    if len(left) < 2:
        raise UserError("--cross needs points of at least 2 sources, to fit one's constants without the other")
    trees = {one.fold: _without(one.tree, [other for other in left if other is not one]) for one in left}
    rest = _without(whole, left)

    def serving(fold: str) -> tuple[Predictor]:
        return (partial(serving_rows.predict, table=trees.get(fold, rest)),)

    return each_left_out(rows, fold_of, serving)


def _without(tree: Tree, others: Sequence[LeftOut]) -> Tree:
    """The tree with the intervals of a source that it does not know, not even by its other models."""
    return {key: replace(entry, sources=()) for key, entry in with_elsewhere(tree, others).items()}
