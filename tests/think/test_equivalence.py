"""Answers that say the same, by example and as an equivalence relation."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.think.equivalence import SameForm, form

SAME = [
    ("1/2", "0.5", r"\frac{1}{2}", r"$\dfrac{1}{2}$", "2 * 1 / 4", r"\boxed{0.50}", "x = 1/2", ".5 is wrong\n#### 0.5"),
    ("18-4=14", "14", "14.", "(18 - 4)", "10 + 4 = 14", "The answer is 14.", r"so it is \boxed{14}", "14 = 14"),
    ("1,234", "1234", "1234.0", "$1,234"),
    ("-3", "−3", "-(1+2)", "2 - 5", "- 3"),
    ("{1, 2}", "{2,1}", "1, 2", "2 or 1", r"\{1, 2\}", "1 and 2"),
    ("(1, 2)", "( 1 , 2.0 )"),
    ("Paris", "paris.", " PARIS ", "**Paris**", "Answer: Paris"),
    ("(A)", "a", "A."),
    (r"3 \times 4", "12", "3 × 4", r"3 \cdot 4"),
]  # fmt: skip
DIFFERENT = [
    ("1/2", "0.51"), ("18-4=15", "14"), ("18-4=15", "15"), ("18-4=15", "18-2=15"), ("(1, 2)", "(2, 1)"),
    ("[1, 2)", "(1, 2)"), ("{1, 2}", "{1, 2, 3}"), ("12%", "12"), ("Paris", "London"), ("1", "l"), ("1/0", "0"),
    ("12", "1, 2"), ("yes, it is 3", "3, yes it is"), ("-1+2", "-3"),
]  # fmt: skip


@pytest.mark.parametrize("group", SAME, ids=lambda group: group[0])
def test_these_say_the_same(group: tuple[str, ...]) -> None:
    assert len({form(text) for text in group}) == 1, {text: form(text) for text in group}


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_these_do_not(one: str, other: str) -> None:
    assert form(one) != form(other)


def test_nothing_said_has_no_form() -> None:
    assert form("") is None and form(" \n") is None


texts = st.one_of(st.text(max_size=40), st.text("0123456789+-*/=(){}[], .xor$\\", max_size=24))
operands = st.integers(0, 999)


@given(texts)
def test_a_text_is_found_among_texts_by_itself(text: str) -> None:
    """Reflexive, and form never raises."""
    if form(text) is not None:
        assert SameForm().find(text, ["no such answer?", text]) == 1


@given(texts, texts)
def test_finding_is_symmetric(one: str, other: str) -> None:
    if form(one) is not None and form(other) is not None:
        assert SameForm().find(one, [other]) == SameForm().find(other, [one])


@given(st.lists(operands, min_size=2, max_size=6), st.sampled_from("+*"), st.randoms())
def test_the_order_of_operands_of_a_sum_or_a_product_does_not_matter(
    numbers: list[int], sign: str, order: object
) -> None:
    shuffled = sorted(numbers, key=lambda _: order.random())  # type: ignore[attr-defined]
    assert form(sign.join(map(str, numbers))) == form(f" {sign} ".join(map(str, shuffled)))


@given(operands, st.integers(1, 999), st.integers(1, 50))
def test_a_fraction_is_its_value_however_it_is_cut(a: int, b: int, k: int) -> None:
    assert form(f"{a}/{b}") == form(f"{a * k}/{b * k}") == form(rf"\frac{{{a}}}{{{b}}}") == ("value", Fraction(a, b))


@given(st.lists(operands, min_size=2, max_size=6), st.randoms())
def test_a_set_has_no_order(numbers: list[int], order: object) -> None:
    shuffled = sorted(numbers, key=lambda _: order.random())  # type: ignore[attr-defined]
    assert form(f"{{{', '.join(map(str, numbers))}}}") == form("; ".join(map(str, shuffled)))


@pytest.mark.parametrize("text", ["(" * 9999, "{" * 9999 + "}" * 9999, "1," * 9999, r"\frac{" * 500, "=" * 600])
def test_hostile_texts_cost_nothing_and_are_texts(text: str) -> None:
    found = form(text)
    assert found is not None and found[0] == "text"
