"""The conversation's shape in ids: DeepSeek-R1's chat format, prompts for the engine and masked examples for training.

    <bos><User>question<Assistant><think>thinking</think>answer<eos>

The prompt opens the thinking itself, so generated text has no opening tag. Earlier thoughts are not repeated in later
turns. `TEMPLATE` says the same as a Jinja template for other people's software. Not covered: system prompts, tools.

Loss is on what the model will have to write: the thinking, its closing tag, the answer and the end. Where the engine
will close the thinking (an answer at once, a budget that ran out), neither the cut thoughts nor the forced tag carry
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raison.records import Demonstration
from raison.text.tokenizer import Tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `role` is "user" or "assistant"; an assistant's content is its answer without the thinking."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A document to train on; `mask[i]` is 1 where token i is to be predicted, 0 where it is only read."""

    ids: list[int]
    mask: list[int]


def prompt_ids(tokenizer: Tokenizer, question: str, history: Sequence[Turn] = ()) -> list[int]:
    """Ids up to and with `<think>`, ready to generate from."""
    ids = [tokenizer.bos]
    for turn in (*history, Turn("user", question)):
        if turn.role == "user":
            ids += [tokenizer.user, *tokenizer.encode_user(turn.content)]
        else:
            ids += [tokenizer.assistant, *tokenizer.encode_user(turn.content), tokenizer.eos]
    return [*ids, tokenizer.assistant, tokenizer.think_open]


def example(tokenizer: Tokenizer, question: str, demo: Demonstration) -> Example:
    """A whole demonstration, loss from the first thought on."""
    prompt = prompt_ids(tokenizer, question)
    body = [*tokenizer.encode(demo.thinking), tokenizer.think_close, *tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(prompt + body, [0] * len(prompt) + [1] * len(body))


def closed_example(tokenizer: Tokenizer, question: str, demo: Demonstration, keep: float) -> Example:
    """The answer after thinking cut to the share `keep` (0 = at once): loss on the answer alone."""
    thoughts = tokenizer.encode(demo.thinking)
    read = [*prompt_ids(tokenizer, question), *thoughts[: int(keep * len(thoughts))], tokenizer.think_close]
    body = [*tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(read + body, [0] * len(read) + [1] * len(body))


def document(tokenizer: Tokenizer, text: str) -> Example:
    """Plain text between begin and end of sentence, loss on every token but the first."""
    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
    return Example(ids, [0] + [1] * (len(ids) - 1))
