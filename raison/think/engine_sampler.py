"""Branches drawn by an Engine in this process; any number of drives share one engine and its steps.

    steps = SharedSteps(engine)
    await asyncio.gather(*(drive(strategy, steps.sampler(ids, params)) for ...))

A step is taken when every drive that was told something has answered it, so that no branch is sampled on after its
strategy has cancelled it. One event loop, one thread. Not covered: an engine with a thread of its own (the server's).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from raison.engine.sequence import Event, SamplingParams, sample_seed
from raison.errors import UserError
from raison.think.strategy import Branch

if TYPE_CHECKING:
    from raison.engine.engine import Engine


class SharedSteps:
    """Takes an engine's steps and hands each event to the sampler that started its sequence."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.owners: dict[int, EngineSampler] = {}
        self._turn: asyncio.Task[None] | None = None

    def sampler(self, prompt_ids: Sequence[int], params: SamplingParams, tenant: str = "") -> EngineSampler:
        return EngineSampler(self.engine, prompt_ids, params, tenant, self)

    async def turn(self) -> None:
        """Wait for the next step, which all that wait share."""
        if self._turn is None or self._turn.done():
            self._turn = asyncio.get_running_loop().create_task(self._step())
        await asyncio.shield(self._turn)

    async def _step(self) -> None:
        await asyncio.sleep(0)  # those who were told something have not all answered yet
        for event in self.engine.step():
            owner = self.owners.get(event.sequence_id)
            if owner is not None:
                owner.told(event)


class EngineSampler:
    """One prompt's branches. Sample i has the seed that the engine gives sample i of a request with `params`."""

    def __init__(
        self, engine: Engine, prompt_ids: Sequence[int], params: SamplingParams, tenant: str = "",
        steps: SharedSteps | None = None,
    ) -> None:  # fmt: skip
        self._engine, self._steps = engine, steps or SharedSteps(engine)
        self._prompt, self._params, self._tenant = tuple(prompt_ids), params, tenant
        self._sequences: dict[int, int] = {}
        """Branch -> sequence, while it runs."""
        self._branches: dict[int, int] = {}
        self._heard: deque[tuple[int, Event]] = deque()

    async def start(self, branches: Sequence[Branch]) -> None:
        if branches == tuple(map(Branch, range(len(branches)))):  # as the engine itself numbers: one prompt computed
            self._own(branches, self._engine.submit(self._prompt, self._params, len(branches), self._tenant))
            return
        for branch in branches:
            prompt, params = self._prompt + branch.prefix, branch_params(self._params, branch, self._engine)
            self._own([branch], self._engine.submit(prompt, params, 1, self._tenant))

    async def cancel(self, branches: Sequence[int]) -> None:
        for branch in branches:
            if branch in self._sequences:
                self._engine.cancel(self._sequences[branch])

    async def events(self) -> Sequence[tuple[int, Event]]:
        while not self._heard:
            await self._steps.turn()
        heard = tuple(self._heard)
        self._heard.clear()
        return heard

    def told(self, event: Event) -> None:
        """An event of one of its sequences, from SharedSteps."""
        branch = self._branches[event.sequence_id]
        self._heard.append((branch, event))
        if event.finished is not None:
            del self._steps.owners[event.sequence_id], self._branches[event.sequence_id], self._sequences[branch]

    def _own(self, branches: Sequence[Branch], sequences: Sequence[int]) -> None:
        for branch, sequence in zip(branches, sequences, strict=True):
            self._sequences[branch.number], self._branches[sequence] = sequence, branch.number
            self._steps.owners[sequence] = self


def branch_params(params: SamplingParams, branch: Branch, engine: Engine) -> SamplingParams:
    """A branch's own seed, and what its prefix has left of the limits.

    Raises UserError where a prefix meets a grammar, whose state it does not carry.
    """
    params = replace(params, seed=sample_seed(params.seed, branch.number))
    used = len(branch.prefix)
    if not used and branch.max_tokens is None:
        return params
    if params.grammar is not None and used:
        raise UserError("search goes on from the middle of an answer, where a schema or regex cannot; use a vote")
    left = max(1, params.max_tokens - used)
    most = left if branch.max_tokens is None else min(left, branch.max_tokens)
    limits = {"max_tokens": most, "min_tokens": min(most, max(0, params.min_tokens - used))}
    close = engine.tokenizer.think_close
    thought = branch.prefix.index(close) if close in branch.prefix else used
    if params.thinking_budget is not None:
        limits["thinking_budget"] = max(0, params.thinking_budget - thought)
    limits["min_thinking"] = min(max(0, params.min_thinking - thought), limits.get("thinking_budget", most))
    if thought < used:
        limits["answer_tokens"] = max(1, params.answer_tokens - (used - thought - 1))
    return replace(params, **limits)  # type: ignore[arg-type]  # all of them are whole numbers
