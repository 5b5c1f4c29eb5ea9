"""What is asked and what is answered: intervals with assumptions, and refusals that say why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raison.errors import UserError
from raison.model.spec import R1_671B, YarnSpec
from raison.plan.answer import answer
from raison.plan.answer_json import as_dict
from raison.plan.chips import find_chip
from raison.plan.compare import frontier
from raison.plan.models import find_model
from raison.plan.precision import WIDTHS
from raison.plan.question import Question, Wish, layouts_of
from raison.plan.search import Limits
from raison.plan.shape import longest_context


def _question(model: str = "r1-671b", chip: str = "H200", **changes: object) -> Question:
    return replace(Question(find_model(model), find_chip(chip)), **changes)  # type: ignore[arg-type]


def test_an_answer_is_intervals_with_its_assumptions() -> None:
    found = answer(_question(chips=8, streams=64.0))
    assert found.verdict == "served" and found.speeds is not None and found.choice is not None
    speeds = found.speeds
    for value in (speeds.user, speeds.chip, speeds.rack, speeds.ttft, speeds.request):
        assert value.low < value.mid < value.high
    assert speeds.money is not None and speeds.money.total.mid < speeds.money.output.mid
    assert any("points of" in clause for clause in found.assumptions)
    told = as_dict(found)
    assert told["chips"] == 8 and told["tokens_per_second_user"]["mid"] == pytest.approx(speeds.user.mid)
    memory = told["memory_gb_per_chip"]
    assert memory["weights"] + memory["cache"] + memory["left"] < memory["total"]


def test_what_does_not_fit_is_infeasible_and_has_no_figure() -> None:
    found = answer(_question(chip="H100", chips=4))
    assert found.verdict == "infeasible" and found.speeds is None
    assert "does not fit" in found.why and "H100" in found.why


def test_a_narrower_width_is_tried_and_named() -> None:
    found = answer(_question(chip="H100", chips=8))
    assert found.verdict == "served" and found.case.width.name == "int4"
    assert any("wider ones do not fit" in clause for clause in found.assumptions)
    asked = answer(_question(chip="H100", chips=8, width=WIDTHS["fp8"]))
    assert asked.verdict == "infeasible"


def test_requests_beyond_the_context_are_answered_with_a_warning() -> None:
    within = answer(_question(chips=8, streams=4.0, isl=160_000.0, osl=3_840.0))  # 163,840 by YaRN, in its config.json
    beyond = answer(_question(chips=8, streams=4.0, isl=160_000.0, osl=3_841.0))
    assert within.verdict == beyond.verdict == "served"
    assert not any("context" in clause for clause in within.assumptions)
    assert any("beyond the model's context" in clause and "163,840" in clause for clause in beyond.assumptions)


def test_positions_reach_as_far_as_yarn_extends_them() -> None:
    plain = replace(R1_671B, max_position_embeddings=40_960, rope_scaling=None)
    extended = replace(plain, rope_scaling=YarnSpec(factor=4.0, original_max_position_embeddings=32_768))
    assert longest_context(plain) == 40_960
    assert longest_context(extended) == 131_072  # as Qwen3's card tells to extend it
    assert longest_context(R1_671B) == 163_840


def test_a_model_of_which_only_the_size_is_known_has_no_longest_context() -> None:
    found = answer(_question("70e9", chips=8, streams=1.0, isl=900_000.0))
    assert not any("beyond" in clause for clause in found.assumptions)


def test_limits_that_nothing_meets_name_the_fastest() -> None:
    found = answer(_question(chips=8, limits=Limits(tpot=1e-4)))
    assert found.verdict == "infeasible" and "the fastest for one stream" in found.why


def test_more_streams_than_fit_are_saturated() -> None:
    found = answer(_question("llama-3.1-70b", "H100", chips=2, streams=5000.0))
    assert found.verdict == "saturated" and "room for" in found.why


def test_arrivals_above_capacity_are_saturated_and_below_are_served() -> None:
    busy = answer(_question("llama-3.1-8b", "H100", chips=1, rate=1000.0))
    assert busy.verdict == "saturated" and "requests/s" in busy.why
    easy = answer(_question("llama-3.1-8b", "H100", chips=1, rate=1.0))
    assert easy.verdict == "served" and easy.speeds is not None
    assert easy.speeds.all.mid == pytest.approx(1024, rel=0.01), "what arrives is what is answered"
    bought = answer(_question("llama-3.1-8b", "H100", rate=1000.0))
    assert bought.verdict == "served" and bought.instances > 10


def test_an_instance_that_mostly_stands_idle_is_paid_for_all_the_same() -> None:
    idle = answer(_question("llama-3.1-8b", "H100", chips=1, rate=0.01, usd_per_hour=2.0)).speeds
    assert idle is not None and idle.money is not None
    assert idle.all.mid == pytest.approx(10.24) == idle.chip.mid
    assert idle.money.output.mid == pytest.approx(2.0 / 3600 / 10.24 * 1e6)
    free = answer(_question("llama-3.1-8b", "H100", rate=0.01)).speeds
    assert free is not None and free.chip.mid == pytest.approx(10.24)


def test_speed_and_price_pull_apart() -> None:
    fast, cheap = (answer(_question(aim=aim)) for aim in ("speed", "price"))
    assert fast.speeds is not None and cheap.speeds is not None
    assert fast.speeds.user.mid > 2 * cheap.speeds.user.mid
    assert cheap.speeds.chip.mid > 2 * fast.speeds.chip.mid


def test_limits_hold() -> None:
    found = answer(_question(limits=Limits(tpot=0.02, ttft=1.0)))
    assert found.choice is not None and found.choice.figures.speed.tpot <= 0.02
    assert found.choice.figures.speed.ttft <= 1.0


def test_a_wish_for_a_layout_is_kept_or_refused() -> None:
    found = answer(_question(chips=8, streams=8.0, wish=Wish(tp=8)))
    assert found.case.layout.tp == 8
    with pytest.raises(UserError, match="no layout"):
        layouts_of(_question(chips=8, wish=Wish(tp=3)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"isl": 0.0}, "--input"),
        ({"known": 2.0}, "--cached"),
        ({"streams": 1.0, "rate": 1.0}, "give one"),
        ({"usd_per_hour": float("nan")}, "--usd-per-hour"),
        ({"guesses": 0.5}, "--guess"),
    ],
)
def test_senseless_numbers_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        answer(_question(**changes))


@pytest.mark.parametrize(
    "chip", ["groq", "cerebras", "sn40l", "m3 ultra", "epyc 9654", "rtx 4090", "tpu v6e", "raspberry pi 5"]
)
def test_every_class_of_chip_gets_an_answer(chip: str) -> None:
    found = answer(_question("llama-3.1-8b", chip, streams=1.0))
    assert found.verdict == "served" and found.speeds is not None and 0.01 < found.speeds.user.mid < 20_000


def test_the_claims_about_sn40l_get_a_prediction() -> None:
    single = answer(_question(chip="sn40l", chips=16, streams=1.0, width=WIDTHS["fp8"]))
    assert single.speeds is not None and single.speeds.user.low < 198 < single.speeds.user.high


def test_guessing_ahead_speeds_up_one_stream() -> None:
    plain, guessed = (answer(_question(chips=8, streams=1.0, guesses=g)) for g in (1.0, 1.8))
    assert plain.speeds is not None and guessed.speeds is not None
    assert plain.speeds.user.mid < guessed.speeds.user.mid < 1.8 * plain.speeds.user.mid


def test_a_frontier_trades_users_against_chips() -> None:
    line = frontier(_question(chips=8))
    users, chips = ([getattr(point, name) for point in line.points] for name in ("a_user", "a_chip"))
    assert len(line.points) > 5 and users == sorted(users, reverse=True) and chips == sorted(chips)


def test_a_frontier_under_an_engine_that_nobody_measured_has_wider_intervals() -> None:
    known, strange = (frontier(_question(chips=8, engine=engine)) for engine in ("sglang", "nobody's"))
    width = [line.interval(1.0, "tpot").high for line in (replace(strange, engine=""), strange)]
    assert width[1] > width[0] and known.interval(1.0, "tpot") == replace(known, engine="").interval(1.0, "tpot")
