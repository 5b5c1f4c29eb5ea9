"""What a server allows and how it speaks: plain numbers, the same for every request.

Not covered: what a key may use (limits.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from raison.errors import UserError

ReasoningField = Literal["reasoning_content", "reasoning", "both"]


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Limits of one request, of what may wait, and of time in seconds. Raises UserError that names the field."""

    reasoning_field: ReasoningField = "reasoning_content"
    """What an answer's thinking is called: DeepSeek's name, vLLM's and OpenRouter's, or both."""
    max_body_bytes: int = 4 << 20
    body_seconds: float = 60.0
    """In which a body must have come."""
    max_choices: int = 64
    """`n`, and the samples of a strategy."""
    max_stops: int = 16
    max_stop_characters: int = 256
    max_schema_bytes: int = 64 << 10
    max_biases: int = 1024
    queued_requests: int = 512
    """Requests that wait for their turn; one more is answered 429."""
    queued_tokens: int = 1 << 20
    """Tokens, prompts and the most they may generate, that wait."""
    deadline_seconds: float = 600.0
    """From arrival to the last token, waiting included."""
    drain_seconds: float = 30.0
    """How long answers under way may go on after SIGTERM."""
    runs: Path | None = None
    """A folder of training runs that callers may look at."""
    keep_alive_seconds: float = 15.0
    """A stream on which nothing was said for so long gets a comment, so that nobody between closes it."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:  # NaN is neither
                raise UserError(f"{name} is {value}; it must be above 0")
        if self.reasoning_field not in get_args(ReasoningField):
            known = ", ".join(get_args(ReasoningField))
            raise UserError(f'reasoning_field is "{self.reasoning_field}"; it must be one of: {known}')
