"""Continuous batching: what a step takes when requests come and go, and how long the first token is waited for.

In a closed loop of c streams each finished answer makes room for a prompt, so that a step of B sequences carries
(B-1)/OSL prompts of others (chunks of prompts ride along with decoding: Agrawal et al., Sarathi-Serve,
arXiv:2403.02310):

    TPOT = step(B) + (B - 1) / OSL x prefill(ISL)      whose weights the step has read already
    TTFT = fixed + prefill x (stages + queue x (B - 1)) + step / 2   and the wait for room where c > what memory holds

In an open loop prompts arrive at a rate; above RHO of what the instance can do, waiting times depend on the last
per cent of its speed, and no figure is given (answer.py: saturated). Not covered: bursts, priorities, prefixes
shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from raison.errors import UserError
from raison.plan.roofline import Time, prefill_time, riding_time, step_time
from raison.plan.setup import Setup

RHO = 0.9
"""Load above which a queue's length follows from errors of the prediction rather than from it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of one instance; lengths in tokens."""

    isl: float
    osl: float
    streams: float
    """Requests at once."""
    tokens_a_step: float = 1.0
    """Tokens that a sequence gets in a step: above 1 where guesses are accepted."""
    known: float = 0.0
    """Share of a prompt that the cache knows."""

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_a_step < inf:
            said = f"{self.tokens_a_step:g} tokens a step (--guess) make no sense"
            raise UserError(f"{said}: without guesses a step yields 1, and more where guesses are accepted")


@dataclass(frozen=True, slots=True)
class Speed:
    """What comes of it. Seconds."""

    tpot: float
    ttft: float
    batch: float
    """Sequences in a step."""
    step: Time
    """A step with the prompts that ride along."""
    waiting: bool
    """Whether streams wait for room in the cache."""

    def request(self, osl: float) -> float:
        """Seconds of a request from its arrival to its last token."""
        return self.ttft + max(osl - 1, 0) * self.tpot


def closed_loop(setup: Setup, load: Load, room: float) -> Speed:
    """The speed of an instance whose cache has room for `room` sequences."""
    batch = max(1.0, min(load.streams, room))
    prompt = prefill_time(setup, load.isl, load.known)
    alone = step_time(setup, batch, load.isl + load.osl / 2, ceil(load.tokens_a_step) - 1)
    step = alone.plus(riding_time(setup, load.isl, load.known, (batch - 1) / load.osl * load.tokens_a_step, batch))
    c = setup.constants
    tpot = step.total / load.tokens_a_step
    ttft = c.first_ms * 1e-3 + prompt.total * (setup.layout.pp + c.queue * (batch - 1)) + alone.total / 2
    waiting = load.streams > room
    if waiting:  # Little's law: all streams x the time that a place in the batch is taken for each
        ttft += (load.streams / batch - 1) * (ttft + load.osl * tpot)
    return Speed(tpot, ttft, batch, step, waiting)
