"""A cell's rows into its figures: what was asked, what came, how fast, how well, for how much, and what to doubt.

Latencies and speeds are over whole answers; failures are counted by name beside them and count against goodput and
accuracy. Not covered: the arithmetic of single figures (figures.py, money.py, server_side.py).
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raison.bench.endpoint import server_side
from raison.bench.endpoint.figures import distributions, meets, token_gaps
from raison.bench.endpoint.load import Load
from raison.bench.endpoint.money import bill
from raison.bench.endpoint.records import STOPPED, Measured
from raison.bench.endpoint.watch import ClientLoad
from raison.serve.prices import Price
from raison.think.measure import Estimate, wilson

FEW = 20
"""Whole answers below which the ends of a distribution say little."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One input under one load, measured."""

    input: str
    load: Load
    rows: tuple[Measured, ...]
    seconds: float
    """From the first request sent to the last byte of the last answer."""
    client: ClientLoad
    before: Mapping[str, float]
    after: Mapping[str, float]
    """The server's own counters."""
    unique: bool
    """Whether no two prompts are alike."""


def summarise(cell: Cell, limits: Mapping[str, float], price: Price | None) -> dict[str, Any]:
    """The cell as plain JSON values; docs/bench-endpoint.md says what each is."""
    rows = [row for row in cell.rows if row.outcome != STOPPED]
    checks = server_side.checks(cell.before, cell.after, rows)
    accuracy = _accuracy(rows)
    load, seconds = cell.load, cell.seconds
    return {
        "input": cell.input, "load": load.name, "parallel": load.parallel or None, "rate": load.rate or None,
        "requests": len(rows), "whole": sum(row.whole for row in rows), "stopped": len(cell.rows) - len(rows),
        "failed": _failures(rows), "seconds": seconds,
        "metrics": distributions(rows), "token_gap": token_gaps(rows), "throughput": _throughput(rows, seconds),
        "usage": _usage(rows), "goodput": _goodput(rows, limits, seconds),
        "accuracy": None if accuracy is None else asdict(accuracy),
        "cost": None if price is None else bill(rows, price, accuracy),
        "tokens_per_correct": _tokens_per_correct(rows, accuracy),
        "server": server_side.as_json(checks), "client": {**asdict(cell.client), "send_late_max": _latest(rows)},
        "warnings": [*cell.client.warnings(), *server_side.disagreements(checks, rows, cell.unique), *_doubts(rows)],
    }  # fmt: skip


def _failures(rows: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """How many of each kind, and what the server said at the first."""
    kinds = Tally(row.outcome for row in rows if not row.whole)
    said = {row.outcome: row.detail for row in reversed(rows)}
    return {kind: {"count": count, "first": said[kind]} for kind, count in kinds.most_common()}


def _throughput(rows: Sequence[Measured], seconds: float) -> dict[str, float | None]:
    """Of the server as a whole, its ramp and its end included; in its own tokens where each answer has a usage."""
    told = [row.served.completion_tokens for row in rows if row.whole]
    served = [count for count in told if count is not None]
    return {
        "requests_per_second": len(told) / seconds,
        "output_tokens_per_second": sum(row.tokens for row in rows if row.whole) / seconds,
        "served_tokens_per_second": sum(served) / seconds if told and len(served) == len(told) else None,
    }


def _usage(rows: Sequence[Measured]) -> dict[str, Any]:
    """The server's counts beside ours: how many answers have one, and its tokens to each of the common tokenizer."""
    told = [row for row in rows if row.whole and row.served.completion_tokens is not None]
    ours, theirs = sum(row.tokens for row in told), sum(row.served.completion_tokens or 0 for row in told)
    return {
        "answers": len(told), "completion_tokens": theirs, "tokens_of_common": theirs / ours if ours else None,
        "prompt_tokens": sum(row.served.prompt_tokens or 0 for row in told),
        "cached_tokens": sum(row.served.cached_tokens or 0 for row in told),
        "reasoning_tokens": sum(row.served.reasoning_tokens or 0 for row in told),
    }  # fmt: skip


def _goodput(rows: Sequence[Measured], limits: Mapping[str, float], seconds: float) -> dict[str, Any] | None:
    if not limits or not rows:
        return None
    good = sum(meets(row, limits) for row in rows)
    return {"limits": dict(limits), "share": asdict(wilson(good, len(rows))), "requests_per_second": good / seconds}


def _accuracy(rows: Sequence[Measured]) -> Estimate | None:
    """Over all requests with a checkable answer: one that failed is not correct."""
    checked = [row for row in rows if row.correct is not None]
    return wilson(sum(bool(row.correct) for row in checked), len(checked)) if checked else None


def _tokens_per_correct(rows: Sequence[Measured], accuracy: Estimate | None) -> float | None:
    right = sum(bool(row.correct) for row in rows)
    return None if accuracy is None or not right else sum(row.tokens for row in rows) / right


def _latest(rows: Sequence[Measured]) -> float:
    return max((row.late for row in rows), default=0.0)


def _doubts(rows: Sequence[Measured]) -> list[str]:
    whole = [row for row in rows if row.whole]
    failed, said = len(rows) - len(whole), []
    if failed:
        said.append(f"{failed} of {len(rows)} requests failed: speeds and latencies are of the others alone")
    if 0 < len(whole) < FEW:
        said.append(f"only {len(whole)} whole answers: P5 and P95 say little")
    thinking = sum(not row.answer_tokens for row in whole)
    if thinking:
        said.append(f"{thinking} answers ended before their thinking did: raise --output")
    single = sum(row.output_speed is None for row in whole)
    if single:
        said.append(f"{single} answers came at one moment and have no output speed")
    return said
