"""R1's story: the exact anchors, and verdicts that follow from the figures."""

import json

import pytest

from raison.cli import main
from raison.plan import story as module
from raison.plan.interval import Interval
from raison.plan.story import story


@pytest.fixture(scope="module")
def lines():
    return {line.about: line for line in story()}


@pytest.mark.parametrize(
    ("about", "value"),
    [
        ("parameters", 671_026_419_200),
        ("cache of a token", 70_272),
        ("V3's training, by its own rates", 2_788_000),
        ("its money at $2 an hour", None),
        ("R1's RL and data, by their sum", 147_000),
        ("day 6: rent", 87_072),
    ],
)
def test_anchors_are_exact(lines, about, value):
    line = lines[about]
    assert line.holds and line.predicted.low == line.predicted.high
    assert value is None or line.predicted.mid == value


def test_the_money_of_v3_is_its_hours_at_two_dollars():
    money = [line for line in story() if line.about.startswith("its money")]
    assert [line.predicted.mid for line in money] == [5_576_000, 294_000]


def test_flops_and_day_six_close_to_one_per_cent(lines):
    for about in ("training FLOPs of a token", "day 6: node-hours that the tokens need", "day 6: margin over rent"):
        line = lines[about]
        assert line.predicted.mid == pytest.approx(line.claim, rel=0.01) and line.holds


def test_what_was_said_and_does_not_hold_is_told(lines):
    assert lines["20,000 tokens/s a rack"].holds is False
    assert lines["hundreds of GPUs needed"].holds is False and lines["hundreds of GPUs needed"].predicted.mid <= 16


def test_a_forecast_outside_its_interval_fails():
    outside = module._forecast("x", 10.0, "", Interval(1.0, 2.0, 3.0), "", "")
    assert outside.holds is False and "outside" in outside.verdict and "-80 %" in outside.verdict
    assert module._account("x", 100.0, "", 102.0, None, "", "").holds is False


def test_the_command_tells_every_line_with_its_source(capsys):
    assert main(["plan", "story", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["lines"]
    assert len(told) >= 20 and all(line["source"] for line in told)
    assert main(["plan", "story"]) == 0
    assert "671,026,419,200" in capsys.readouterr().out
