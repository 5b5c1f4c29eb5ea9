"""The subprocess's side of math_equivalence.py: one pair of answers, judged by math-verify in either direction.

Loaded by tasks/sandbox_worker.py, never imported by the package. Its own time limits are off: the sandbox has them.
"""

from __future__ import annotations

from typing import Any

from math_verify import parse, verify


def check(problem: Any, answer: str) -> bool:
    one, other = (parse(_mathematics(text), parsing_timeout=None) for text in (problem["gold"], answer))
    return any(verify(a, b, timeout_seconds=None) for a, b in ((one, other), (other, one)))


def _mathematics(text: str) -> str:
    """A bare formula between dollars, where math-verify looks for one."""
    return text if "$" in text or "\\boxed" in text else f"${text}$"
