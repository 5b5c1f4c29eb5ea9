"""The arithmetic of rates and quotas, over many histories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.errors import UserError
from raison.serve.keys import Key
from raison.serve.limits import Balance, Limits, Quota, admit, advance, give_back, parse_quota, spend
from raison.serve.refusal import Limited
from tests.access.conftest import NOON

WAITS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60)), max_size=60)


def refused(limits: Limits, balance: Balance, tokens: int, now: float, held: int = 0) -> Limited | None:
    try:
        admit(limits, balance, held, tokens, now)
    except Limited as limited:
        return limited
    return None


@given(WAITS, st.integers(1, 20), st.integers(60, 200))
def test_no_window_holds_more_than_a_minute_of_burst_and_what_flows_in(
    asked: list[tuple[float, int]], requests: int, tokens: int
) -> None:
    limits, balance, now = Limits(requests, tokens), Balance(), NOON
    admitted: list[tuple[float, int]] = []
    for wait, size in asked:
        now += wait
        if refused(limits, balance, size, now) is None:
            balance = admit(limits, balance, 0, size, now)
            admitted.append((now, size))
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            minutes = (admitted[last][0] - admitted[first][0]) / 60
            window = admitted[first : last + 1]
            assert len(window) <= requests * (1 + minutes) + 1e-3
            assert sum(size for _, size in window) <= tokens * (1 + minutes) + 1e-3


@given(WAITS, st.integers(1, 20), st.integers(60, 200))
def test_after_the_wait_that_was_told_it_fits_and_not_before(
    asked: list[tuple[float, int]], requests: int, tokens: int
) -> None:
    limits, balance, now = Limits(requests, tokens), Balance(), NOON
    for wait, size in asked:
        now += wait
        limited = refused(limits, balance, size, now)
        if limited is None:
            balance = admit(limits, balance, 0, size, now)
            continue
        assert limited.retry_after is not None
        early = refused(limits, balance, size, now + limited.retry_after * 0.99 - 0.01)
        assert early is not None
        later = refused(limits, balance, size, now + limited.retry_after + 1e-3)
        assert later is None or later.kind != limited.kind, "it may meet the other limit then, not the same"


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.floats(0, 90_000)), max_size=60))
def test_a_daily_quota_is_never_passed(requests: list[tuple[int, int, float]]) -> None:
    limits, balance, now = Limits(quota=Quota(100, "day")), Balance(), NOON
    by_day: dict[str, int] = {}
    for most, actual, wait in requests:
        now += wait
        if refused(limits, balance, most, now) is None:
            balance = spend(limits, admit(limits, balance, 0, most, now), min(actual, most), now)
            by_day[balance.day] = by_day.get(balance.day, 0) + min(actual, most)
    assert all(tokens <= 100 for tokens in by_day.values())
    assert balance.total_tokens == sum(by_day.values())


def test_quotas_come_back_with_the_calendar() -> None:
    for period, tomorrow, in_december in (("day", True, True), ("month", False, True), ("total", False, False)):
        limits = Limits(quota=Quota(10, period))  # type: ignore[arg-type]
        spent = spend(limits, Balance(), 10, NOON)
        first = refused(limits, spent, 1, NOON)
        assert first is not None and first.code == "insufficient_quota"
        assert first.headers["x-should-retry"] == "false"
        waits = {"day": 12 * 3600.0, "month": 8.5 * 86_400, "total": None}
        assert first.retry_after == waits[period]
        assert (refused(limits, spent, 1, NOON + 86_400) is None) is tomorrow
        assert (refused(limits, spent, 1, NOON + 9 * 86_400) is None) is in_december


def test_what_others_hold_is_told_from_what_is_spent() -> None:
    limits = Limits(quota=Quota(100))
    assert refused(limits, Balance(), 60, NOON, held=40) is None
    waiting = refused(limits, Balance(), 61, NOON, held=40)
    assert waiting is not None and (waiting.code, waiting.retry_after) == ("rate_limit_exceeded", 1.0)
    never = refused(limits, Balance(), 101, NOON)
    assert never is not None and (never.code, never.retry_after) == ("insufficient_quota", None)


def test_a_request_larger_than_a_minute_is_told_to_shrink() -> None:
    limited = refused(Limits(tokens_per_minute=100), Balance(), 101, NOON)
    assert limited is not None and limited.retry_after is None
    assert limited.headers == {"x-should-retry": "false"} and "lower max_tokens" in str(limited)


def test_unused_tokens_are_given_back_and_the_request_still_counts() -> None:
    limits = Limits(2, 100)
    balance = admit(limits, Balance(), 0, 100, NOON)
    assert refused(limits, balance, 50, NOON) is not None
    balance = give_back(limits, balance, 90, NOON)
    balance = admit(limits, balance, 0, 90, NOON)
    third = refused(limits, balance, 0, NOON)
    assert third is not None and third.kind == "requests"
    assert third.headers["Retry-After"] == "30"


def test_a_clock_that_lags_takes_nothing_and_gives_nothing() -> None:
    limits = Limits(60, None, Quota(10, "day"))
    balance = spend(limits, replace(advance(Balance(), limits, NOON), request_debt=60.0), 10, NOON)
    assert advance(balance, limits, NOON - 90_000) == balance
    assert refused(limits, balance, 1, NOON - 90_000) is not None


def test_a_limit_set_later_begins_without_a_debt() -> None:
    free = Limits()
    balance = Balance()
    for _ in range(1000):
        balance = admit(free, balance, 0, 1000, NOON)
    assert refused(Limits(1, 1), balance, 1, NOON) is None


@pytest.mark.parametrize(("text", "quota"), [
    ("500000", Quota(500_000)), ("1_000/day", Quota(1000, "day")), ("7/month", Quota(7, "month")),
    ("7/total", Quota(7, "total")),
])  # fmt: skip
def test_quotas_are_read(text: str, quota: Quota) -> None:
    assert parse_quota(text) == quota


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e6", "many", "10/week", "/day", "10/", "0", "0/day"])
def test_what_is_no_quota_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_quota(text)


@pytest.mark.parametrize("make", [
    lambda: Limits(requests_per_minute=1 << 31), lambda: Limits(tokens_per_minute=10**20), lambda: Quota(10**20),
    lambda: Key("0", "a", 0.0, priority=-(10**20)),
])  # fmt: skip
def test_a_number_that_no_column_holds_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=r"2,147,483,647|9,007,199,254,740,992"):
        make()
