"""What the planner's API is asked and says: typed, bounded, each figure with its stated 80 % interval.

The shape is one for serving and for training: figures by name, memory by part, a curve of the same figures. Where no
figure can be given, `figures` is null and `words` say why. Not covered: routes (plan.py), the arithmetic (raison.plan).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from raison.plan.interval import Interval
from raison.serve.run_view import Record

MOST_POINTS = 24
"""Of a curve: what bounds the work of a request."""
MOST_TOKENS = 1 << 20
Precision = Literal["bf16", "fp8", "fp4", "int8", "int4"]
Verdict = Literal["feasible", "saturated", "infeasible", "unknown"]


class Asked(BaseModel):
    """What both questions have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(
        max_length=200, description="one of the choices, or parameters as TOTAL/ACTIVE such as 671e9/37e9"
    )
    chip: str = Field(max_length=200, description="one of the choices, or another name of one")
    usd_per_hour: float | None = Field(
        None, gt=0, le=1000, description="of a chip; the catalogue's where none is given"
    )


class ServeAsked(Asked):
    chips: int = Field(8, ge=1, le=4096)
    precision: Precision | None = Field(None, description="of the weights; null = what is usual")
    streams: int = Field(64, ge=1, le=65536, description="users at once")
    input: int = Field(1024, ge=1, le=MOST_TOKENS, description="tokens of a prompt")
    output: int = Field(1024, ge=1, le=MOST_TOKENS, description="tokens of an answer")
    curve: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[], max_length=MOST_POINTS, description="users to give the same figures for, in the same layout"
    )


class TrainAsked(Asked):
    chips: int = Field(2048, ge=1, le=1 << 20)
    precision: Precision = "bf16"
    tokens: float = Field(1e12, ge=1e6, le=1e15)
    sequence: int = Field(4096, ge=128, le=MOST_TOKENS)
    curve: list[Annotated[float, Field(ge=1e6, le=1e15)]] = Field(
        default=[], max_length=MOST_POINTS, description="tokens to give the same figures for"
    )


class Span(Record):
    """`low` and `high` hold the truth in 80 % of the cases."""

    low: float
    mid: float
    high: float


class ServeFigures(Record):
    """Answer tokens/s of a user, a chip and a rack; seconds to the first token; USD for a million answer tokens."""

    user: Span
    chip: Span
    rack: Span
    ttft: Span
    usd: Span | None


class TrainFigures(Record):
    """`utilization` is the share of the dense 16-bit peak."""

    days: Span | None
    chip_hours: Span
    usd: Span | None
    kwh: Span | None
    utilization: Span


class Part(Record):
    """Memory in bytes, or a share of the time."""

    name: str
    value: float


class Memory(Record):
    """Of the fullest chip. `total` is what it has, null where no source says."""

    parts: list[Part]
    total: float | None


class ServePoint(Record):
    at: float
    figures: ServeFigures


class TrainPoint(Record):
    at: float
    figures: TrainFigures


class Planned(Record):
    """What is said of either."""

    model: str
    chip: str
    chips: int
    precision: str
    layout: str
    verdict: Verdict
    words: list[str]
    memory: Memory
    bound: list[Part]
    assumptions: list[str]


class ServePlan(Planned):
    object: Literal["raison.plan.serve"] = "raison.plan.serve"
    figures: ServeFigures | None
    curve: list[ServePoint]


class TrainPlan(Planned):
    object: Literal["raison.plan.train"] = "raison.plan.train"
    figures: TrainFigures | None
    curve: list[TrainPoint]


class ChipChoice(Record):
    name: str
    kind: str
    memory_gb: float | None
    bandwidth_gbps: float | None
    usd_per_hour: float | None
    price_note: str
    source: str


class ModelChoice(Record):
    name: str
    total: float
    active: float
    source: str


class Choices(Record):
    object: Literal["raison.plan.choices"] = "raison.plan.choices"
    chips: list[ChipChoice]
    models: list[ModelChoice]
    precisions: list[str]


def span(interval: Interval) -> Span:
    return Span(low=interval.low, mid=interval.mid, high=interval.high)


def span_or_none(interval: Interval | None) -> Span | None:
    return None if interval is None else span(interval)


def parts(values: Mapping[str, float]) -> list[Part]:
    """Those above 0."""
    return [Part(name=name, value=value) for name, value in values.items() if value > 0]
