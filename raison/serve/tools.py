"""Tools of a request: whether the model can be shown them, and answers that must be calls.

A model whose calls could not be read is refused tools, for its calls would come as plain text. `tool_choice` "required"
or a name binds the answer, from `</think>` on, to one call that follows the tools' own schemas. Not covered: how calls
are written (tool_forms.py) and found (tool_text.py); running anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raison.engine.grammar import Grammar
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest, Tool, ToolChoice
from raison.serve.settings import ServeSettings
from raison.serve.tool_forms import CALLS_BEGIN, CALLS_END, HERMES, SEPARATOR, ToolForm, form_of
from raison.serve.tool_text import ToolText
from raison.text.tokenizer import Tokenizer

ANY_ARGUMENTS = {"type": "object"}
FENCE_OPEN = "\n```json\n"


def offered(body: ChatRequest, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The tools to show the model. Raises Mistake where it knows none, or for a choice of none that is offered."""
    tools = body.tools or []
    choice = body.tool_choice
    if isinstance(choice, ToolChoice) and choice.function.name not in [tool.function.name for tool in tools]:
        raise Mistake(f'tool_choice names "{choice.function.name}", which is not among the tools', "tool_choice")
    if choice == "required" and not tools:
        raise Mistake("tool_choice is required, but there are no tools", "tool_choice")
    if not tools or choice == "none":
        return []
    if form_of(tokenizer) is None:
        raise Mistake(
            "this model was not made for tools in a way whose calls could be read: neither does its chat template ask "
            f"for {HERMES.open}, nor has its vocabulary DeepSeek's {CALLS_BEGIN}; leave tools out, or serve a model "
            "that was trained with them", "tools", "tools_not_supported",
        )  # fmt: skip
    return [tool.model_dump(exclude_none=True) for tool in tools]


class Asked(Protocol):
    """What both kinds of conversations say of tools."""

    @property
    def tools(self) -> Sequence[object] | None: ...

    @property
    def tool_choice(self) -> object: ...

    @property
    def parallel_tool_calls(self) -> bool | None: ...


def read_calls(body: Asked, tokenizer: Tokenizer) -> ToolText | None:
    """What parts an answer into text and calls; None where the model was shown no tools, and all of it is text."""
    form = form_of(tokenizer) if body.tools and body.tool_choice != "none" else None
    return None if form is None else ToolText(form, most=1 if body.parallel_tool_calls is False else None)


def required(body: ChatRequest, tokenizer: Tokenizer, limits: ServeSettings) -> Grammar | None:
    """What an answer that must be a call looks like; None where it may be anything."""
    choice, form = body.tool_choice, form_of(tokenizer)
    if choice == "required":
        chosen = body.tools or []
    elif isinstance(choice, ToolChoice):
        chosen = [tool for tool in body.tools or [] if tool.function.name == choice.function.name]
    else:
        return None
    assert form is not None, "offered has looked"
    grammar = _hermes(chosen, tokenizer) if form == HERMES else _deepseek(chosen, form, tokenizer)
    if len(grammar) > limits.max_schema_bytes:
        raise Mistake(f"the tools' schemas are larger than {limits.max_schema_bytes} bytes", "tools")
    return Grammar("lark", grammar)


def _hermes(tools: Sequence[Tool], tokenizer: Tokenizer) -> str:
    begin, end = (_literal(tokenizer, tag) for tag in (HERMES.open, HERMES.close))

    def shape(name: str, arguments: str) -> str:
        head = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
        return f'{_text(head)} {arguments} "}}"'

    return _one_of(tools, f'{begin} "\\n" ', shape, f' "\\n" {end}')


def _deepseek(tools: Sequence[Tool], form: ToolForm, tokenizer: Tokenizer) -> str:
    tags = (CALLS_BEGIN, form.open, form.close, CALLS_END, SEPARATOR)
    all_begin, begin, end, all_end, separator = (_literal(tokenizer, tag) for tag in tags)

    def shape(name: str, arguments: str) -> str:
        if form.fenced:
            return f'"function" {separator} {_text(name + FENCE_OPEN)} {arguments} "\\n```"'
        return f"{_text(name)} {separator} {arguments}"

    return _one_of(tools, f"{all_begin} {begin} ", shape, f" {end} {all_end}")


def _one_of(tools: Sequence[Tool], before: str, shape: Callable[[str, str], str], behind: str) -> str:
    """A grammar of one call. The parameters of each tool stay a schema of their own: their references to `#/$defs`
    hold from its root.
    """
    calls = " | ".join(f"call_{i}" for i in range(len(tools)))
    lines = [f"start: {before}({calls}){behind}"]
    for i, tool in enumerate(tools):
        lines.append(f"call_{i}: {shape(tool.function.name, f'arguments_{i}')}")
        lines.append(f"arguments_{i}: %json {json.dumps(tool.function.parameters or ANY_ARGUMENTS)}")
    return "\n".join(lines) + "\n"


def _literal(tokenizer: Tokenizer, tag: str) -> str:
    """A tag in llguidance's grammar: the token where the vocabulary was given one, special or not, else letters."""
    added = tokenizer.backend.get_added_tokens_decoder().values()
    return tag if any(token.content == tag for token in added) else _text(tag)


def _text(text: str) -> str:
    """Letters in llguidance's grammar."""
    return json.dumps(text, ensure_ascii=False)
