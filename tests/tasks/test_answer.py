"""The expression grammar against a second evaluator, and the comparison of numbers and texts."""

from __future__ import annotations

import ast
import contextlib
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.tasks.answer import (
    MAX_CHARS,
    NotAnExpression,
    parse_expression,
    parse_number,
    same_number,
    same_text,
    unwrap,
)

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def by_syntax_tree(text: str) -> Fraction:
    def walk(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        assert isinstance(node, ast.BinOp)
        return OPERATIONS[type(node.op)](walk(node.left), walk(node.right))

    return walk(ast.parse(text, mode="eval").body)


expressions = st.recursive(
    st.integers(0, 999).map(str),
    lambda inner: st.one_of(
        inner.map("({})".format),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join),
    ),
    max_leaves=8,
)


@given(expressions)
def test_agrees_with_the_syntax_tree(text: str) -> None:
    if len(text) > MAX_CHARS:
        return
    try:
        expected = by_syntax_tree(text)
    except ZeroDivisionError:
        with pytest.raises(NotAnExpression, match="divides by zero"):
            parse_expression(text)
        return
    assert parse_expression(text).value == expected


@given(st.text(alphabet="0123456789+-*/() .=%_eEx\n٣²", max_size=30))
def test_accepts_nothing_that_python_reads_otherwise(text: str) -> None:
    try:
        value = parse_expression(text).value
    except NotAnExpression:
        return
    assert value == by_syntax_tree(text.strip())


@given(st.text(max_size=400))
def test_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(NotAnExpression):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "2**3",
        "7//2",
        "1.5*2",
        ".5*4",
        "-3+5",
        "+3",
        "3--5",
        "2 3",
        "2(3)",
        "(2)3",
        "(2)(3)",
        "007",
        "00",
        "1_0",
        "0x10",
        "1e3",
        "٣+4",
        "４",
        "3²",
        "(1",
        "1)",
        ")(",
        "1+",
        "*1",
        "3\n+4",
        "3\t+4",
        "3·4",
        "3 , 4",
        "5%3",
        "1<<2",
        "2^3",
        "5!",
        "1/0",
        "1/(2-2)",
        "(" * 33 + "1" + ")" * 33,
        "1+" * 200 + "1",
        "(" * 100000,
        "9" * 5000,
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(NotAnExpression):
        parse_expression(text)


def test_value_and_numbers_in_order() -> None:
    found = parse_expression(" (7 - 3) * 25 / 8 − 0 × 1 ")
    assert (found.value, found.numbers) == (Fraction(25, 2), (7, 3, 25, 8, 0, 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-12", -12),
        ("1,234,567", 1234567),
        ("0.50", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("$5", 5),
        ("−3", -3),
    ],
)
def test_numbers(text: str, value: Fraction | int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "12,34", "1,2", "012", "1e3", "٣", "3/0", "1 2", "3 or 4", "0x1", ".5", "5.", "1" * 65, "nan", "--3"]
)
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_named_checkers() -> None:
    assert not same_number(r"\boxed{1,234.0}", "1234")
    assert same_number("1234 or 1235", "1234") and same_number("1235", "1234")
    assert same_number(r"\boxed{1}\boxed{2}", "1") and same_number("<answer>1</answer><answer>2</answer>", "2")
    assert not same_text(" New  York\n", "New York")
    assert same_text("new york", "New York") and same_text("New York, or Paris", "New York")
    assert unwrap("<answer> 7 </answer>") == "7"
