"""Tools: whether a model's chat template knows them, calls found in its answers, and answers that must be calls.

Read are calls as Qwen's and Hermes' templates ask for them, JSON between `<tool_call>` and `</tool_call>`; a template
that shows tools in another way is refused, for its calls would come as plain text. `tool_choice` "required" or a name
binds the answer, from `</think>` on, to calls that follow the tools' own schemas. Calls inside the thinking are
thoughts. What looks like a call and is none stays text. Not covered: running anything.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from raison.engine.grammar import Grammar
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest, Tool, ToolChoice
from raison.serve.settings import ServeSettings
from raison.text.tokenizer import Tokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"


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
    template = tokenizer.template
    if template is None or "tools" not in template.source or OPEN not in template.source:
        raise Mistake(
            "this model's chat template does not show tools in a way whose calls could be read "
            f"({OPEN} ... {CLOSE}); leave tools out, or serve a model that was trained with them", "tools",
            "tools_not_supported",
        )  # fmt: skip
    return [tool.model_dump(exclude_none=True) for tool in tools]


def required(body: ChatRequest, tokenizer: Tokenizer, limits: ServeSettings) -> Grammar | None:
    """What an answer that must be a call looks like; None where it may be anything."""
    choice = body.tool_choice
    if choice == "required":
        chosen = body.tools or []
    elif isinstance(choice, ToolChoice):
        chosen = [tool for tool in body.tools or [] if tool.function.name == choice.function.name]
    else:
        return None
    schema = json.dumps({"anyOf": [_call_schema(tool) for tool in chosen]})
    if len(schema) > limits.max_schema_bytes:
        raise Mistake(f"the tools' schemas are larger than {limits.max_schema_bytes} bytes", "tools")
    begin, end = (_literal(tokenizer, tag) for tag in (OPEN, CLOSE))
    return Grammar("lark", f'start: {begin} "\\n" call "\\n" {end}\ncall: %json {schema}\n')


def _call_schema(tool: Tool) -> dict[str, Any]:
    arguments = tool.function.parameters or {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.function.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _literal(tokenizer: Tokenizer, tag: str) -> str:
    """A tag in llguidance's grammar: the special token where the vocabulary has it as one, else its letters."""
    added = tokenizer.backend.get_added_tokens_decoder().values()
    return tag if any(token.content == tag and token.special for token in added) else json.dumps(tag)


class ToolText:
    """One branch's answer, parted into text and calls as it comes."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        """All so far, as OpenAI's messages hold them."""
        self._held = ""

    def push(self, text: str) -> str:
        """What is certainly text, and no part of a call; calls that are whole are added to `calls`."""
        self._held += text
        shown = ""
        while True:
            begin = self._held.find(OPEN)
            if begin < 0:
                keep = _overlap(self._held)
                shown, self._held = shown + self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                return shown
            end = self._held.find(CLOSE, begin)
            if end < 0:
                shown, self._held = shown + self._held[:begin], self._held[begin:]
                return shown
            shown += self._held[:begin] + self._take(self._held[begin : end + len(CLOSE)])
            self._held = self._held[end + len(CLOSE) :]

    def finish(self) -> str:
        """The answer has ended; what was held back."""
        rest, self._held = self._held, ""
        return rest

    def _take(self, whole: str) -> str:
        call = parsed(whole[len(OPEN) : -len(CLOSE)])
        if call is None:
            return whole
        self.calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": call})
        return ""


def parsed(text: str) -> dict[str, str] | None:
    """A call's name, and its arguments as JSON text; None for what is no call."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return {"name": value["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}


def _overlap(text: str) -> int:
    """How many of the last letters could begin a call."""
    return next((n for n in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-n:])), 0)


def split(answer: str) -> tuple[str, Sequence[dict[str, Any]]]:
    """A whole answer's text and calls."""
    stream = ToolText()
    return stream.push(answer) + stream.finish(), stream.calls
