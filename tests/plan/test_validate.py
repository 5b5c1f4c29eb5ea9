"""Validation: coverage and errors as counted by hand, robustness, and what must be shown on the published figures."""

import csv
import json
from math import isfinite

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raison.cli import main
from raison.errors import UserError
from raison.plan import serving_rows, training_rows
from raison.plan.interval import Interval
from raison.plan.rows import COLUMNS, PUBLISHED, Prediction, read_rows, row_of
from raison.plan.validate import as_json, groups_of, hold_out, row_json, validate

BOTH = (training_rows.predict, serving_rows.predict)


def predictor(row):
    """Doubles for `twice`, refuses `lacking`, breaks on `broken`, does not know the rest."""
    if row.metric == "lacking":
        raise UserError("the row lacks everything")
    if row.metric == "broken":
        raise ZeroDivisionError("oops")
    return Prediction(Interval.within(row.value * 1.5, 2.0), "some group") if row.metric == "twice" else None


def rows_of(*pairs):
    return [row_of({"id": str(index), "metric": metric, "value": value}) for index, (metric, value) in enumerate(pairs)]


def test_coverage_and_errors_are_what_a_hand_counts():
    rows = rows_of(("twice", "2"), ("twice", "4"), ("lacking", "1"), ("unknown", "1"), ("twice", ""), ("broken", "3"))
    report = validate(rows, (predictor,))
    whole = report.whole
    assert (whole.n, whole.covered) == (4, 2)
    assert whole.median_error == pytest.approx(0.5) and whole.p90_error == pytest.approx(0.5)
    assert whole.interval_coverage == 1.0
    reasons = [outcome.reason for outcome in report.outcomes]
    assert reasons[2] == "the row lacks everything" and "unknown" in reasons[3] and "ZeroDivisionError" in reasons[5]
    assert [outcome.scope for outcome in report.outcomes] == [True, True, True, False, False, True]


def test_the_percentiles_are_numpys():
    rows = rows_of(*(("twice", str(value)) for value in range(1, 30)))
    shifted = validate(rows, (lambda row: Prediction(Interval.exact(row.value + 1), "g"),))
    errors = [1 / row.value for row in rows]
    assert shifted.whole.median_error == pytest.approx(float(np.quantile(errors, 0.5)))
    assert shifted.whole.p90_error == pytest.approx(float(np.quantile(errors, 0.9)))
    assert shifted.whole.interval_coverage == 0.0


def test_rows_without_a_prediction_count_in_the_group_of_their_metric():
    def picky(row):
        if row.value > 2:
            raise UserError("too large")
        return Prediction(Interval.exact(row.value), "small things")

    report = validate(rows_of(("size", "1"), ("size", "2"), ("size", "3")), (picky,))
    found = as_json(report)["groups"]["small things"]
    assert (found["n"], found["covered"]) == (3, 2)
    assert set(report.by(groups_of(report))) == {"small things"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=24)), st.sampled_from(read_rows(PUBLISHED)[::9]))
def test_no_row_crashes_and_no_figure_is_broken(noise, row):
    values = {name: getattr(row, {"workload": "text"}.get(name, name)) for name in COLUMNS}
    mixed = row_of({**{name: "" if value is None else str(value) for name, value in values.items()}, **noise})
    outcome = validate([mixed], BOTH).outcomes[0]
    assert not outcome.reason.startswith("the planner failed"), outcome.reason
    if outcome.prediction:
        assert isfinite(outcome.prediction.value.mid) and outcome.prediction.value.mid > 0
    json.dumps(row_json(outcome))


def test_published_training_hours_are_covered_and_close():
    report = validate(read_rows(PUBLISHED), (training_rows.predict,))
    hours = as_json(report)["groups"]["training hours"]
    assert hours["covered"] / hours["n"] >= 0.85
    assert hours["median_error"] <= 0.20


def test_training_hours_of_sources_that_were_left_out_are_close_too():
    groups = as_json(hold_out(read_rows(PUBLISHED), ()))["groups"]
    hours, speed, memory = (groups[name] for name in ("training hours", "training throughput", "memory"))
    assert hours["covered"] / hours["n"] >= 0.85 and hours["median_error"] <= 0.20
    assert speed["median_error"] <= 0.20 and memory["median_error"] <= 0.05
    held = [groups[name]["interval_coverage"] * groups[name]["covered"] for name in groups if groups[name]["covered"]]
    covered = sum(group["covered"] for group in groups.values())
    assert 0.70 <= sum(held) / covered <= 0.95


def test_holding_out_changes_the_predictions_of_that_source():
    rows = [row for row in read_rows(PUBLISHED) if training_rows.observe(row)]
    kept = {outcome.row.id: outcome.prediction for outcome in validate(rows, (training_rows.predict,)).outcomes}
    left = {outcome.row.id: outcome.prediction for outcome in hold_out(rows, ()).outcomes}
    assert sum(kept[name].value.mid != left[name].value.mid for name in kept) > 0.9 * len(kept)


def test_the_command_prints_one_object(tmp_path, capsys):
    path = tmp_path / "figures.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow({"id": "a", "model": "Llama-2-70B", "metric": "gpu_hours", "value": "1720320",
                         "unit": "A100-h", "workload": "pretrain 2e12 tokens"})  # fmt: skip
        writer.writerow({"id": "b", "metric": "pass@1", "value": "50"})
    assert main(["plan", "validate", str(path), "--json", "--rows"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["coverage"] == 1.0 and told["rows"] == 2 and told["out_of_scope"] == 1
    assert {"n", "covered", "median_error", "p90_error", "interval_coverage"} <= set(told["groups"]["training hours"])
    assert told["outcomes"][1]["reason"].endswith("pass@1")
    assert main(["plan", "validate", str(path), "--rows"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("coverage") and "pass@1" in text


def test_a_missing_file_is_one_line(capsys):
    assert main(["plan", "validate", "no/such.csv"]) == 2
    assert capsys.readouterr().err.startswith("raison: no/such.csv cannot be read")
