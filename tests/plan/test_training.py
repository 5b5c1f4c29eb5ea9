"""Training's arithmetic: exact anchors, monotony, memory against published layouts, bills, infeasible cases."""

import json
from dataclasses import replace

import pytest

from raison.cli import main
from raison.errors import UserError
from raison.model import cost
from raison.model.spec import R1_671B
from raison.plan import energy, export
from raison.plan.chips import find_chip
from raison.plan.distillation import read, written
from raison.plan.models import find_model
from raison.plan.training import TEACHER, bill, work
from raison.plan.training_memory import TrainingLayout, best_layout, idle_share, training_memory
from raison.plan.training_plan import TrainingAsk, plan_training
from raison.plan.utilization import Case, Observation, features, fit, fitted

H100, H800, A100 = find_chip("H100"), find_chip("H800"), find_chip("A100")
R1 = find_model("r1-671b")


def test_flops_of_r1_are_those_of_the_cost_sheet():
    assert work(R1, 4096).flops == pytest.approx(cost.training_flops(R1_671B, 4096), rel=1e-12)
    assert work(R1, 4096).flops / 1e9 == pytest.approx(250, rel=0.002)


def test_frozen_weights_save_a_third_and_full_recomputation_costs_a_third():
    plain = work(R1, 4096).flops
    assert work(R1, 4096, frozen=True).flops == pytest.approx(plain * 2 / 3)
    assert work(R1, 4096, recomputed=True).flops == pytest.approx(plain * 4 / 3)


def test_long_sequences_take_longer_than_their_flops():
    short, long = work(R1, 4096), work(R1, 131072)
    assert long.timed / long.flops > short.timed / short.flops > 1


def test_a_bill_is_hours_times_price_and_power():
    case = Case(H100, "bf16", R1.active, experts=True, whole_run=True, chips=1024)
    found = bill(work(R1, 4096), 1e12, case, fitted(), usd_per_hour=2.0)
    seconds = work(R1, 4096).timed * 1e12 / 989e12 / found.utilization.mid
    assert found.chip_hours.mid == pytest.approx(seconds / 3600)
    assert found.usd is not None and found.usd.mid == pytest.approx(2 * found.chip_hours.mid)
    assert found.days is not None and found.days.mid == pytest.approx(found.chip_hours.mid / 1024 / 24)
    assert found.kwh is not None and found.kwh.mid == pytest.approx(found.chip_hours.mid * 0.7 * 0.93)


def test_v3s_hours_are_inside_the_interval_of_a_law_that_never_saw_them():
    case = Case(H800, "fp8", R1.active, experts=True, whole_run=True, chips=2048)
    assert bill(work(R1, 4096), 14.8e12, case, fitted()).chip_hours.holds(2_664_000)


def test_power_of_a_chip_without_a_source_is_not_made_up():
    assert energy.kilowatts(replace(H100, tdp_w=None, kw_all_in=None)) is None


def test_zero_shares_out_the_state_and_tensor_parallelism_the_rest():
    whole = training_memory(find_model("llama-3.1-8b"), H100, TrainingLayout(), 4096)
    total = find_model("llama-3.1-8b").total
    assert (whole.weights, whole.gradients, whole.optimizer) == pytest.approx((2 * total, 2 * total, 12 * total))
    eight = training_memory(find_model("llama-3.1-8b"), H100, TrainingLayout(dp=8), 4096)
    assert eight.optimizer == pytest.approx(whole.optimizer / 8) and eight.weights == pytest.approx(whole.weights)
    split = training_memory(find_model("llama-3.1-8b"), H100, TrainingLayout(tp=8), 4096)
    assert split.total == pytest.approx(whole.total / 8)


def test_layouts_that_were_run_fit_and_the_half_of_one_does_not():
    assert training_memory(R1, H800, TrainingLayout(pp=16, dp=128, ep=64), 4096).fits  # arXiv:2412.19437, 3.2
    assert training_memory(find_model("llama-3.1-70b"), H100, TrainingLayout(tp=8, dp=32, stage3=True), 8192).fits
    assert not training_memory(R1, H800, TrainingLayout(pp=8, dp=4, ep=4), 4096).fits


def test_the_search_finds_a_layout_that_fits_on_exactly_the_chips_given():
    for name, chips in (("llama-3.1-8b", 8), ("llama-3.1-405b", 2048), ("r1-671b", 1536)):
        layout, memory = best_layout(find_model(name), H100, chips, 8192, 16e6)
        assert layout.chips == chips and memory.fits
        assert 0 <= idle_share(layout, 8192, 16e6) < 0.5


def test_what_does_not_fit_says_how_much_is_missing():
    with pytest.raises(UserError, match=r"cannot be trained on 8 x .*GB at the least.*more chips"):
        best_layout(find_model("llama-3.1-405b"), H100, 8, 8192, 16e6)
    with pytest.raises(UserError, match="does not fit TP1 x PP1 x DP8"):
        plan_training(TrainingAsk(find_model("llama-3.1-70b"), H100, layout=TrainingLayout(dp=8)))


