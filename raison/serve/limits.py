"""What a key may use, as arithmetic: rates a minute, a quota of tokens, and what was used so far. Pure functions.

Rates are token buckets that hold a minute's worth (RFC 4115 calls it the committed burst), kept the other way round as
a debt that drains: a new key owes nothing, and a limit may be set or changed at any time. A quota counts tokens of
prompts and completions, of every branch, by the calendar in UTC. A request is admitted for the most it may use, and
what it did not use is given back when it is settled. Not covered: that only one request is decided at a time
(ledger.py), where any of it is kept (schema.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, cast, get_args

from raison.errors import UserError
from raison.serve.refusal import QUOTA, RATE, Limited

Period = Literal["day", "month", "total"]
MINUTE = 60.0
HELD_RETRY = 1.0
"""Seconds until a retry is worth it when other requests of the key hold what is left of its quota."""
ROUNDING = 1e-6
MOST_RATE, MOST_QUOTA = (1 << 31) - 1, 1 << 53
"""Both fit the database's columns, and whole floats."""


@dataclass(frozen=True, slots=True)
class Quota:
    """So many tokens a day, a month, or in all."""

    tokens: int
    period: Period = "total"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise UserError(f"a quota of {self.tokens} tokens serves nothing; give at least 1, or revoke the key")
        if self.tokens > MOST_QUOTA:
            raise UserError(f"a quota has at most {MOST_QUOTA:,} tokens; leave it out, or give none, for no limit")

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens {'in all' if self.period == 'total' else 'a ' + self.period}"


def parse_quota(text: str) -> Quota:
    """`50000`, `50000/day` or `50000/month`; underscores may group digits. Raises UserError."""
    number, slash, period = text.partition("/")
    period = period if slash else "total"
    if not re.fullmatch(r"[0-9]+(_[0-9]+)*", number) or period not in get_args(Period):
        raise UserError(f'"{text}" is no quota; write tokens, maybe with a period: 500000, 50000/day or 1000000/month')
    return Quota(int(number), cast(Period, period))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may use; None = without limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    quota: Quota | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            rate = getattr(self, name)
            if rate is not None and not 1 <= rate <= MOST_RATE:
                raise UserError(f"{name} is {rate}; give 1 to {MOST_RATE:,}, or none for no limit")

    @property
    def any(self) -> bool:
        return (self.requests_per_minute, self.tokens_per_minute, self.quota) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Balance:
    """What a key has used: tokens by period, and the debts of its rates at `filled_at` (Unix seconds)."""

    day: str = ""
    day_tokens: int = 0
    month: str = ""
    month_tokens: int = 0
    total_tokens: int = 0
    request_debt: float = 0.0
    token_debt: float = 0.0
    filled_at: float = 0.0

    def used(self, period: Period) -> int:
        return {"day": self.day_tokens, "month": self.month_tokens, "total": self.total_tokens}[period]


def advance(balance: Balance, limits: Limits, now: float) -> Balance:
    """The balance at `now`: debts drained, and new counts where a day or month has begun.

    A clock behind the one that wrote the balance, as of a second server, changes nothing.
    """
    if now <= balance.filled_at:
        return balance
    minutes = (now - balance.filled_at) / MINUTE
    today = datetime.fromtimestamp(now, UTC).date().isoformat()
    return replace(
        balance, day=today, month=today[:7], filled_at=now,
        day_tokens=balance.day_tokens if balance.day == today else 0,
        month_tokens=balance.month_tokens if balance.month == today[:7] else 0,
        request_debt=_drained(balance.request_debt, limits.requests_per_minute, minutes),
        token_debt=_drained(balance.token_debt, limits.tokens_per_minute, minutes),
    )  # fmt: skip


def admit(limits: Limits, balance: Balance, held: int, tokens: int, now: float) -> Balance:
    """The balance once a request that uses at most `tokens` is admitted.

    Args:
        held: tokens that requests in flight may still use.

    Raises Limited: what stands in the way, and after how many seconds it will not.
    """
    current = advance(balance, limits, now)
    if limits.quota is not None:
        _check_quota(limits.quota, current.used(limits.quota.period), held, tokens, now)
    _check_rate("requests", limits.requests_per_minute, current.request_debt, 1)
    _check_rate("tokens", limits.tokens_per_minute, current.token_debt, tokens)
    return _owe(current, limits, 1, tokens)


def spend(limits: Limits, balance: Balance, tokens: int, now: float) -> Balance:
    """The balance once an answer of `tokens`, prompt included, was given."""
    current = advance(balance, limits, now)
    return replace(
        current, day_tokens=current.day_tokens + tokens, month_tokens=current.month_tokens + tokens,
        total_tokens=current.total_tokens + tokens,
    )  # fmt: skip


def give_back(limits: Limits, balance: Balance, tokens: int, now: float) -> Balance:
    """The balance once `tokens` that a request was admitted for turn out unused.

    The request still counts: who asks and hangs up, again and again, is slowed as well.
    """
    current = advance(balance, limits, now)
    return replace(current, token_debt=max(0.0, current.token_debt - tokens))


def _owe(balance: Balance, limits: Limits, requests: int, tokens: int) -> Balance:
    """Only what has a limit is owed, so that a limit set later does not begin with a debt that never drained."""
    return replace(
        balance,
        request_debt=balance.request_debt + requests if limits.requests_per_minute else 0.0,
        token_debt=balance.token_debt + tokens if limits.tokens_per_minute else 0.0,
    )


def _drained(debt: float, rate: int | None, minutes: float) -> float:
    return max(0.0, debt - rate * minutes) if rate else 0.0


def _check_rate(what: str, rate: int | None, debt: float, asked: int) -> None:
    if rate is None or debt + asked <= rate + ROUNDING:
        return
    if asked > rate:
        message = f"this request may use {asked:,} tokens and the key's limit is {rate:,} a minute; lower max_tokens"
        raise Limited(message, what, RATE, None)
    wait = (debt + asked - rate) / rate * MINUTE
    raise Limited(f"rate limit reached: {rate:,} {what} a minute; try again in {wait:.1f} s", what, RATE, wait)


def _check_quota(quota: Quota, used: int, held: int, tokens: int, now: float) -> None:
    left = quota.tokens - used
    if tokens <= left - held:
        return
    if tokens <= left:
        message = f"other requests of this key hold {held:,} of the {left:,} tokens left of its quota; try again soon"
        raise Limited(message, "tokens", RATE, HELD_RETRY)
    message = f"{max(0, left):,} tokens are left of this key's quota of {quota}; this request may use {tokens:,}"
    raise Limited(message, QUOTA, QUOTA, _until_next(quota.period, now) if tokens <= quota.tokens else None)


def _until_next(period: Period, now: float) -> float | None:
    """Seconds until the next day or month begins, in UTC; None for a quota that does not come back."""
    if period == "total":
        return None
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return (today + timedelta(days=1) if period == "day" else next_month).timestamp() - now
