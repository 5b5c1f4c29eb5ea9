"""The conversation's shape in ids: prompts for the engine and masked examples for training.

Models born here speak DeepSeek-R1's format; others speak what their own template says.

    <bos><User>question<Assistant><think>thinking</think>answer<eos>

The prompt opens the thinking itself, so generated text has no opening tag. Earlier thoughts are not repeated in later
turns. `TEMPLATE` says the same as a Jinja template for other people's software. In our format the names of special
tokens in a user's text stay plain text; through a foreign template they become those tokens, as they do elsewhere.
Not covered: system prompts in our own format, tools.

Loss is on what the model will have to write: the thinking, its closing tag, the answer and the end. Where the engine
will close the thinking (an answer at once, a budget that ran out), neither the cut thoughts nor the forced tag carry
loss. Through a foreign template the assistant's part is what rendering one message more adds to the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer as Backend

from raison.errors import UserError
from raison.records import Demonstration
from raison.text.tokenizer import ASSISTANT, BOS, FORMAT, THINK_CLOSE, THINK_OPEN, USER, Tokenizer

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


def is_ours(backend: Backend, template: object) -> bool:
    """Whether a vocabulary speaks our format: its template is ours, or it has none but knows every token of it."""
    return template in (None, TEMPLATE) and all(backend.token_to_id(token) is not None for token in FORMAT)


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


def thinks(tokenizer: Tokenizer) -> bool:
    """Whether a prompt opens the thinking, which the engine will then bound and close."""
    return tokenizer.think_open is not None and bool(tokenizer.ends_thinking_open(prompt_ids(tokenizer, "")))


def thinking_close(tokenizer: Tokenizer) -> int:
    """The id of `</think>`; UserError for a model that has none."""
    if tokenizer.think_close is None:
        raise UserError("this model's vocabulary has no </think>; it cannot be trained on worked thinking")
    return tokenizer.think_close


def example(tokenizer: Tokenizer, question: str, demo: Demonstration, history: Sequence[Turn] = ()) -> Example:
    """A whole demonstration, loss from the first thought on."""
    prompt = prompt_ids(tokenizer, question, history)
    body = [*tokenizer.encode(demo.thinking), thinking_close(tokenizer), *tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(prompt + body, [0] * len(prompt) + [1] * len(body))


def closed_example(
    tokenizer: Tokenizer, question: str, demo: Demonstration, keep: float, history: Sequence[Turn] = ()
) -> Example:
    """The answer after thinking cut to the share `keep` (0 = at once): loss on the answer alone."""
    thoughts = tokenizer.encode(demo.thinking)
    read = [
        *prompt_ids(tokenizer, question, history),
        *thoughts[: int(keep * len(thoughts))],
        thinking_close(tokenizer),
    ]
    body = [*tokenizer.encode(demo.answer), tokenizer.eos]
    return Example(read + body, [0] * len(read) + [1] * len(body))


def document(tokenizer: Tokenizer, text: str) -> Example:
    """Plain text between begin and end of sentence, loss on every token but the first."""
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    ids = [*start, *tokenizer.encode(text), tokenizer.eos]
    return Example(ids, [0] + [1] * (len(ids) - 1))


def conversation(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[Example]:
    """Documents to train on a conversation, loss on the assistant's messages and what ends them.

    Through a template it is one document. In our own format, which leaves earlier thoughts out of later prompts, each
    answer is one; an assistant's `thoughts</think>answer` is then trained with its thoughts, a bare answer as one
    given at once. Raises UserError for a conversation without an answer, or one that the template writes otherwise
    when it goes on, as templates do that drop earlier thoughts.
    """
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise UserError("no message has the role assistant; there is nothing to learn")
    if tokenizer.template is not None:
        return [_templated(tokenizer, turns[: answers[-1] + 1], answers)]
    return [_own(tokenizer, turns[: i + 1]) for i in answers]


def _own(tokenizer: Tokenizer, turns: Sequence[Turn]) -> Example:
    """One answer after what came before it."""
    if len(turns) < 2 or turns[-2].role != "user":
        raise UserError("an assistant's message must follow a user's in this model's conversations")
    *earlier, asked, answer = turns
    history = [Turn(turn.role, turn.content.split(THINK_CLOSE)[-1]) for turn in earlier]
    thinking, closed, said = answer.content.removeprefix(THINK_OPEN).rpartition(THINK_CLOSE)
    demo = Demonstration(thinking, said)
    if closed:
        return example(tokenizer, asked.content, demo, history)
    return closed_example(tokenizer, asked.content, demo, 0.0, history)


def _templated(tokenizer: Tokenizer, turns: Sequence[Turn], answers: Sequence[int]) -> Example:
    """The whole conversation; each answer is what stands between its prompt and the token that ends it."""
    template = tokenizer.template
    assert template is not None
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]

    def ids(count: int, prompt: bool) -> list[int]:
        return tokenizer.encode(template.render(messages[:count], add_generation_prompt=prompt))

    known: list[int] = []
    mask: list[int] = []
    for i in answers:
        prompt, whole = ids(i, prompt=True), ids(i + 1, prompt=False)
        if prompt[: len(known)] != known or whole[: len(prompt)] != prompt:
            raise UserError(
                f"the chat template writes what comes before message {i + 1} otherwise once it is there, so that no "
                "part can be told to be the assistant's; strip the message of blanks and line breaks at its beginning, "
                "cut the conversation before it, or use a simpler template"
            )
        spoken = _until_stop(whole[len(prompt) :], tokenizer.stops)
        mask += [0] * (len(prompt) - len(known)) + [1] * spoken + [0] * (len(whole) - len(prompt) - spoken)
        known = whole
    return Example(known, mask)


def _until_stop(ids: Sequence[int], stops: frozenset[int]) -> int:
    """How many up to the last token that ends an answer: what a template writes after it is nobody's to predict."""
    return next((len(ids) - i for i, token in enumerate(reversed(ids)) if token in stops), len(ids))
