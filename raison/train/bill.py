"""The bill of a run: tokens, FLOPs, seconds, energy and money of each stage, predicted before it and charged after it.

Energy is seconds times a stated wattage: nothing is metered. A point is one hundredth of accuracy, gained over the
nearest earlier stage that was evaluated. Not covered: FLOPs per token (model/cost.py), the machine's rates
(hardware.py). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table

from raison.config.sections import BillSection
from raison.errors import UserError


@dataclass(frozen=True, slots=True)
class Charge:
    """What some seconds cost."""

    kwh: float
    usd: float


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of computing in a stage, with its own speed: training, sampling, a reference's forward passes ..."""

    tokens: float
    flops_per_token: float
    flops_per_second: float
    """Of this kind on this machine: a measured rate, or a peak times an efficiency."""

    @property
    def flops(self) -> float:
        return self.tokens * self.flops_per_token

    @property
    def seconds(self) -> float:
        return self.flops / self.flops_per_second


@dataclass(frozen=True, slots=True)
class StageBill:
    """One stage's line."""

    stage: str
    tokens: float
    """Through the model: a token that is sampled and then trained on counts twice."""
    flops: float
    seconds: float
    kwh: float
    usd: float
    accuracy: float | None = None
    """pass@1 after the stage, 0 to 1; None where it was not evaluated."""
    usd_per_point: float | None = None
    """Money for each hundredth of accuracy gained; None where none was gained, or nothing came before."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A run's stages as predicted before it started and as they were; either may be empty, or shorter."""

    predicted: tuple[StageBill, ...]
    actual: tuple[StageBill, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with totals and the ratios predicted / actual over the stages that both have."""
        return {
            "predicted": [asdict(stage) for stage in self.predicted],
            "actual": [asdict(stage) for stage in self.actual],
            "predicted_total": asdict(total(self.predicted)),
            "actual_total": asdict(total(self.actual)),
            "predicted_over_actual": ratios(self),
        }


def work_from_rate(tokens: float, flops_per_token: float, tokens_per_second: float) -> Work:
    """Work whose speed was measured in tokens/s. Raises UserError when that is not above 0."""
    return work_from_peak(tokens, flops_per_token, tokens_per_second * flops_per_token, 1.0)


def work_from_peak(tokens: float, flops_per_token: float, peak_flops: float, efficiency: float) -> Work:
    """Work at a share (`efficiency`, 0 to 1) of a peak in FLOP/s. Raises UserError when the rate is not above 0."""
    if peak_flops * efficiency <= 0:
        raise UserError(f"a rate of {peak_flops:g} FLOP/s at efficiency {efficiency:g} never ends; give one above 0")
    return Work(tokens, flops_per_token, peak_flops * efficiency)


def charge(seconds: float, watts: float, usd_per_kwh: float, usd_per_hour: float = 0.0) -> Charge:
    """Energy at a stated wattage, and its price with the machine's rent."""
    kwh = seconds / 3600 * watts / 1000
    return Charge(kwh, kwh * usd_per_kwh + seconds / 3600 * usd_per_hour)


def predict(stage: str, work: Iterable[Work], price: BillSection) -> StageBill:
    """A stage's line from the computing that it will do, one kind after the other."""
    kinds = tuple(work)
    tokens, flops = sum(kind.tokens for kind in kinds), sum(kind.flops for kind in kinds)
    return stage_bill(stage, tokens, flops, sum(kind.seconds for kind in kinds), price)


def stage_bill(
    stage: str, tokens: float, flops: float, seconds: float, price: BillSection, accuracy: float | None = None
) -> StageBill:
    """A stage's line from what was counted and timed; `with_points` adds the cost per point."""
    cost = charge(seconds, price.watts, price.usd_per_kwh, price.usd_per_hour)
    return StageBill(stage, tokens, flops, seconds, cost.kwh, cost.usd, accuracy)


def with_points(stages: Sequence[StageBill], start_of: Mapping[str, str]) -> tuple[StageBill, ...]:
    """The same lines in the same order with `usd_per_point` filled in.

    `start_of` names the stage whose weights each stage began with. Points are counted from there, or from the nearest
    stage before it that was measured: a control, or another branch, is no starting point.
    """
    accuracy = {stage.stage: stage.accuracy for stage in stages}
    priced = []
    for stage in stages:
        before = _measured_before(stage.stage, start_of, accuracy)
        points = None if before is None or stage.accuracy is None else 100 * (stage.accuracy - before)
        priced.append(replace(stage, usd_per_point=stage.usd / points if points and points > 0 else None))
    return tuple(priced)


def _measured_before(stage: str, start_of: Mapping[str, str], accuracy: Mapping[str, float | None]) -> float | None:
    start = start_of.get(stage)
    while start is not None and accuracy.get(start) is None:
        start = start_of.get(start)
    return None if start is None else accuracy[start]


def total(stages: Sequence[StageBill], name: str = "total") -> StageBill:
    """The sum of the lines. It has no accuracy: stages branch, and their models differ."""
    return StageBill(
        stage=name,
        tokens=sum(stage.tokens for stage in stages),
        flops=sum(stage.flops for stage in stages),
        seconds=sum(stage.seconds for stage in stages),
        kwh=sum(stage.kwh for stage in stages),
        usd=sum(stage.usd for stage in stages),
    )


def ratios(bill: Bill) -> dict[str, float] | None:
    """predicted / actual of tokens, flops and seconds, over the stages that both have; None where there is none."""
    names = {stage.stage for stage in bill.predicted} & {stage.stage for stage in bill.actual}
    before = total([stage for stage in bill.predicted if stage.stage in names])
    after = total([stage for stage in bill.actual if stage.stage in names])
    if not (after.tokens and after.flops and after.seconds):
        return None
    return {
        "tokens": before.tokens / after.tokens,
        "flops": before.flops / after.flops,
        "seconds": before.seconds / after.seconds,
    }


def sentence(stages: Sequence[StageBill]) -> str:
    """What a run will cost, on one line: `44 min · 6.1e15 FLOPs · 0.05 kWh · $0.04`."""
    whole = total(stages)
    time = f"{whole.seconds / 60:.0f} min" if whole.seconds >= 90 else f"{whole.seconds:.0f} s"
    return f"{time} · {whole.flops:.1e} FLOPs · {whole.kwh:.2g} kWh · ${whole.usd:.2g}"


def table(bill: Bill) -> Table:
    """What was charged, or predicted where nothing ran yet, with the ratio of the two as the last row."""
    stages, title = (bill.actual, "the bill") if bill.actual else (bill.predicted, "predicted")
    view = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    view.add_column(title)
    for column in ("tokens", "FLOPs", "seconds", "kWh", "$", "pass@1", "$ per point"):
        view.add_column(column, justify="right")
    for stage in (*stages, total(stages)):
        view.add_row(*_cells(stage))
    if (ratio := ratios(bill)) is not None:
        view.add_row("predicted / actual", *(f"{value:.2f}" for value in ratio.values()))
    return view


def _cells(stage: StageBill) -> tuple[str, ...]:
    accuracy = "" if stage.accuracy is None else f"{stage.accuracy:.2f}"
    point = "" if stage.usd_per_point is None else f"{stage.usd_per_point:.2g}"
    money = (f"{stage.kwh:.3f}", f"{stage.usd:.3f}", accuracy, point)
    return (stage.stage, short_count(stage.tokens), f"{stage.flops:.1e}", f"{stage.seconds:,.0f}", *money)


def short_count(count: float) -> str:
    """3600000 -> `3.6 M`, 14.8e12 -> `14.8 T`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"
