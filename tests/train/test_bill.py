"""The bill: against DeepSeek's own published sums, and by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from raison.config import BillSection
from raison.errors import UserError
from raison.model.cost import training_flops
from raison.model.spec import R1_671B
from raison.train import bill as bills

PRICE = BillSection(watts=60.0, usd_per_kwh=0.15, usd_per_hour=0.0)


def line(stage: str, seconds: float, accuracy: float | None) -> bills.StageBill:
    return bills.stage_bill(stage, 1e6, 1e14, seconds, PRICE, accuracy)


STAGES = (line("pretrain", 360, 0.03), line("cold start", 840, 0.62), line("GRPO", 1530, 0.93), line("distil", 60, 0.5))


def test_charge() -> None:
    assert bills.charge(3600, watts=500, usd_per_kwh=0.2) == bills.Charge(kwh=0.5, usd=0.1)
    assert bills.charge(1800, watts=0, usd_per_kwh=9, usd_per_hour=2).usd == 1.0


def test_deepseek_v3_pretraining_is_billed_as_published() -> None:
    """14.8T tokens in 2,664K H800 hours at $2 (V3 report, Table 1), as hours of one GPU: $5.328M."""
    per_token = training_flops(R1_671B, 4096)
    work = bills.work_from_rate(14.8e12, per_token, 14.8e12 / (2664e3 * 3600))
    predicted = bills.predict("pre-training", [work], BillSection(watts=700, usd_per_kwh=0, usd_per_hour=2.0))
    assert predicted.usd == pytest.approx(5.328e6)
    assert predicted.flops == pytest.approx(14.8e12 * 250.46e9, rel=1e-4)
    assert predicted.kwh == pytest.approx(2664e3 * 0.7)


def test_kinds_of_work_add_up_each_at_its_own_speed() -> None:
    sampling = bills.work_from_rate(1000, flops_per_token=2e6, tokens_per_second=500)
    training = bills.work_from_peak(1000, flops_per_token=6e6, peak_flops=2e9, efficiency=0.5)
    stage = bills.predict("grpo", [sampling, training], PRICE)
    assert (stage.tokens, stage.flops, stage.seconds) == (2000, 8e9, 2 + 6)


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="never ends"):
        bills.work_from_rate(1000, 2e6, rate)


def test_points_are_hundredths_gained_over_the_last_evaluated_stage() -> None:
    unmeasured = replace(STAGES[1], stage="between", accuracy=None)
    control = replace(STAGES[2], stage="control", accuracy=0.0)
    starts = {"between": "pretrain", "cold start": "between", "GRPO": "cold start", "control": "cold start"}
    priced = bills.with_points((STAGES[0], unmeasured, *STAGES[1:], control), starts)
    costs = {stage.stage: stage.usd_per_point for stage in priced}
    assert costs["pretrain"] is costs["between"] is costs["distil"] is costs["control"] is None
    assert costs["cold start"] == pytest.approx(STAGES[1].usd / 59)
    assert costs["GRPO"] == pytest.approx(STAGES[2].usd / 31)


def test_ratios_compare_only_what_ran() -> None:
    predicted = tuple(replace(stage, seconds=2 * stage.seconds) for stage in STAGES)
    ratio = bills.ratios(bills.Bill(predicted, STAGES[:2]))
    assert ratio == {"tokens": 1.0, "flops": 1.0, "seconds": 2.0}
    assert bills.ratios(bills.Bill(predicted, ())) is None


def test_table_and_json_say_the_same() -> None:
    bill = bills.Bill(predicted=STAGES, actual=bills.with_points(STAGES, {"cold start": "pretrain"}))
    out = io.StringIO()
    Console(file=out, width=120).print(bills.table(bill))
    rows = {row[:18].strip(): row[18:].split() for row in out.getvalue().splitlines()}
    assert rows["cold start"] == ["1.0", "M", "1.0e+14", "840", "0.014", "0.002", "0.62", "3.6e-05"]
    assert rows["total"][:4] == ["4.0", "M", "4.0e+14", "2,790"]
    assert rows["predicted / actual"] == ["1.00", "1.00", "1.00"]
    plain = json.loads(json.dumps(bill.to_json()))
    assert plain["actual_total"]["seconds"] == 2790
    assert plain["actual"][1]["usd_per_point"] == pytest.approx(3.6e-5, rel=0.05)


def test_before_the_run_the_table_is_the_prediction() -> None:
    bill = bills.Bill(predicted=STAGES, actual=())
    assert bills.table(bill).row_count == len(STAGES) + 1
    assert bills.sentence(STAGES) == "46 min · 4.0e+14 FLOPs · 0.046 kWh · $0.007"


def test_short_count() -> None:
    assert [bills.short_count(n) for n in (0, 999, 1000, 3.6e6, 14.8e12)] == ["0", "999", "1.0 k", "3.6 M", "14.8 T"]
