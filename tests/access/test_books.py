"""Prices to the nano-dollar, and reports that sum the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from raison.errors import UserError
from raison.serve.access import DatabaseAccess, open_access
from raison.serve.ledger import Reservation
from raison.serve.prices import Price, Prices, read_prices
from raison.serve.schema import USAGE
from raison.serve.usage import Line, report, since_of
from tests.access.conftest import House, used

R1 = Price(prompt=0.55, cached=0.14, completion=2.19)
"""DeepSeek's prices of January 2025: miss, hit, output."""


def test_the_cost_of_an_answer_by_hand() -> None:
    # 1,000 computed at $0.55, 64 cached at $0.14 and 500 sampled at $2.19 a million
    assert R1.cost(1064, 64, 500) == 550_000 + 8_960 + 1_095_000
    assert Price(0.0028, 0.28).cost(1, 0, 0) == 3, "2.8 nano-dollars"
    assert Price(0.0005, 0).cost(1, 0, 0) == 1, "half is rounded up"
    assert Price(0.0, 0.0).cost(10, 5, 5) == 0
    assert Price(1.0, 0.0).cost(10, 5, 0) == 10_000, "a cached token costs as much as another where nothing is said"


PRICES = st.decimals(0, 100, places=4)


@given(PRICES, PRICES, PRICES, st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_cost_is_exact_and_rounded_once(
    prompt: Decimal, cached: Decimal, completion: Decimal, missed: int, hit: int, sampled: int
) -> None:
    price = Price(float(prompt), float(completion), float(cached))
    exact = (missed * prompt + hit * cached + sampled * completion) * 1000
    assert price.cost(missed + hit, hit, sampled) == int(exact.to_integral_value(ROUND_HALF_UP))


def test_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    assert read_prices(path) == Prices()
    path.write_text(
        '[default]\nprompt = 1\ncompletion = 2\n[model."r1:8b"]\nprompt = 0.55\ncached = 0.14\ncompletion = 2.19'
    )
    prices = read_prices(path)
    assert prices.of("r1:8b") == R1 and prices.of("other") == Price(1, 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[default]\nprompt = -1\ncompletion = 2", "prompt is -1"),
        ("[default]\nprompt = inf\ncompletion = 2", "prompt is inf"),
        ("[default]\nprompt = 1", "completion"),
        ("[default]\nprompt = 1\ncompletion = 1\noutput = 2", "output"),
        ("[modle.a]\nprompt = 1\ncompletion = 1", "model"),
        ("prompt = ", "not TOML"),
    ],
)
def test_a_list_with_a_mistake_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        open_access(tmp_path)
    assert "prices.toml" in str(caught.value)


def settle(access: DatabaseAccess, key: str, request: str, **more: object) -> None:
    access.settle(Reservation("", key, 0), used(request, key, **more))  # type: ignore[arg-type]


def reported(access: DatabaseAccess, by: Sequence[str], since: date | None = None) -> list[Line]:
    with access.store.read() as connection:
        return report(connection, by, since)


def test_reports_sum_what_was_recorded(house: House) -> None:
    access = house.access(prices=Prices(None, {"r1": R1}))
    alice, _ = house.key("alice")
    bob, _ = house.key("bob")
    settle(access, alice.id, "1", model="r1", prompt=1064, cached_tokens=64, completion=500, reasoning_tokens=400)
    settle(access, alice.id, "2", model="free", prompt=5, completion=7)
    house.clock.now += 86_400
    settle(access, bob.id, "3", model="r1", prompt=0, completion=1)
    settle(access, "local", "4", model="r1", prompt=0, completion=1, seconds=math.nan)
    cost = R1.cost(1064, 64, 500)
    assert reported(access, ["key", "model"]) == [
        Line(("alice", "free"), 1, 5, 0, 7, 0, None, 1),
        Line(("alice", "r1"), 1, 1064, 64, 500, 400, cost, 0),
        Line(("bob", "r1"), 1, 0, 0, 1, 0, 2190, 0),
        Line(("local", "r1"), 1, 0, 0, 1, 0, 2190, 0),
    ]
    assert [(line.group, line.requests, line.cost, line.unpriced) for line in reported(access, ["day"])] == [
        (("2026-11-22",), 2, cost, 1), (("2026-11-23",), 2, 4380, 0),
    ]  # fmt: skip
    assert [line.requests for line in reported(access, ["model", "day"], date(2026, 11, 23))] == [2]
    assert {line.group[0] for line in reported(access, ["id"])} == {alice.id, bob.id, "local"}
    with access.store.read() as connection:
        assert connection.scalar(select(USAGE.c.seconds).where(USAGE.c.request == "4")) is None


def test_a_price_that_changes_changes_no_bill(house: House) -> None:
    key, _ = house.key()
    settle(house.access(prices=Prices(Price(1, 1))), key.id, "1", prompt=1, completion=0)
    later = house.access(prices=Prices(Price(5, 5)))
    settle(later, key.id, "1", prompt=1, completion=0)
    settle(later, key.id, "2", prompt=1, completion=0)
    assert reported(later, ["key"])[0].cost == 1000 + 5000
    assert later.price("any") == Price(5, 5)


def test_days_are_read() -> None:
    today = date(2026, 11, 22)
    assert since_of("2026-01-02", today) == date(2026, 1, 2)
    assert since_of("1d", today) == today and since_of("7d", today) == date(2026, 11, 16)
    for text in ("", "d", "0d", "-1d", "yesterday", "2026-13-01", "9999999d"):
        with pytest.raises(UserError, match="is no day"):
            since_of(text, today)
