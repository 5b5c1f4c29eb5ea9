"""The fit finds constants that a planner's own figures were made with, and the shipped file is whole."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest

from raison.plan.calibration import calibrations, choose, keys_of
from raison.plan.fit import PRIOR, Point, fit, points_of, solve
from raison.plan.roofline import Constants
from raison.plan.rows import Row, row_of
from raison.plan.serving_rows import value_of

TRUTH = replace(PRIOR, memory=0.9, layer_us=90.0, prefill=0.4, first_ms=120.0, queue=0.2)


def _rows(origin: str, engine: str, constants: Constants) -> list[Row]:
    """What a machine with these constants would have been measured at."""
    rows = []
    for metric in ("tpot_ms", "ttft_ms"):
        for streams in (1, 4, 16, 64):
            for lengths in ("1024/1024", "4096/512"):
                row = row_of({
                    "id": f"{origin}-{engine}-{metric}-{streams}-{lengths}", "model": "Llama-3.1-70B",
                    "hardware": "H100", "chips": "4", "precision": "fp8",
                    "workload": f"{engine} ISL/OSL {lengths} conc {streams} TP4", "metric": metric,
                    "value": "1", "unit": "ms", "source": origin, "date": "2026-01",
                })  # fmt: skip
                (point,) = points_of([row])
                rows.append(replace(row, value=value_of(point.case, point.asked, constants, row)))
    return rows


def _worst(points: list[Point], constants: Constants) -> float:
    return max(abs(exp(point.error(constants)) - 1) for point in points)


def test_constants_are_found_again() -> None:
    points = points_of(_rows("lab", "vllm", TRUTH))
    assert _worst(points, PRIOR) > 0.3
    assert _worst(points, solve(points, PRIOR, 3.0)) < 0.05


def test_few_points_stay_near_their_prior() -> None:
    points = points_of(_rows("lab", "vllm", TRUTH))[:1]
    near, free = solve(points, PRIOR, 0.01), solve(points, PRIOR, 3.0)
    assert abs(near.layer_us / PRIOR.layer_us - 1) < 0.01 < abs(free.layer_us / PRIOR.layer_us - 1)


def test_the_tree_keeps_engines_apart_and_says_how_far_off_a_stranger_is() -> None:
    fast, slow = replace(PRIOR, layer_us=40.0), replace(PRIOR, layer_us=160.0)
    points = points_of([*_rows("one", "vllm", fast), *_rows("two", "sglang", slow)])
    tree = fit(points, lambda _: None)
    vllm, sglang = (tree[("gpu", engine)].constants.layer_us for engine in ("vllm", "sglang"))
    assert vllm < 70 < sglang
    root = tree[("gpu",)]
    assert root.sources == ("one", "two") and root.points == len(points) and root.dates == ("2026-01", "2026-01")
    assert root.elsewhere["tpot"] > tree[("gpu", "vllm")].within["tpot"], "a source left out is predicted worse"


def test_claims_money_and_waiting_streams_are_not_fitted_to() -> None:
    (row, *_) = _rows("lab", "vllm", TRUTH)
    assert not points_of([replace(row, confidence="low")])
    assert not points_of([replace(row, metric="cost_per_Mtok_out")])
    waiting = replace(row, metric="ttft_ms", text="vllm ISL/OSL 8k/1k conc 4000 TP4")
    assert not points_of([waiting])


def test_shipped_calibrations_have_provenance_and_bounds() -> None:
    table = calibrations()
    assert {("gpu",), ("cpu",), ("apple",), ("consumer",), ("rdu",), ("sram",), ("this",)} <= set(table)
    for entry in table.values():
        assert entry.points > 0 and entry.sources and entry.within, entry.name
        c = entry.constants
        assert 0 < c.memory <= 1 and 0 < c.decode <= 1 and 0 < c.prefill <= 1, entry.name
        for metric, factor in entry.elsewhere.items():
            assert factor >= entry.within.get(metric, 1.0) >= 1 or metric not in entry.within


def test_a_case_takes_the_deepest_node() -> None:
    (point, *_) = points_of(_rows("lab", "vllm", TRUTH))
    assert keys_of(point.case)[0] == ("H100 SXM", "vllm", "dense")
    assert choose(point.case).key == ("H100 SXM", "vllm", "dense")
    assert choose(replace(point.case, engine="nobody's")).key == ("gpu", "dense")


@pytest.mark.parametrize("name", ["memory", "decode", "prefill", "link"])
def test_a_share_of_a_peak_is_never_above_one(name: str) -> None:
    points = points_of(_rows("lab", "vllm", replace(TRUTH, memory=3.0, decode=3.0, prefill=3.0, link=5.0)))
    assert getattr(solve(points, PRIOR, 3.0), name) <= 1
