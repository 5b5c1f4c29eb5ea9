"""The two forms in which models write their calls of tools, and how each is told, found and read.

Hermes' and Qwen's: JSON between `<tool_call>` and `</tool_call>`, asked for by a chat template that shows the tools.

DeepSeek's, by tokens of their own, where a model's vocabulary has them (V3, R1-0528; V3.1 writes them without a fence):

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME
    ```json
    {...}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

DeepSeek's own templates write calls and results of earlier turns but do not show the tools; then they are described at
the end of the system's message, in the words of the model card of DeepSeek-V3.1, section "ToolCall". Not covered:
V3.2's and V4's form (DSML).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from raison.text.template import ChatTemplate
from raison.text.tokenizer import Tokenizer

Call: TypeAlias = dict[str, str]
"""`name`, and `arguments` as JSON text."""
CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
FENCE = "```"
SHOWS_TOOLS = re.compile(r"\btools\b")


@dataclass(frozen=True, slots=True)
class ToolForm:
    open: str
    close: str
    read: Callable[[str], Call | None]
    """What stands between them; None for what is no call."""
    around: tuple[str, ...] = ()
    """Tags that hold several calls together, and are no text."""
    fenced: bool = False


def hermes_call(text: str) -> Call | None:
    value = _json(text)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    return _call(value["name"], value.get("arguments", value.get("parameters", {})))


def deepseek_call(text: str) -> Call | None:
    """`function<sep>NAME` and a fence of JSON, or `NAME<sep>` and bare JSON."""
    before, _, after = text.partition(SEPARATOR)
    name, fence, rest = after.partition(FENCE)
    if fence:
        arguments = rest.rpartition(FENCE)[0].removeprefix("json")
    else:
        name, arguments = before, after
    value = _json(arguments)
    return _call(name.strip(), value) if name.strip() and isinstance(value, Mapping) else None


HERMES = ToolForm("<tool_call>", "</tool_call>", hermes_call)
DEEPSEEK = ToolForm(CALL_BEGIN, CALL_END, deepseek_call, (CALLS_BEGIN, CALLS_END))


def form_of(tokenizer: Tokenizer) -> ToolForm | None:
    """How this model writes calls; None where it knows none that could be read."""
    template = tokenizer.template
    if template is None:
        return None
    if shows_tools(template) and HERMES.open in template.source:
        return HERMES
    marks = (CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR)
    if all(tokenizer.backend.token_to_id(mark) is not None for mark in marks):
        return replace(DEEPSEEK, fenced=f"{FENCE}json" in template.source)
    return None


def shows_tools(template: ChatTemplate) -> bool:
    return SHOWS_TOOLS.search(template.source) is not None


def described(tools: Sequence[Mapping[str, Any]], form: ToolForm) -> str:
    """Tools in the words that DeepSeek's models were trained on, for templates that do not show them."""
    shown = "\n\n".join(_described(tool["function"]) for tool in tools)
    wording = ("function" + SEPARATOR + "tool_call_name\n```json\ntool_call_arguments\n```") if form.fenced else (
        "tool_call_name" + SEPARATOR + "tool_call_arguments"
    )  # fmt: skip
    chained = "with a newline as separator" if form.fenced else "directly without separators or spaces"
    return (
        f"## Tools\nYou have access to the following tools:\n\n{shown}\n\n"
        "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
        f"{CALLS_BEGIN}{CALL_BEGIN}{wording}{CALL_END}{{additional_tool_calls}}{CALLS_END}\n\n"
        "Where:\n- `tool_call_name` must be an exact match to one of the available tools\n"
        "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
        f"- For multiple tool calls, chain them {chained}"
    )


def _described(function: Mapping[str, Any]) -> str:
    parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
    return f"### {function['name']}\nDescription: {function.get('description') or ''}\n\nParameters: {parameters}"


def _call(name: str, arguments: Any) -> Call | None:
    """None for a name that is no text. Half of a surrogate pair, which JSON can say and UTF-8 cannot, stays escaped."""
    text = json.dumps(arguments, ensure_ascii=False)
    if not _encodes(name):
        return None
    return {"name": name, "arguments": text if _encodes(text) else json.dumps(arguments)}


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(text: str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
