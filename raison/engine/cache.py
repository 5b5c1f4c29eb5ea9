"""The paged latent cache: who holds which page, which pages hold a known prefix, and the numbers themselves.

A page is `page_size` tokens of every layer. Pages are counted by reference: samples of one prompt hold the same
pages, and only a page that somebody would write while others read it is copied. A full page of a prompt is named by a
hash of everything up to its end (the chain of vLLM's automatic prefix caching), so that other requests find it; a
page nobody holds keeps its content until the room is needed, least recently used first. Page 0 is nobody's: rows that
only pad a batch write there. The order of the numbers within a page is its runner's business. Not covered: what a
token's line is kept as (line.py).

Legend: Z layers, G pages, P page size, M elements of a line, T = G*P tokens.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from raison.engine.device import CPU
from raison.engine.line import LineForm
from raison.engine.swap import SwapRoom
from raison.model.memory import lazy_zeros


class PagePool:
    """Reference counts and names of pages 1 ... count; plain Python, no numbers of the model."""

    def __init__(self, count: int) -> None:
        self.total = count
        self.references = np.zeros(count + 1, np.int64)
        self._free = list(range(count, 0, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Named pages that nobody holds, least recently used first."""
        self._page_of: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        return len(self._free) + len(self._idle)

    def take(self) -> int | None:
        """A page of one's own; None when every page is held."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._page_of[self._name_of.pop(page)]
        else:
            return None
        self.references[page] = 1
        return page

    def share(self, pages: Iterable[int]) -> None:
        for page in pages:
            self.references[page] += 1
            self._idle.pop(page, None)

    def release(self, pages: Iterable[int]) -> None:
        for page in pages:
            self.references[page] -= 1
            assert self.references[page] >= 0, f"page {page} released more often than taken"
            if self.references[page] == 0:
                if page in self._name_of:
                    self._idle[page] = None
                else:
                    self._free.append(page)

    def name(self, page: int, key: bytes) -> None:
        """Make a full page findable; the first page of a name keeps it."""
        if key not in self._page_of and page not in self._name_of:
            self._page_of[key] = page
            self._name_of[page] = key

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """Pages of the longest known prefix, in order. They are not held yet: `share` them."""
        pages = []
        for key in keys:
            if key not in self._page_of:
                break
            pages.append(self._page_of[key])
        return pages

    def forget(self) -> None:
        """Drop every name: the weights that computed these pages are no more."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._page_of.clear()
        self._name_of.clear()


def prefix_keys(ids: Sequence[int], page_size: int, epoch: int, tenant: str = "") -> list[bytes]:
    """A name for each full page of `ids`: BLAKE2b over the name before it and the page's ids.

    `epoch` tells weights apart, and `tenant` those who must not notice what others have asked.
    """
    keys, key = [], hashlib.blake2b(epoch.to_bytes(8, "little") + tenant.encode(), digest_size=16).digest()
    for start in range(0, len(ids) - page_size + 1, page_size):
        page = np.asarray(ids[start : start + page_size], np.int64).tobytes()
        key = hashlib.blake2b(key + page, digest_size=16).digest()
        keys.append(key)
    return keys


class LatentCache:
    """The lines, [Z, G+1, P, M], and their pool; behind them those of the swap room, in ordinary memory."""

    def __init__(
        self, layers: int, pages: int, page_size: int, form: LineForm, device: torch.device = CPU, swap_pages: int = 0
    ) -> None:
        self.page_size, self.form = page_size, form
        self.pool = PagePool(pages)
        self.room = SwapRoom(pages + 1, swap_pages)
        shape, dtype = (layers, pages + 1, page_size, form.elements), form.dtype
        self.latents_ZGPM = (
            lazy_zeros(shape, dtype) if device == CPU else torch.zeros(shape, dtype=dtype, device=device)
        )
        self._swapped_ZGPM = lazy_zeros((layers, swap_pages, page_size, form.elements), dtype)
        self.beside: LatentCache | None = None
        """A draft model's, whose pages go by the same numbers; it has no room for swapping."""

    @property
    def nbytes(self) -> int:
        """All there is ever to be, with the cache beside it."""
        own = self.latents_ZGPM.nbytes + self._swapped_ZGPM.nbytes
        return own if self.beside is None else own + self.beside.nbytes

    def layer_tokens(self, layer: int) -> Tensor:
        """[T, M]: token t of page g stands at g * P + t."""
        return self.latents_ZGPM[layer].flatten(0, 1)

    def layer_pages(self, layer: int) -> Tensor:
        """[G, P*M]: one page per row."""
        return self.latents_ZGPM[layer].flatten(1)

    def copy(self, source: int, target: int) -> None:
        self._page(target).copy_(self._page(source))
        if self.beside is not None and max(source, target) < self.latents_ZGPM.shape[1]:
            self.beside.copy(source, target)

    def _page(self, number: int) -> Tensor:
        own = self.latents_ZGPM.shape[1]
        return self.latents_ZGPM[:, number] if number < own else self._swapped_ZGPM[:, number - own]
