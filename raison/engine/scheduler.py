"""Who computes what in the next step: continuous batching with chunked prefill, preemption.

Every running sequence that lacks one token decodes; those that lack more prefill in chunks, oldest first, within one
budget of tokens a step; then the waiting are admitted in the order they came. Samples of one prompt are admitted
together: the first computes the prompt, the others wait in their slots and hold its pages, then all sample from the
same logits. When pages run out the youngest sequence is put back to wait; what it had computed it keeps as far as there
is room outside the cache (swap.py), and computes the rest again later. The oldest can always have every page, and
nothing is accepted that would not fit alone, so that there is always progress.
Not covered: priorities, fairness by user.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from raison.engine.cache import PagePool, prefix_keys
from raison.engine.sequence import Sequence
from raison.engine.slots import Ints, Slots, as_rows
from raison.engine.swap import SwapRoom
from raison.errors import UserError


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens [start, stop) of the sequence in `slot`."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: pages to copy first, one after another, slots that compute their last token, chunks of longer runs."""

    copies: tuple[tuple[int, int], ...]
    decode: Ints
    chunks: tuple[Chunk, ...]
    checks: tuple[Chunk, ...]
    """Last tokens of slots that have drafts, and the drafts."""
    samples: Ints
    """Slots that receive a token after this step."""
    sources: Ints
    """For each of them, the slot whose last computed token gives its logits: its own, or the one it follows."""

    def stretches(self) -> Ints:
        """[slot, start, stop] of all that is more than a last token."""
        return as_rows([(c.slot, c.start, c.stop) for c in (*self.checks, *self.chunks)]).reshape(-1, 3)


