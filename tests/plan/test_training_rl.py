"""Reinforcement learning's bill: what bounds sampling, how it scales, and R1-Zero's published hours."""

import json
from dataclasses import replace

import pytest

from raison.cli import main
from raison.errors import UserError
from raison.plan.chips import find_chip
from raison.plan.interval import Interval
from raison.plan.models import find_model
from raison.plan.published_runs import known_recipe
from raison.plan.rl import Recipe, Sampling, rl_bill
from raison.plan.rl_sampling import sampling_speed
from raison.plan.rows import PUBLISHED, read_rows, row_of
from raison.plan.story import r1_zero_hours
from raison.plan.training_rows import observe, predict
from raison.plan.utilization import Case, fitted

H100 = find_chip("H100")
SHAPE = find_model("llama-3.1-8b")
RECIPE = Recipe(steps=100, answers=512, mean_tokens=1000, longest=((1.0, 1000.0),), round=512)
SPEED = Sampling(Interval.exact(2000.0), Interval.exact(0.01))
CASE = Case(H100, "bf16", SHAPE.active, chips=8)


def bill(recipe=RECIPE, case=CASE, speed=SPEED):
    return rl_bill(recipe, SHAPE, case, fitted(), speed)


def test_sampling_waits_for_throughput_or_for_the_longest_answer():
    busy = bill()
    assert busy.bound == "throughput"
    assert busy.sampling.mid == pytest.approx(100 * 512 * 1000 / 2000 / 8 / 3600)
    tail = bill(replace(RECIPE, longest=((1.0, 32768.0),)))
    assert tail.bound == "the longest answer"
    assert tail.sampling.mid == pytest.approx(100 * 32768 * 0.01 / 3600)
    assert bill(replace(RECIPE, longest=((1.0, 32768.0),), waits=False)).sampling.mid == pytest.approx(
        busy.sampling.mid
    )


def test_scores_are_two_thirds_of_an_update():
    found = bill()
    assert found.scoring.mid == pytest.approx(found.updates.mid * 2 / 3)


def test_larger_rounds_wait_for_the_longest_less_often():
    long = replace(RECIPE, longest=((1.0, 32768.0),))
    assert bill(replace(long, round=5120)).sampling.mid == pytest.approx(bill(long).sampling.mid / 10)


def test_the_hours_of_r1_zero_are_inside_the_interval_and_never_fitted():
    row = next(row for row in read_rows(PUBLISHED) if row.id == "rl-r1z-h")
    assert predict(row).value.holds(101_000) and observe(row) is None
    assert any("longest answer" in clause for clause in predict(row).assumptions)


def test_accounts_of_runs_without_a_recipe():
    row = row_of({"model": "Unheard", "metric": "gpu_hours", "value": "4096", "hardware": "H100", "chips": "512",
                  "workload": "RL ~8 h wall"})  # fmt: skip
    assert predict(row).value.mid == pytest.approx(4096)
    with pytest.raises(UserError, match="recipe"):
        predict(row_of({"model": "Unheard", "metric": "gpu_hours", "value": "1", "workload": "GRPO"}))


def test_a_model_that_the_chips_do_not_hold():
    with pytest.raises(UserError, match="to sample from"):
        sampling_speed(find_model("r1-671b"), H100, 2, RECIPE, "fp8")


def test_the_recipe_must_make_sense():
    with pytest.raises(UserError, match="steps"):
        replace(RECIPE, steps=0)
    with pytest.raises(UserError, match="--chips"):
        bill(case=replace(CASE, chips=None))


def test_the_command_names_what_sampling_waits_for(capsys):
    arguments = "plan rl llama-3.1-8b --chip 8xH100 --steps 200 --output 2000 --longest 16384"
    assert main(arguments.split()) == 0
    text = capsys.readouterr().out
    assert "they wait for" in text and "chip-hours" in text and "at most 16,384" in text


def test_the_command_with_the_published_recipe_says_what_the_story_says(capsys):
    said = "plan rl r1-671b --chip H800 --chips 512 --precision fp8 --steps 10400 --output 8000 --round 8192 --json"
    assert main([*said.split(), "--longest", "32768:0.79,65536:0.21", "--guess", "1.8"]) == 0
    found = json.loads(capsys.readouterr().out)
    recipe = known_recipe("r1-zero")
    assert recipe is not None
    assert found["chip_hours"]["mid"] == pytest.approx(r1_zero_hours(recipe).mid)
    assert any("65,536 tokens in 21%" in clause for clause in found["assumptions"])


@pytest.mark.parametrize("limits", ["32768:0.5,65536:0.1", "32768,65536", "0", "many", "32768:-1"])
def test_limits_that_cannot_be_are_named_in_one_line(limits, capsys):
    assert main(["plan", "rl", "llama-3.1-8b", "--chip", "8xH100", "--longest", limits]) == 2
    assert "--longest" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--guess 0", "--guess -1", "--usd-per-hour -3", "--usd-per-hour nan"])
def test_numbers_that_cannot_be_are_named_in_one_line(option, capsys):
    assert main(f"plan rl llama-3.1-8b --chip 8xH100 {option}".split()) == 2
    assert option.split()[0] in capsys.readouterr().err


def test_a_layout_of_training_has_one_chip_at_least(capsys):
    assert main(["plan", "train", "llama-3.1-8b", "--chip", "8xH100", "--tp", "-1"]) == 2
    assert "--tp" in capsys.readouterr().err
