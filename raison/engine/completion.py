"""From an ended sequence to the record callers get: ids split at the first `</think>`, text decoded, ids counted.

Cut-off thoughts never become an answer; a second `</think>` is plain text of the answer. Not covered: text while it is
being generated (text/reasoning.py).
"""

from __future__ import annotations

import time

from raison.engine.sequence import Sequence
from raison.records import Completion, FinishReason
from raison.text.reasoning import first_stop
from raison.text.tokenizer import Tokenizer


def completion_of(seq: Sequence, reason: FinishReason, tokenizer: Tokenizer) -> Completion:
    """The record of a sequence that has left the batch; `reason` says why it ended."""
    ids = seq.generated
    ended = bool(ids) and ids[-1] in tokenizer.stops
    spoken = len(ids) - ended
    thought = (spoken if seq.closed_at < 0 else seq.closed_at - 1) if seq.thinks else 0
    begin = spoken if seq.closed_at < 0 else seq.closed_at
    thinking, tag, answer = (tokenizer.decode(part) for part in (ids[:thought], ids[thought:begin], ids[begin:spoken]))
    answer = answer[: first_stop(answer, seq.params.stop)]
    now = time.perf_counter()
    first = (seq.first_token or now) - seq.submitted
    return Completion(
        text=thinking + tag + answer, thinking=thinking, answer=answer,
        token_ids=tuple(ids), logprobs=tuple(seq.logprobs), finish_reason=reason,
        prompt_tokens=len(seq.prompt), cached_tokens=seq.cached or 0,
        thinking_tokens=thought, answer_tokens=spoken - begin, forced_close=seq.forced,
        seed=seq.seed, first_token_seconds=first, seconds=now - seq.submitted,
    )  # fmt: skip