class Scheduler:
    def __init__(self, slots: Slots, pool: PagePool, room: SwapRoom, page_size: int, prefill_chunk: int) -> None:
        self.slots, self.pool, self.room = slots, pool, room
        self.page_size, self.prefill_chunk = page_size, prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self.followers: dict[int, list[int]] = {}
        """Slot that computes a prompt -> slots that wait for it."""
        self.epoch = 0
        self.preemptions = self.cached = self.computed = 0
        self._empty = list(range(slots.capacity - 1, -1, -1))
        self._seated: Ints | None = None
        self._copies: list[tuple[int, int]] = []

    def schedule(self) -> Plan:
        self._copies = []
        ready = self._grow(self._lacking(one=True))
        drafted = self.slots.drafts[ready] > 0
        checks, decode = [self._check(slot) for slot in ready[drafted].tolist()], ready[~drafted]
        budget = self.prefill_chunk
        chunks: list[Chunk] = []
        for slot in self._lacking(one=False).tolist():
            budget -= self._chunk(slot, budget, chunks)
        while budget > 0 and self.waiting:
            slot = self._admit()
            if slot is None:
                break
            budget -= self._chunk(slot, budget, chunks)
        samples, sources = self._samples(ready, chunks)
        return Plan(tuple(self._copies), decode, tuple(chunks), tuple(checks), samples, sources)

    def commit(self, plan: Plan) -> None:
        """The plan was run: its tokens are in the cache, and followers whose prompt is complete are free to go."""
        slots = self.slots
        self.computed += int((slots.computed[plan.decode] < slots.prompt_length[plan.decode]).sum())
        slots.computed[plan.decode] += 1
        for check in plan.checks:
            slots.computed[check.slot] += 1  # and one more for every draft that proves right
        for chunk in plan.chunks:
            slots.computed[chunk.slot] = chunk.stop
            self.computed += max(0, min(chunk.stop, int(slots.prompt_length[chunk.slot])) - chunk.start)
            self._name_pages(chunk)
        if self.followers:
            for leader in [s for s in self.followers if slots.computed[s] == slots.length[s]]:
                self._unblock(leader, self.followers.pop(leader))

    def finish(self, slot: int) -> Sequence:
        """Take a sequence off the batch and give its pages back at once."""
        seq, self._seated = self.running.pop(slot), None
        self._inherit(slot)
        self.slots.save(slot, seq)
        self.pool.release(self.slots.blocks[slot, : self.slots.pages[slot]].tolist())
        self._empty.append(slot)
        return seq

    def steady(self) -> Ints | None:
        """Running slots, oldest first, while nobody waits for another's prompt or can be seated; else None.

        The same array as long as they are the same.
        """
        if self.followers or (self.waiting and self._empty):
            return None
        if self._seated is None:
            rows = as_rows(list(self.running))
            self._seated = rows[np.argsort(self.slots.order[rows])]
        return self._seated

    @contextmanager
    def borrowed(self, ids: Ordered[int]) -> Iterator[Plan]:
        """A plan that computes a whole text in a slot of its own, and wants the logits of all its tokens.

        Raises UserError where no slot or too few pages are free.
        """
        need = -(-len(ids) // self.page_size)
        if not self._empty or self.pool.available < need:
            raise UserError(f"{len(ids)} tokens do not fit beside what is running; wait, or raise cache_tokens")
        slots, slot = self.slots, self._empty.pop()
        pages = [page for page in (self.pool.take() for _ in range(need)) if page is not None]
        slots.tokens[slot, : len(ids)] = ids
        slots.blocks[slot, :need], slots.drafts[slot] = pages, len(ids) - 1
        nobody, one = as_rows([]), as_rows([slot])
        try:
            yield Plan((), nobody, (), (Chunk(slot, 0, len(ids)),), one, one)
        finally:
            slots.drafts[slot] = 0
            self.pool.release(pages)
            self._empty.append(slot)

    def _lacking(self, one: bool) -> Ints:
        """Slots that lack exactly one token in the cache, or more, oldest first."""
        slots = self.slots
        missing = slots.length - slots.computed
        rows = np.flatnonzero(slots.active & ~slots.blocked & ((missing == 1) if one else (missing > 1)))
        return rows[np.argsort(slots.order[rows])]

    def reserve(self, slot: int, drafts: int) -> int:
        """How many drafts after the next token have a place of the slot's own; pages are taken where they are not
        short.
        """
        slots, place = self.slots, int(self.slots.computed[slot])
        pages = int(slots.pages[slot])
        held = slots.blocks[slot, place // self.page_size : pages]
        if any(self.pool.references[page] > 1 for page in held.tolist()):
            return 0
        self.extend(slot, drafts)
        return max(0, min(drafts, int(slots.pages[slot]) * self.page_size - 1 - place))

    def extend(self, slot: int, ahead: int) -> None:
        """Take pages for so many places behind the next token's: as the text can reach and pages are not short."""
        slots = self.slots
        last = int(slots.prompt_length[slot] + slots.max_tokens[slot]) - 2
        need = min(int(slots.computed[slot]) + ahead, last) // self.page_size + 1
        while slots.pages[slot] < need and self.pool.available > len(self.running):
            page = self.pool.take()
            assert page is not None
            slots.blocks[slot, slots.pages[slot]] = page
            slots.pages[slot] += 1

    def _check(self, slot: int) -> Chunk:
        start = int(self.slots.computed[slot])
        return Chunk(slot, start, start + 1 + int(self.slots.drafts[slot]))

    def _samples(self, decode: Ints, chunks: list[Chunk]) -> tuple[Ints, Ints]:
        complete = np.concatenate((decode, as_rows([c.slot for c in chunks if c.stop == self.slots.length[c.slot]])))
        if not self.followers:
            return complete, complete
        pairs = [(follower, slot) for slot in complete.tolist() for follower in self.followers.get(slot, ())]
        samples, sources = as_rows(pairs).reshape(-1, 2).T
        return np.concatenate((complete, samples)), np.concatenate((complete, sources))

    def _grow(self, rows: Ints) -> Ints:
        """See that each row has a page of its own for its next token; the rows that are still running."""
        slots = self.slots
        place = slots.computed[rows] // self.page_size
        fresh = place >= slots.pages[rows]
        shared = self.pool.references[slots.blocks[rows, place]] > 1
        if self.followers:  # who computes a prompt for others writes into the page they share
            shared &= ~np.isin(rows, list(self.followers))
        short = rows[fresh | shared]
        for slot in short.tolist():
            if slots.active[slot]:
                self._own_page(slot)
        return rows[slots.active[rows]] if len(short) else rows

    def _own_page(self, slot: int) -> None:
        """A new page at the end, or a copy of the last one while others hold it too."""
        slots, place = self.slots, int(self.slots.computed[slot]) // self.page_size
        held = int(slots.blocks[slot, place]) if place < slots.pages[slot] else None
        while held is None or self.pool.references[held] > 1:
            page = self.pool.take()
            if page is not None:
                break
            victim = int(max(self.running, key=lambda s: self.running[s].id))
            self._preempt(victim)
            if victim == slot:
                return
        else:
            return
        if held is not None:
            self._copies.append((held, page))
            self.pool.release([held])
        slots.blocks[slot, place] = page
        slots.pages[slot] = max(int(slots.pages[slot]), place + 1)

    def _preempt(self, slot: int) -> None:
        self.preemptions += 1
        seq, computed = self.running[slot], int(self.slots.computed[slot])
        seq.swapped, copies = self.room.keep(self._own_pages(slot, computed), computed, self.page_size)
        self._copies += copies
        self.waiting.appendleft(self.finish(slot))

    def _own_pages(self, slot: int, computed: int) -> dict[int, int]:
        """Pages of computed tokens by their number, but for what others hold and keep findable by name."""
        pages = self.slots.blocks[slot, : -(-computed // self.page_size)].tolist()
        named = self.pool.find(self.running[slot].keys)
        held = [self.pool.references[page] > (page == own) for page, own in zip(named, pages, strict=False)]
        return {index: page for index, page in enumerate(pages) if not (index < len(held) and held[index])}

    def withdraw(self, seq: Sequence) -> None:
        """Take a waiting sequence out of the line."""
        self.waiting.remove(seq)
        if seq.swapped is not None:
            self.room.give_up(seq.swapped)

    def _chunk(self, slot: int, budget: int, chunks: list[Chunk]) -> int:
        start, length = int(self.slots.computed[slot]), int(self.slots.length[slot])
        stop = min(length, start + budget)
        if stop > start:
            chunks.append(Chunk(slot, start, stop))
        return stop - start

    def _admit(self) -> int | None:
        """Seat the first of the waiting, with the samples of the same prompt behind it; None when it must wait."""
        seq, slots = self.waiting[0], self.slots
        length = len(seq.prompt) + len(seq.generated)
        seq.keys = prefix_keys(seq.prompt, self.page_size, self.epoch, seq.tenant)
        found = self.pool.find(seq.keys[: (length - 1) // self.page_size])
        self.pool.share(found)
        need = -(-length // self.page_size) - len(found)
        if not self._empty or self.pool.available < need + len(self.running):
            self.pool.release(found)
            return None
        slot = self._seat(found)
        own = [page for page in (self.pool.take() for _ in range(need)) if page is not None]
        slots.blocks[slot, len(found) : len(found) + need] = own
        slots.pages[slot] = len(found) + need
        slots.computed[slot] = self._restored(slot, seq, len(found))
        slots.followed[slot] = len(found) * self.page_size
        self._count_cached(seq, len(found) * self.page_size)
        if not seq.generated:
            self._seat_followers(slot, seq.group)
        return slot

    def _restored(self, slot: int, seq: Sequence, found: int) -> int:
        """Tokens of a newly seated sequence that need not be computed."""
        if seq.swapped is None:
            return found * self.page_size
        blocks = self.slots.blocks[slot].tolist()
        tokens, copies = self.room.restore(seq.swapped, blocks, found, self.page_size)
        seq.swapped = None
        self._copies += copies
        return tokens

    def _seat(self, pages: list[int]) -> int:
        seq, slot = self.waiting.popleft(), self._empty.pop()
        self.slots.load(slot, seq)
        self.slots.blocks[slot, : len(pages)] = pages
        self.slots.pages[slot] = len(pages)
        self.running[slot], self._seated = seq, None
        return slot

    def _seat_followers(self, leader: int, group: int) -> None:
        pages = self.slots.blocks[leader, : self.slots.pages[leader]].tolist()
        while self.waiting and self.waiting[0].group == group and not self.waiting[0].generated:
            if not self._empty or self.pool.available < len(self.running) + 1:
                return
            seq = self.waiting[0]
            self.pool.share(pages)
            seq.keys = self.running[leader].keys
            slot = self._seat(pages)
            self.slots.blocked[slot] = True
            self.followers.setdefault(leader, []).append(slot)
            self._count_cached(seq, len(seq.prompt))

    def _count_cached(self, seq: Sequence, tokens: int) -> None:
        if seq.cached is None:
            seq.cached = tokens
            self.cached += tokens

    def _name_pages(self, chunk: Chunk) -> None:
        keys = self.running[chunk.slot].keys
        for index in range(chunk.start // self.page_size, min(chunk.stop // self.page_size, len(keys))):
            self.pool.name(int(self.slots.blocks[chunk.slot, index]), keys[index])

    def _unblock(self, leader: int, followers: list[int]) -> None:
        rows = as_rows(followers)
        self.slots.computed[rows] = self.slots.followed[rows] = self.slots.computed[leader]
        self.slots.blocked[rows] = False

    def _inherit(self, slot: int) -> None:
        """A slot is given up: if others waited for its prompt, the first of them goes on computing it."""
        for waiting in self.followers.values():
            if slot in waiting:
                waiting.remove(slot)
        heirs = self.followers.pop(slot, [])
        if heirs:
            heir, *rest = heirs
            self._unblock(slot, [heir])
            if rest:
                self.followers[heir] = rest
