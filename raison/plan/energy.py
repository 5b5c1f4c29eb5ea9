"""Power and energy of chips at work, and the carbon of it.

A training chip draws about its thermal design power, with its share of host, network and cooling: OLMo 3 32B's 681 MWh
over 1.05 M H100-hours are 0.65 kW a chip of 700 W (engineered.at, 2025-11). Not covered: the hour of the day, embodied
energy, the power that decoding draws (serving.py).
"""

from __future__ import annotations

from raison.plan.chips import Chip
from raison.plan.interval import Interval

OF_DESIGN_POWER = Interval(0.8, 0.93, 1.25)
"""All-in power of a training chip over its thermal design power: one published run; the ends are an assumption."""
OF_PROVISIONED = Interval(0.4, 0.55, 0.8)
"""The same over what a machine room provides for a chip, where only that is known: an assumption."""
KG_CO2_PER_KWH = Interval(0.3, 0.4, 0.5)
"""Of the United States' grid, by location: an assumption that holds for most of the published emissions."""


def kilowatts(chip: Chip) -> Interval | None:
    """All-in power of one chip in training, kW; None where no power is known of it."""
    if chip.tdp_w:
        return OF_DESIGN_POWER * (chip.tdp_w / 1000)
    return OF_PROVISIONED * chip.kw_all_in if chip.kw_all_in else None
