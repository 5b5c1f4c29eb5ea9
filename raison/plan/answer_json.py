"""An answer to a serving question in plain values, as --json and the page's API have it.

Not covered: what the answer is (answer.py), how a terminal shows it (cli/plan_serve.py).
"""

from __future__ import annotations

from math import inf
from typing import Any

from raison.plan.answer import Answer, Speeds
from raison.plan.interval import Interval
from raison.plan.search import Choice


def as_dict(found: Answer) -> dict[str, Any]:
    """Everything in plain values; speeds are None where there are none."""
    case, speeds = found.case, found.speeds
    return {
        "verdict": found.verdict, "why": found.why, "model": case.shape.name, "parameters": case.shape.total,
        "parameters_active": case.shape.active, "cache_bytes_per_token": case.shape.cache_numbers * case.width.cache,
        "chip": case.chip.name, "precision": case.width.name, "engine": case.engine, "input": case.load.isl,
        "output": case.load.osl, "layouts_searched": found.searched,
        **({"layout": case.layout.words, "chips": found.choice.figures.chips * found.instances,
            "streams": case.load.streams * found.instances} if found.choice else {}),
        **(_speeds_dict(speeds) if speeds else {}),
        **({"step_ms": _step_dict(found.choice), "bound_by": found.choice.figures.speed.step.bound,
            "memory_gb_per_chip": memory_dict(found.choice)} if found.choice else {}),
        "calibration": {"name": found.calibration.name, "points": found.calibration.points,
                        "sources": list(found.calibration.sources), "dates": list(found.calibration.dates)},
        "assumptions": list(found.assumptions),
    }  # fmt: skip


def _speeds_dict(speeds: Speeds) -> dict[str, Any]:
    money = speeds.money
    return {
        "tokens_per_second_user": interval_dict(speeds.user), "tokens_per_second_chip": interval_dict(speeds.chip),
        "tokens_per_second_rack": interval_dict(speeds.rack), "chips_of_a_rack": speeds.rack_chips,
        "tokens_per_second": interval_dict(speeds.all), "ttft_ms": interval_dict(speeds.ttft * 1e3),
        "request_seconds": interval_dict(speeds.request),
        "usd_per_million_output": interval_dict(money.output) if money else None,
        "usd_per_million_total": interval_dict(money.total) if money else None,
        "usd_per_chip_hour": money.usd_per_hour if money else None,
    }  # fmt: skip


def interval_dict(value: Interval) -> dict[str, float]:
    return {"low": value.low, "mid": value.mid, "high": value.high}


def _step_dict(choice: Choice) -> dict[str, float]:
    step = choice.figures.speed.step
    return {name: getattr(step, name) * 1e3 for name in step.__slots__}


def memory_dict(choice: Choice) -> dict[str, float | None]:
    """1e9 bytes of one chip: weights, cache of the streams, what is left, what there is."""
    memory = choice.figures.memory
    cache = memory.cache_a_sequence * choice.figures.speed.batch
    has = None if memory.total == inf else memory.total / 1e9
    return {"weights": memory.weights / 1e9, "cache": cache / 1e9,
            "left": None if has is None else (memory.free - cache) / 1e9, "total": has}  # fmt: skip
