"""Export-control figures of a chip, against a rule named by its version. Information, not legal advice.

Total processing performance (TPP) is the largest product, over precisions, of dense TOPS and the bits of the operands;
performance density is TPP over the area of the die in mm2. Rules change, so a verdict names the one it holds for. Not
covered: licences, countries, machines of many chips, rules of other countries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raison.plan.chips import Chip

BITS: Mapping[str, int] = {"bf16": 16, "fp8": 8, "int8": 8, "fp4": 4}


@dataclass(frozen=True, slots=True)
class Rule:
    """Thresholds of one version."""

    name: str
    version: str
    tpp: float
    """At or above: caught."""
    tpp_dense: float
    """At or above, and as dense as `density`: caught too."""
    density: float


RULE = Rule("3A090.a", "as read 2026-06 (lenzo.ai/eccn/3a090, chipclaims.com)", 4800, 1600, 5.92)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a chip stands under a rule."""

    tpp: float | None
    density: float | None
    caught: bool | None
    """None where a needed figure has no source."""
    rule: Rule


def tpp(chip: Chip) -> float | None:
    """The catalogue's figure, else the largest TOPS x bits of the peaks that are known: a lower bound."""
    own = [rate * BITS[name] for name, rate in chip.tflops.items() if name in BITS]
    return chip.tpp or (max(own) if own else None)


def verdict(chip: Chip, rule: Rule = RULE) -> Verdict:
    total, density = tpp(chip), chip.performance_density
    if total is None:
        return Verdict(None, density, None, rule)
    if total >= rule.tpp:
        return Verdict(total, density, True, rule)
    if total < rule.tpp_dense:
        return Verdict(total, density, False, rule)
    return Verdict(total, density, None if density is None else density >= rule.density, rule)


def describe(chip: Chip) -> str:
    """`TPP 15,832: at or above 4,800 of 3A090.a (...)`."""
    found = verdict(chip)
    if found.tpp is None:
        return "no source gives its processing performance"
    where = {True: "caught by", False: "below", None: "not decided without its performance density:"}[found.caught]
    dense = f", PD {found.density:g}" if found.density else ""
    return f"TPP {found.tpp:,.0f}{dense}: {where} {found.rule.name}, {found.rule.version}; no legal advice"
