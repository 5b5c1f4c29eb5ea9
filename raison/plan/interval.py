"""Interval: a figure with the range that holds it four times in five.

Errors of a planner are ratios (twice too fast is as wrong as twice too slow), so a spread is a factor, and independent
factors add in squares of their logarithms. Every interval of the planner is a stated 80 % interval; `raison plan
validate` counts how many measurements lie inside. Not covered: correlation between factors (they count as
independent), distributions with other tails than a log-normal's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, isfinite, log, sqrt
from statistics import median

Z80 = 1.2815515594457822
"""Standard deviations on each side that hold 80 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`mid` is the prediction, `low` and `high` hold the truth in 80 % of the cases. All above 0, in one unit."""

    low: float
    mid: float
    high: float

    def __post_init__(self) -> None:
        if not (0 < self.low <= self.mid <= self.high and isfinite(self.high)):
            raise ValueError(f"an interval rises from above 0: {self.low}, {self.mid}, {self.high}")

    @classmethod
    def exact(cls, value: float) -> Interval:
        """A figure that is known, such as a count of parameters."""
        return cls(value, value, value)

    @classmethod
    def within(cls, value: float, factor: float) -> Interval:
        """From `value / factor` to `value x factor`; `factor` of at least 1 is the stated 80 %."""
        return cls(value / factor, value, value * factor)

    def __mul__(self, other: Interval | float) -> Interval:
        """The product of independent figures."""
        return self._joined(_interval(other), self.mid * _interval(other).mid)

    __rmul__ = __mul__

    def __truediv__(self, other: Interval | float) -> Interval:
        divisor = _interval(other)
        return self * Interval(1 / divisor.high, 1 / divisor.mid, 1 / divisor.low)

    def __rtruediv__(self, other: float) -> Interval:
        return Interval.exact(other) / self

    def __add__(self, other: Interval | float) -> Interval:
        """The sum of independent figures: their distances from the middle add in squares."""
        term = _interval(other)
        mid = self.mid + term.mid
        below = hypot(self.mid - self.low, term.mid - term.low)
        above = hypot(self.high - self.mid, term.high - term.mid)
        return Interval(mid - below, mid, mid + above)

    __radd__ = __add__

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def _joined(self, other: Interval, mid: float) -> Interval:
        below = hypot(log(self.mid / self.low), log(other.mid / other.low))
        above = hypot(log(self.high / self.mid), log(other.high / other.mid))
        return Interval(mid * exp(-below), mid, mid * exp(above))


def relative_error(predicted: float, measured: float) -> float:
    """|predicted - measured| / measured, as the field states errors; `measured` is not 0."""
    return abs(predicted - measured) / abs(measured)


def factor_of(logs: Sequence[float], *, least: float = 1.0) -> float:
    """The factor that holds 80 % of errors like these, which are ln(measured / predicted).

    Robust: from the median absolute error, which for a normal distribution is 0.6745 standard deviations, widened by
    sqrt(1 + 1/n) for the middle that was fitted on the same n points. `least` is what no fit may promise to beat.
    """
    if not logs:
        return least
    sigma = median(abs(value) for value in logs) / 0.6744897501960817
    return max(least, exp(Z80 * sigma * sqrt(1 + 1 / len(logs))))


def quantile(weighed: Sequence[tuple[float, float]], share: float) -> float:
    """The least value that `share` of the weight does not lie above; pairs of (value, weight), at least one."""
    order = sorted(weighed)
    left = share * sum(weight for _, weight in order)
    for value, weight in order:
        left -= weight
        if left < 0:
            return value
    return order[-1][0]


def _interval(value: Interval | float) -> Interval:
    return value if isinstance(value, Interval) else Interval.exact(float(value))
