"""The one rule that keeps held-out problems out of training: a tenth of all problems, chosen by content, for ever.

A problem's side depends on nothing but its own text, so train and held-out sets stay disjoint across seeds, runs,
machines and stages. Not covered: near-duplicates; a task passes a key in which equal problems are equal
(numbers sorted, for instance).
"""

from __future__ import annotations

import hashlib

ONE_IN = 10


def is_held_out(key: str) -> bool:
    """True for one key in ten, by the first eight bytes of its SHA-256."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % ONE_IN == 0
