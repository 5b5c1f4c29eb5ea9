"""The conversation's shape in ids: prompts for the engine and masked examples for training.

Models born here speak DeepSeek-R1's format; others speak what their own template says.

    <bos><User>question<Assistant><think>thinking</think>answer<eos>

The prompt opens the thinking itself, so generated text has no opening tag. Earlier thoughts are not repeated in later
turns. `TEMPLATE` says the same as a Jinja template for other people's software. In our format the names of special
tokens in a user's text stay plain text; through a foreign template they become those tokens, as they do elsewhere.
Not covered: system prompts in our own format, tools.

Loss is on what the model will have to write: the thinking, its closing tag, the answer and the end. Where the engine
will close the thinking (an answer at once, a budget that ran out), neither the cut thoughts nor the forced tag carry
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raison.errors import UserError
from raison.records import Demonstration
from raison.text.tokenizer import ASSISTANT, BOS, THINK_OPEN, USER, Tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `role` is "user" or "assistant", or another that a foreign template knows; an assistant's content is
    its answer without the thinking.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A document to train on; `mask[i]` is 1 where token i is to be predicted, 0 where it is only read."""

    ids: list[int]
    mask: list[int]


def prompt_ids(tokenizer: Tokenizer, question: str, history: Sequence[Turn] = ()) -> list[int]:
    """Ids ready to generate from; in our own format up to and with `<think>`."""
    turns = (*history, Turn("user", question))
    if tokenizer.template is not None:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        return tokenizer.encode(tokenizer.template.render(messages, add_generation_prompt=True))
    user, assistant, opening = map(tokenizer.special, (USER, ASSISTANT, THINK_OPEN))
    ids = [tokenizer.special(BOS)]
    for turn in turns:
        if turn.role == "user":
            ids += [user, *tokenizer.encode_user(turn.content)]
        elif turn.role == "assistant":
            ids += [assistant, *tokenizer.encode_user(turn.content), tokenizer.eos]
        else:
            raise UserError(f'this model\'s conversations have no role "{turn.role}"; there are: user, assistant')
    return [*ids, assistant, opening]


def thinking_close(tokenizer: Tokenizer) -> int:
    """The id of `</think>`; UserError for a model that has none."""
    if tokenizer.think_close is None:
        raise UserError("this model's vocabulary has no </think>; it cannot be trained on worked thinking")
    return tokenizer.think_close


def example(tokenizer: Tokenizer, question: str, demo: Demonstration) -> Example:
    """A whole demonstration, loss from the first thought on."""
    prompt = prompt_ids(tokenizer, question)
    body = [*tokenizer.encode(demo.thinking), thinking_close(tokenizer), *tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(prompt + body, [0] * len(prompt) + [1] * len(body))


def closed_example(tokenizer: Tokenizer, question: str, demo: Demonstration, keep: float) -> Example:
    """The answer after thinking cut to the share `keep` (0 = at once): loss on the answer alone."""
    thoughts = tokenizer.encode(demo.thinking)
    read = [*prompt_ids(tokenizer, question), *thoughts[: int(keep * len(thoughts))], thinking_close(tokenizer)]
    body = [*tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(read + body, [0] * len(read) + [1] * len(body))


def document(tokenizer: Tokenizer, text: str) -> Example:
    """Plain text between begin and end of sentence, loss on every token but the first."""
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    ids = [*start, *tokenizer.encode(text), tokenizer.eos]
    return Example(ids, [0] + [1] * (len(ids) - 1))
