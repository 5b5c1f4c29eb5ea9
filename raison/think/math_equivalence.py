"""Algebra in answers: `math-verify` (the extra `math`) asked about pairs that our own forms tell apart.

`x^2 + 2x + 1` and `(x+1)^2`, `\\sqrt{8}` and `2\\sqrt{2}`. It reads with SymPy, which evaluates what a model wrote: so
it runs in the sandbox of tasks/ with limits of time and memory, and a pair that exceeds them counts as different. Its
judgement of a pair depends on which is called the gold answer; here either way suffices. A question takes milliseconds
as a rule and `LIMITS.seconds` at worst, for which the caller waits: a server asks off its event loop, or leaves it out.
Not covered: transitivity; an answer joins the first class whose first answer it matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from raison.errors import CheckerError, UserError
from raison.tasks.sandbox import Limits, Sandbox
from raison.think.equivalence import form

_WORKER = Path(__file__).with_name("math_worker.py")
LIMITS = Limits(seconds=3.0, load_seconds=60.0, memory_bytes=1 << 30)
_MOST_CHARS = 2048


def installed() -> bool:
    return find_spec("math_verify") is not None


class MathVerify:
    """An Equivalence. Its subprocess starts with the first question and ends with `close`, or with the object."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        if not installed():
            raise UserError("comparing mathematics needs math-verify: pip install 'raison[math]'")
        self._sandbox = Sandbox(f"{_WORKER}:check", limits)
        self._same = lru_cache(maxsize=4096)(self._ask)

    def find(self, answer: str, known: Sequence[str]) -> int | None:
        wanted = form(answer)
        same = next((i for i, text in enumerate(known) if form(text) == wanted), None)
        if same is not None:
            return same
        return next((i for i, text in enumerate(known) if self._same(*sorted((text, answer)))), None)

    def close(self) -> None:
        self._sandbox.close()

    def _ask(self, one: str, other: str) -> bool:
        if max(len(one), len(other)) > _MOST_CHARS:
            return False
        try:
            correct, _ = self._sandbox.call("check", [{"prompt": "", "gold": one, "meta": {}}, other])
        except CheckerError:
            return False  # too slow, too large, or not to be read: a failed comparison is no agreement
        return bool(correct)
