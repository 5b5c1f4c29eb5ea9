"""What a frontier found, in sentences that a page and a terminal share. Pure; takes the plain result.

Not covered: tables and plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raison.bench.frontier.allocate import LAWS, MORE
from raison.train.bill import short_count

Found = Mapping[str, Any]


def amount(value: float, currency: str) -> str:
    return f"{value:.2e} FLOPs" if currency == "flops" else f"${value:.2g}"


def answer(found: Found, currency: str) -> list[str]:
    """Where the budget, and the next dollar, should go."""
    quoted = found["quoted"].get(currency)
    if quoted is None:
        return [f"No measured budget in {currency} pays for any split."]
    split, shares = quoted["split"], quoted["shares"]
    parts = ", ".join(f"{percent(shares[law])} on {law}" for law in LAWS)
    bought = (
        f"{short_count(split['tokens'])} tokens into {split['size']}, {short_count(split['samples'])} samples of GRPO, "
        f"{split['votes']} vote{'s' * (split['votes'] > 1)} of up to {split['budget']} thinking tokens"
    )
    a, runs = quoted["accuracy"], quoted["runs"]
    return [
        f"Of {amount(quoted['total'], currency)}, for training and {found['answers']:,} answers: {parts}.",
        f"That is {bought}; predicted accuracy {a['value']:.3f} [{a['low']:.3f}, {a['high']:.3f}], of single runs from "
        f"{runs['low']:.3f} to {runs['high']:.3f}.",
        _next(quoted),
    ]


def percent(share: Mapping[str, float]) -> str:
    return f"{share['value']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"


def _next(quoted: Mapping[str, Any]) -> str:
    gains = quoted["next_dollar"]
    ranked = sorted(LAWS, key=lambda law: -gains[law]["value"])
    words = ", ".join(
        f"{law} {gains[law]['value']:+.3f} [{gains[law]['low']:+.3f}, {gains[law]['high']:+.3f}]" for law in ranked
    )
    return f"The next {MORE:.0%} would gain most in {ranked[0]}: {words}."


def anew(check: Mapping[str, Any]) -> str:
    """How the arms were trained."""
    seeds = check["seeds"]
    return f"trained anew with {seeds} seeds each" if seeds > 1 else "trained anew once each"


def tested(check: Mapping[str, Any]) -> list[str]:
    """The check, arm by arm."""
    lines = []
    for arm in check["arms"]:
        a, d = arm["accuracy"], arm["recommended_less_this"]
        pair = "" if d is None else f"; recommended less this {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        lines.append(
            f"{arm['arm']}: {a['value']:.3f} [{a['low']:.3f}, {a['high']:.3f}]{_runs(arm['runs'])}, "
            f"predicted {arm['predicted']:.3f}, {arm['flops']:.2e} FLOPs{pair}"
        )
    return lines


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    values = ", ".join(f"{run['accuracy']['value']:.3f}" for run in runs)
    return f" ({values})" if len(runs) > 1 else ""
