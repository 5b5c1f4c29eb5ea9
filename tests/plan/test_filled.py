"""Chips and streams that are both given: all chips stand there, and what they hold of a layout shares the streams."""

from __future__ import annotations

import pytest

from raison.plan.answer import Answer, answer
from raison.plan.answer_json import as_dict
from raison.plan.chips import find_chip
from raison.plan.models import find_model
from raison.plan.question import Question, Wish


def asked(chips: int, streams: float, wish: Wish | None = None, model: str = "r1-671b") -> Answer:
    return answer(Question(find_model(model), find_chip("H200"), chips=chips, streams=streams, wish=wish or Wish()))


@pytest.mark.parametrize(("chips", "streams"), [(8, 64), (16, 7), (128, 5000), (4096, 4096)])
def test_every_chip_is_counted_and_every_stream_is_served(chips: int, streams: float) -> None:
    told = as_dict(asked(chips, streams))
    assert (told["verdict"], told["chips"], told["streams"]) == ("served", chips, pytest.approx(streams))


def test_twice_the_instances_serve_twice_the_streams_as_fast() -> None:
    eight = Wish(tp=8, pp=1, dp=1)
    one, two = asked(8, 100, eight).speeds, asked(16, 200, eight).speeds
    assert one is not None and two is not None
    assert two.user.mid == pytest.approx(one.user.mid)
    assert two.all.mid == pytest.approx(2 * one.all.mid)
    assert two.chip.mid == pytest.approx(one.chip.mid)


def test_chips_that_nobody_uses_are_still_paid_for() -> None:
    one, many = asked(1, 1, model="Llama-3.1-8B").speeds, asked(64, 1, model="Llama-3.1-8B").speeds
    assert one is not None and many is not None and one.money is not None and many.money is not None
    assert many.money.output.mid > 8 * one.money.output.mid
    assert many.user.mid > one.user.mid


def test_streams_are_too_many_where_all_instances_are_full() -> None:
    found = asked(16, 10**5)
    assert found.verdict == "saturated" and found.why.startswith("100000 streams do not fit")
