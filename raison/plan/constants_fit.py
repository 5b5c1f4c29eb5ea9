"""Constants of one group of points: Gauss-Newton on logarithms, robust, with a prior.

Errors are ln(measured / predicted) over what a measurement is trusted to; Huber's weights hold outliers, a Gaussian
prior holds what few points do not tell. Not covered: which points share constants (fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from raison.plan.points import Point
from raison.plan.setup import Constants

NAMES = tuple(field.name for field in fields(Constants))
SPREADS = {"memory": 0.15, "decode": 0.3, "prefill": 0.4, "layer_us": 0.8, "hop_us": 0.6, "link": 0.4,
           "first_ms": 1.0, "queue": 0.5, "spread": 0.06, "narrow": 0.3,
           "host_us": 0.8}  # fmt: skip
"""How far a class may lie from its prior: standard deviations of logarithms."""
MOST = {"memory": 1.0, "decode": 0.95, "prefill": 0.95, "link": 1.0, "spread": 1.05, "narrow": 1.0}
"""What physics allows; a fit that wants more has met what the formula leaves out."""
NOISE = {"tpot": 0.2, "ttft": 0.5, "rate": 0.25, "frontier": 0.5}
"""What a measurement is trusted to, as a share."""
HUBER, STEPS = 1.5, 7
"""Errors beyond so many of their standard deviations weigh less in proportion; steps of Gauss-Newton, after which the
constants hardly move."""


def solve(points: Sequence[Point], start: Constants, width: float) -> Constants:
    """The constants that fit best, near `start`: STEPS of Gauss-Newton, derivatives by differences. `width` scales how
    far they may lie from it."""
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