def test_a_plan_without_chips_takes_the_fewest_that_hold_it():
    plan = plan_training(TrainingAsk(find_model("llama-3.1-8b"), H100))
    assert plan.memory.fits and plan.tokens == 15e12
    with pytest.raises(UserError, match="cannot be trained"):
        best_layout(find_model("llama-3.1-8b"), H100, plan.chips // 2, 4096, plan.batch_tokens)


def test_utilisation_is_found_from_what_it_made():
    law, cases = fitted(), [
        Case(chip, precision, size, tuned=tuned, whole_run=whole, chips=chips)
        for chip in (A100, H100) for precision in ("bf16", "fp8") for size in (7e9, 70e9)
        for tuned, whole in ((False, False), (True, False), (False, True)) for chips in (64.0, 2048.0)
    ]  # fmt: skip
    seen = [
        Observation(case, law.predict(case).mid, f"source {index % 7}", "2026-01") for index, case in enumerate(cases)
    ]
    again = fit(seen)
    for case in cases:
        assert again.predict(case).mid == pytest.approx(law.predict(case).mid, rel=0.05)


def test_no_eight_bit_gain_where_the_chip_has_no_eight_bit_products():
    assert features(Case(A100, "fp8", 7e9))["narrow"] == 0
    assert features(Case(H100, "fp8", 7e9))["narrow"] == pytest.approx(1.0, abs=0.01)


def test_chips_that_no_figure_is_from_get_a_wider_interval():
    case = Case(H100, "bf16", 7e9)
    strange = replace(case, chip=replace(H100, kind="cpu"))
    wide, narrow = fitted().predict(strange), fitted().predict(case)
    assert wide.high / wide.mid > narrow.high / narrow.mid


@pytest.mark.parametrize(
    ("name", "tpp", "caught"),
    [("H100", 15832, True), ("H20", 2368, False), ("A100", 4992, True), ("B200", 36000, True)],
)
def test_export_figures(name, tpp, caught):
    found = export.verdict(find_chip(name))
    assert (found.tpp, found.caught) == (tpp, caught)
    assert found.rule.version in export.describe(find_chip(name))


def test_between_the_thresholds_nothing_is_said_without_the_density():
    chip = replace(find_chip("H20"), performance_density=None)
    assert export.verdict(chip).caught is None


def test_the_command_answers_no_on_one_line_and_with_exit_code_1(capsys):
    asked = ["plan", "train", "llama-3.1-405b", "--chip", "8xH100"]
    assert main(asked) == 1
    text = capsys.readouterr().out
    assert text.startswith("infeasible: Llama-3.1-405B cannot be trained on 8 x H100") and text.count("\n") == 1
    assert main([*asked, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "infeasible"


def test_the_command_prints_every_figure_with_its_interval(capsys):
    assert main(["plan", "train", "r1-671b", "--chip", "H800", "--chips", "2048", "--precision", "fp8"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("chip-hours", "utilization", "memory", "Assumed", "TP", "export"))


def test_a_teacher_writes_more_where_less_is_kept_and_less_where_data_is_read_twice():
    plain = written(R1, H800, "fp8", 1e9)
    assert written(R1, H800, "fp8", 1e9, kept=0.25).chip_hours.mid == pytest.approx(4 * plain.chip_hours.mid)
    assert written(R1, H800, "fp8", 1e9, epochs=2).chip_hours.mid == pytest.approx(plain.chip_hours.mid / 2)
    with pytest.raises(UserError, match="kept"):
        written(R1, H800, "fp8", 1e9, kept=0.0)


def test_reading_along_costs_forward_passes():
    case, tokens = Case(H100, "bf16", 1e9, whole_run=True), 1e12
    teacher = find_model("llama-3.1-8b")
    student = bill(work(teacher, 4096), tokens, case, fitted())
    reading = read(teacher, tokens, case, fitted(), 4096)
    assert reading.chip_hours.mid == pytest.approx(student.chip_hours.mid * TEACHER / 3)


def test_the_command_adds_the_teacher(capsys):
    arguments = ["plan", "train", "llama-3.1-8b", "--chip", "8xH100", "--tokens", "8.6e9", "--sequence", "8192"]
    assert main([*arguments, "--teacher", "deepseek-r1", "--kept", "0.25", "--epochs", "2", "--precision", "fp8"]) == 0
    text = capsys.readouterr().out
    assert "teacher" in text and "together" in text and "25 % of what is written" in text


@pytest.mark.parametrize("wrong", [["--chips", "0"], ["--tokens", "-1"], ["--tokens", "nan"], ["--sequence", "0"]])
def test_numbers_that_make_no_sense_are_refused_on_one_line(wrong, capsys):
    assert main(["plan", "train", "llama-3.1-8b", "--chip", "H100", *wrong]) == 2
    assert "must be a finite number above 0" in capsys.readouterr().err
