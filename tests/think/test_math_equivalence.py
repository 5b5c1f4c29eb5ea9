"""Algebra through math-verify, and what its subprocess may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from raison.tasks.sandbox import Limits
from raison.think.math_equivalence import MathVerify

pytest.importorskip("math_verify", reason="the extra `math` is not installed")


PATIENT = Limits(seconds=60.0, load_seconds=60.0, memory_bytes=1 << 30)
"""What ends by itself ends within it, on however busy a machine."""


@pytest.fixture(scope="module")
def same() -> Iterator[MathVerify]:
    found = MathVerify(PATIENT)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("one", "other"), [("x^2+2x+1", "(x+1)^2"), (r"\sqrt{8}", r"2\sqrt{2}"), ("50%", "0.5"), ("7", "14/2")]
)
def test_algebra_that_says_the_same(one: str, other: str, same: MathVerify) -> None:
    assert same.find(one, ["no", other]) == same.find(other, ["no", one]) == 1


def test_what_differs_or_takes_too_long_is_not_the_same(same: MathVerify) -> None:
    assert same.find("x+1", ["x+2", "x-1"]) is None
    same._sandbox.limits = replace(PATIENT, seconds=1.0)
    assert same.find("9^{9^{9^9}}", ["3"]) is None, "it would not end, and is stopped"
    same._sandbox.limits = PATIENT
    assert same.find(r"\sqrt{9}", ["3"]) == 0, "and a new process goes on"
