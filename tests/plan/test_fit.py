"""The fit finds constants that a planner's own figures were made with, and the shipped file is whole."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import exp

import pytest

from raison.cli import main
from raison.plan.calibration import calibrations, choose, keys_of
from raison.plan.constants_fit import solve
from raison.plan.cross import cross
from raison.plan.fit import PRIOR, LeftOut, fit, grow, leave_each_out, with_elsewhere
from raison.plan.points import Point, fold_of, points_of
from raison.plan.rows import Row, row_of
from raison.plan.serving_rows import predict, value_of
from raison.plan.setup import Constants
from raison.plan.silicon import SOURCE
from raison.plan.validate import validate

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
    near = replace(PRIOR, layer_us=60.0)
    points = points_of([*_rows("one", "vllm", fast), *_rows("two", "sglang", slow), *_rows("three", "vllm", near)])
    tree = fit(points, lambda _: None)
    vllm, sglang = (tree[("gpu", engine)].constants.layer_us for engine in ("vllm", "sglang"))
    assert vllm < 70 < sglang
    root = tree[("gpu",)]
    assert (
        root.sources == ("one", "three", "two") and root.points == len(points) and root.dates == ("2026-01", "2026-01")
    )
    assert root.elsewhere["tpot"] > tree[("gpu", "sglang")].within["tpot"], "a source left out is predicted worse"


def test_models_of_one_campaign_are_left_out_by_whatever_name() -> None:
    rows = [replace(row, source=f"{SOURCE}", model=name) for row in _rows("lab", "vllm", PRIOR)[:1]
            for name in ("deepseek-ai/DeepSeek-R1", "DeepSeek-V3", "Llama-3.1-70B")]  # fmt: skip
    assert len({fold_of(row) for row in rows}) == 2


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


def test_a_source_is_held_against_constants_that_do_not_know_it() -> None:
    fast, slow = replace(PRIOR, layer_us=40.0), replace(PRIOR, layer_us=500.0)
    rows = [*_rows("one", "vllm", fast), *_rows("two", "vllm", fast), *_rows("odd", "vllm", slow)]
    points = points_of(rows)
    whole = grow(points, {}, "", lambda _: None)
    left = leave_each_out(points, whole, lambda _: None)
    assert all(one.fold not in entry.sources for one in left for entry in one.tree.values())
    alone = cross(rows, whole, left).by(lambda outcome: outcome.row.origin)["odd"]
    known = validate(rows, (partial(predict, table=whole),)).by(lambda outcome: outcome.row.origin)["odd"]
    assert alone.median_error > known.median_error and alone.interval_coverage < known.interval_coverage


def test_the_table_of_a_left_out_source_has_nothing_of_it() -> None:
    points = points_of([*_rows("one", "vllm", PRIOR), *_rows("two", "vllm", PRIOR)])
    whole = grow(points, {}, "", lambda _: None)
    left = leave_each_out(points, whole, lambda _: None)
    wild = replace(left[1], errors=dict.fromkeys(left[1].errors, (9.0,) * 20))
    assert with_elsewhere(whole, [left[0]])["gpu",].elsewhere["tpot"] < 1.5
    assert with_elsewhere(whole, [left[0], wild])["gpu",].elsewhere["tpot"] > 1.5


def test_what_tpot_was_off_by_counts_for_throughput_but_not_the_other_way() -> None:
    tree = {("gpu",): replace(calibrations()["gpu",], within={})}
    left = [LeftOut("a", {}, {("gpu", "rate"): (1.0,)}), LeftOut("b", {}, {("gpu", "tpot"): (0.3,) * 36})]
    found = with_elsewhere(tree, left)["gpu",]
    assert found.elsewhere["rate"] == pytest.approx(exp(0.3), rel=1e-3), "1 of 9 is no fifth of the weight"
    assert found.elsewhere["tpot"] == pytest.approx(exp(0.3), rel=1e-3)
    assert found.missed["rate"] == pytest.approx(1 - exp(-1), rel=1e-3), "its own errors alone"


def test_cross_needs_two_sources(tmp_path, capsys) -> None:
    header = "id,model,precision,hardware,chips,workload,metric,value,unit,source"
    line = "a,Llama-3.1-8B,bf16,H100,1,vllm ISL/OSL 512/512 conc {0},tpot_ms,{0},ms,me"
    path = tmp_path / "points.csv"
    path.write_text("\n".join([header, *(line.format(streams) for streams in (8, 16, 32))]))
    assert main(["plan", "fit", str(path), "--cross"]) == 2
    assert "2 sources" in capsys.readouterr().err
