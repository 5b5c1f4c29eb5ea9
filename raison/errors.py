"""The one error policy: what is the user's fault, what is ours, what is only data.

* A user's mistake raises `UserError` (or a subclass): the text names what was wrong and how to mend it. The command
  line
  prints it on one line without a traceback and ends with exit code 2; a server answers 4xx.
* A broken invariant of ours is an `assert` or any other exception: it keeps its traceback and ends with exit code 1.
* A failed sample (truncated, malformed, rejected by the checker) is data: it is recorded in a Verdict, never raised.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what, and how to mend it."""


class ProblemError(UserError):
    """A problem that is malformed or cannot be solved."""


class CheckpointError(UserError):
    """A file of weights or state that is missing, damaged or of another shape."""


class CheckerError(UserError):
    """A user's checker that cannot be loaded, raises, loops or answers with something else than a verdict."""


class NumericalError(UserError):
    """Training produced NaN or infinity; the last good state was kept."""


class InfeasibleError(UserError):
    """What was asked for is understood and cannot be: the answer is no, and the message says by how much."""

    exit_code = 1


LISTED = 20
"""Names that a hint has room for."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that helps with a misspelt name: `did you mean "x"?`, or what there is, a long list cut."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f'did you mean "{close[0]}"?'
    more = f" and {len(known) - LISTED} others" if len(known) > LISTED else ""
    return f"there is: {', '.join(known[:LISTED])}{more}"
