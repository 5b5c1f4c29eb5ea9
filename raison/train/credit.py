"""Credit: from rewards to the advantage of each sample. Pure functions, no state.

Group-relative advantages as in GRPO (Shao et al. 2024, arXiv 2402.03300, equation for outcome supervision in section
4.1.2), with the choices of scale that TRL offers: by the group's deviation, by the batch's, or by none (Dr. GRPO, Liu
et al. 2025, arXiv 2503.20783: dividing by the deviation over-weights problems that are nearly always or nearly never
solved).

Differs from the paper: the deviation is the sample one (ddof = 1) and 1e-4 is added to it, as TRL does; a NaN reward
means "could not be scored" and gives advantage 0 without disturbing its group. Not covered: how rewards are made,
refilling dead groups, per-token (process) rewards, several rewards per sample.

Legend: P problems (groups), G samples of each.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from raison.errors import UserError

Scale = Literal["group", "batch", "none"]

DEVIATION_FLOOR = 1e-4
DEAD_RANGE = 1e-6


def advantages(rewards_PG: Tensor, scale: Scale = "group") -> Tensor:
    """A = (r - mean of the group) / (deviation + 1e-4), or without the division when `scale` is "none".

    rewards_PG: [P, G] float; NaN marks a sample that could not be scored. Returns [P, G], of the same dtype, finite;
    0 for NaN rewards and wherever fewer than two samples leave the deviation undefined.
    """
    assert rewards_PG.ndim == 2, f"rewards must be [problems, samples], not {tuple(rewards_PG.shape)}"
    centred_PG = rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)
    if scale == "group":
        centred_PG = centred_PG / (_sample_deviation(rewards_PG) + DEVIATION_FLOOR)
    elif scale == "batch":
        centred_PG = centred_PG / (_sample_deviation(rewards_PG.reshape(1, -1)) + DEVIATION_FLOOR)
    return centred_PG.nan_to_num(nan=0.0)


def _sample_deviation(rewards_PG: Tensor) -> Tensor:
    """Per row, ddof = 1, over the entries that are not NaN; [P, 1]. NaN where fewer than two are left."""
    scored_P1 = (~rewards_PG.isnan()).sum(dim=1, keepdim=True)
    centred_PG = rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)
    return (centred_PG.square().nansum(dim=1, keepdim=True) / (scored_P1 - 1)).sqrt()


def dead_groups(rewards_PG: Tensor) -> Tensor:
    """[P] bool: groups that teach nothing because all their scored rewards are equal (max - min <= 1e-6).

    By the range, because a deviation of equal rewards can come out just above 0. A group with fewer than two scored
    samples is dead too. Dynamic sampling (DAPO, Yu et al. 2025, arXiv 2503.14476, section 3.2) replaces these.
    """
    highest_P = rewards_PG.nan_to_num(nan=-torch.inf).amax(dim=1)
    lowest_P = rewards_PG.nan_to_num(nan=torch.inf).amin(dim=1)
    return (highest_P - lowest_P) <= DEAD_RANGE


def overlong_penalty(length: int, limit: int, cache: int) -> float:
    """What to add to the reward of a completion of `length` tokens: 0 up to limit - cache, then linear down to -1 at
    `limit`.

    Soft overlong punishment, DAPO (arXiv 2503.14476) equation 13. `cache` is the width of the soft zone in tokens; 0
    punishes only what used up the limit. Raises UserError when the zone does not fit into the limit.
    """
    if not 0 <= cache <= limit:
        raise UserError(f"an overlong zone of {cache} tokens does not fit a limit of {limit}; give 0 to {limit}")
    if length >= limit:
        return -1.0
    return -max(0, length - (limit - cache)) / max(cache, 1)
