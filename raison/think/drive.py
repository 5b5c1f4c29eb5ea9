"""The one driver: carries a strategy's orders to a sampler and the sampler's events to the strategy, until it is over.

When a strategy has its outcome, or the caller goes away, all that still runs is cancelled; its end is heard before the
outcome is handed on, so that no branch outlives the drive and every sampled token is counted. Not covered: who samples
(engine_sampler.py, endpoint_sampler.py, the server's own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raison.engine.sequence import Event
from raison.think.strategy import Orders, Outcome, Sampler, Strategy

Heard = Sequence[tuple[int, Event]]


async def drive(
    strategy: Strategy, sampler: Sampler, on_events: Callable[[Heard], None] = lambda heard: None
) -> Outcome:
    """Run `strategy` to its outcome. `on_events` is told all that came, after the strategy has heard it."""
    running: set[int] = set()
    try:
        await _carry_out(strategy.begin(), sampler, running)
        over = False
        while running:
            heard = await sampler.events()
            running -= _ended(heard)
            for branch, event in heard:
                await _carry_out(strategy.hear(branch, event), sampler, running)
            on_events(heard)
            if not over and strategy.outcome is not None:
                over = True
                await sampler.cancel(sorted(running))
    except BaseException:
        await _abandon(sampler, running)
        raise
    outcome = strategy.outcome
    assert outcome is not None, "the strategy waits for a branch, but none is under way"
    return outcome


async def _carry_out(orders: Orders, sampler: Sampler, running: set[int]) -> None:
    if orders.cancel:
        await sampler.cancel([branch for branch in orders.cancel if branch in running])
    if orders.start:
        await sampler.start(orders.start)
        running.update(branch.number for branch in orders.start)


async def _abandon(sampler: Sampler, running: set[int]) -> None:
    """Cancel what runs and wait for its ends, which nobody wants to hear."""
    await sampler.cancel(sorted(running))
    while running:
        running -= _ended(await sampler.events())


def _ended(heard: Heard) -> set[int]:
    return {branch for branch, event in heard if event.finished is not None}
