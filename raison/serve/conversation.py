"""From messages to the ids that the engine goes on from, by the model's own format or its chat template.

Our own format has users and assistants only. What a system message says is put in front of the first user's message, as
DeepSeek advises for R1. Earlier thoughts are left out of the prompt, by our format and by most templates; `prefix` in
the last message, the assistant's, lets the answer go on from there, behind its `reasoning_content` as the thinking.
Templates of models that open the thinking themselves when they are not told otherwise (Qwen3) are told by their switch
`enable_thinking`; the tag is then written into the prompt, so that the budget holds for them too. Not covered: images
and sounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from raison.serve.mistake import Mistake
from raison.serve.protocol import Message
from raison.serve.tool_forms import ToolForm, described, form_of, shows_tools
from raison.text.chat import Turn, prompt_ids
from raison.text.template import ChatTemplate
from raison.text.tokenizer import Tokenizer

ARGUMENTS_TAKEN_APART = re.compile(r"arguments['\"]?\]?\s*\|\s*(?:tojson|items)")
SYSTEM = ("system", "developer")
RESERVED = frozenset(("self", "messages", "add_generation_prompt", "tools", "bos_token", "eos_token"))


def chat_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool = True,
    variables: Mapping[str, Any] | None = None,
) -> list[int]:
    """Ids of a conversation, ready to generate from. Raises Mistake, or UserError with a template's own words.

    Args:
        thinking: False asks a template not to open the thinking; in our format the engine closes it at once.
        variables: more that a template may read (chat_template_kwargs).
    """
    *_, last = messages
    prefix = last if last.prefix and last.role == "assistant" else None
    said = messages[:-1] if prefix is not None else messages
    if tokenizer.template is None:
        ids = _own(tokenizer, said)
    else:
        ids = _templated(tokenizer, tokenizer.template, said, tools, thinking, variables or {})
    return ids if prefix is None else [*ids, *_begun(tokenizer, prefix, ids)]


def text_of(message: Message) -> str:
    """A message's content as one text. Raises Mistake for anything but text."""
    if message.content is None or isinstance(message.content, str):
        return characters(message.content or "", "messages")
    for part in message.content:
        if part.text is None:
            raise Mistake(f'a message has a part of type "{part.type:.40}"; this model reads text only', "messages")
    return characters("".join(part.text or "" for part in message.content), "messages")


def last_question(messages: Sequence[Message]) -> str:
    """What the user said last; empty where no user spoke."""
    return next((text_of(message) for message in reversed(messages) if message.role == "user"), "")


def characters(text: str, param: str) -> str:
    """The same text. Raises Mistake where JSON's escapes made halves of surrogate pairs, which are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Mistake("the text holds half of a surrogate pair, which is no character", param) from None
    return text


def _own(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    system = "\n\n".join(text_of(message) for message in messages if message.role in SYSTEM)
    turns = [Turn(message.role, text_of(message)) for message in messages if message.role not in SYSTEM]
    if any(turn.role == "tool" for turn in turns):
        raise Mistake("this model knows no tools; leave messages of the role tool out", "messages")
    if not turns or turns[-1].role != "user":
        raise Mistake("the last message must be a user's", "messages")
    if system:
        first = next(i for i, turn in enumerate(turns) if turn.role == "user")
        turns[first] = Turn("user", f"{system}\n\n{turns[first].content}")
    return prompt_ids(tokenizer, turns[-1].content, turns[:-1])


def _templated(
    tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]],
    thinking: bool, variables: Mapping[str, Any],
) -> list[int]:  # fmt: skip
    if taken := sorted(RESERVED & variables.keys()):
        raise Mistake(f"chat_template_kwargs may not set {', '.join(taken)}", "chat_template_kwargs")
    shown = shows_tools(template)
    given: dict[str, Any] = {**variables, "tools": list(tools) if tools and shown else None}
    if not thinking:
        given |= {"enable_thinking": False, "thinking": False}
    form = form_of(tokenizer)
    rows = [_plain(message, template, form) for message in messages]
    if tools and not shown and form is not None:
        _describe(rows, described(tools, form))
    text = template.render(rows, add_generation_prompt=True, **given)
    if thinking and "enable_thinking" in template.source and _opens_by_itself(template):
        text += "<think>\n"
    return tokenizer.encode(characters(text, "messages"))


def _opens_by_itself(template: ChatTemplate) -> bool:
    """Whether the model writes `<think>` itself unless the template closes it: only the closed prompt has a tag."""
    asked = [{"role": "user", "content": ""}]
    default = template.render(asked, add_generation_prompt=True)
    closed = template.render(asked, add_generation_prompt=True, enable_thinking=False)
    return "<think>" not in default and "</think>" in closed


def _describe(rows: list[dict[str, Any]], tools: str) -> None:
    """Tools at the end of the last system message, which DeepSeek's templates write in front of all else."""
    system = next((row for row in reversed(rows) if row["role"] == "system"), None)
    if system is None:
        system = {"role": "system", "content": ""}
        rows.insert(0, system)
    system["content"] += f"\n\n{tools}"


def _plain(message: Message, template: ChatTemplate, form: ToolForm | None) -> dict[str, Any]:
    """As templates read it: text for content, no empty fields. DeepSeek's tell a message of calls by its content, which
    is none.
    """
    fields = message.model_dump(exclude_none=True, exclude={"prefix", "reasoning"})
    thoughts = message.reasoning_content or message.reasoning
    said: str | None = text_of(message)
    if message.tool_calls:
        fields["tool_calls"] = [_call(call, template) for call in message.tool_calls]
        said = said or (None if form is not None and form.around else "")
    role = "system" if message.role == "developer" else message.role
    more = {"reasoning_content": thoughts} if thoughts else {}
    return {**fields, "role": role, "content": said, **more}


def _call(call: Mapping[str, Any], template: ChatTemplate) -> dict[str, Any]:
    """A call of an earlier turn, its arguments as the template wants them: an object where it takes one apart or writes
    it as JSON itself, else JSON text, as OpenAI's clients send it.
    """
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise Mistake("a tool call of an earlier message has no function", "messages")
    arguments = function.get("arguments", {})
    if ARGUMENTS_TAKEN_APART.search(template.source):
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
    elif not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _begun(tokenizer: Tokenizer, prefix: Message, prompt: Sequence[int]) -> list[int]:
    """The beginning of the answer, behind its thoughts where the prompt has opened them."""
    encode = tokenizer.encode if tokenizer.plain is None else tokenizer.encode_user
    answer = encode(text_of(prefix))
    thoughts = prefix.reasoning_content or prefix.reasoning or ""
    if not tokenizer.ends_thinking_open(prompt):
        return answer
    assert tokenizer.think_close is not None
    return [*encode(characters(thoughts, "messages")), *([tokenizer.think_close, *answer] if answer else [])]
