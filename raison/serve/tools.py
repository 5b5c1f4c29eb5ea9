"""Tools of a request: whether the model can be shown them, and answers that must be calls.

A model whose calls could not be read is refused tools, for its calls would come as plain text. `tool_choice` "required"
or a name binds the answer, from `</think>` on, to one call that follows the tools' own schemas. Not covered: how calls
are written (tool_forms.py) and found (tool_text.py); running anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from raison.engine.grammar import Grammar
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest, Tool, ToolChoice
from raison.serve.settings import ServeSettings
from raison.serve.tool_forms import CALLS_BEGIN, CALLS_END, HERMES, SEPARATOR, ToolForm, form_of
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
    schema = json.dumps({"anyOf": [_call_schema(tool) for tool in tools]})
    return f'start: {begin} "\\n" call "\\n" {end}\ncall: %json {schema}\n'


def _call_schema(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.function.name}, "arguments": tool.function.parameters or ANY_ARGUMENTS},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _deepseek(tools: Sequence[Tool], form: ToolForm, tokenizer: Tokenizer) -> str:
    tags = (CALLS_BEGIN, form.open, form.close, CALLS_END, SEPARATOR)
    all_begin, begin, end, all_end, separator = (_literal(tokenizer, tag) for tag in tags)
    calls = " | ".join(f"call_{i}" for i in range(len(tools)))
    lines = [f"start: {all_begin} {begin} ({calls}) {end} {all_end}"]
    for i, tool in enumerate(tools):
        name = tool.function.name
        if form.fenced:
            shape = f'"function" {separator} {_text(name + FENCE_OPEN)} arguments_{i} "\\n```"'
        else:
            shape = f"{_text(name)} {separator} arguments_{i}"
        lines.append(f"call_{i}: {shape}")
        lines.append(f"arguments_{i}: %json {json.dumps(tool.function.parameters or ANY_ARGUMENTS)}")
    return "\n".join(lines) + "\n"


def _literal(tokenizer: Tokenizer, tag: str) -> str:
    """A tag in llguidance's grammar: the token where the vocabulary was given one, special or not, else letters."""
    added = tokenizer.backend.get_added_tokens_decoder().values()
    return tag if any(token.content == tag for token in added) else _text(tag)


def _text(text: str) -> str:
    """Letters in llguidance's grammar."""
    return json.dumps(text, ensure_ascii=False)
