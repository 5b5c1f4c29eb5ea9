"""A checkpoint's own chat template: messages to text, the text that transformers would give.

Templates are programs by strangers. A hostile or broken one ends in a UserError after at most a second of computing
and with bounded memory (jinja_sandbox.py, budget.py say how). Differences from transformers' `apply_chat_template`:
messages, tools and variables must be plain data; functions as tools, images, `continue_final_message` and the
assistant's mask are not covered. `strftime_now` is the local time, as there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from jinja2.exceptions import TemplateSyntaxError

from raison.errors import UserError
from raison.text.budget import MAX_TEXT, Budget, TooMuch
from raison.text.jinja_sandbox import Environment, Refused, compiled

MAX_SOURCE = 1 << 16
MAX_NESTING = 64
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's thoughts may be passed; templates read the first, some the second."""
Result = TypeVar("Result")


class ChatTemplate:
    """A compiled template and its `source`. Rendering may be called from several threads; one waits for the other."""

    def __init__(self, source: str, bos: str, eos: str) -> None:
        """Raises UserError when `source` is not a template, or uses what is not allowed."""
        if len(source) > MAX_SOURCE:
            raise UserError(f"the chat template has {len(source)} characters; at most {MAX_SOURCE} are read")
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._environment = Environment()
        self._lock = threading.Lock()
        self._template: Any = self._saying_why(lambda: compiled(self._environment, source))

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool, **variables: Any) -> str:
        """The conversation as text. `variables` are passed on, `tools` and `documents` (None by default) among them.

        Raises UserError with the template's own words when it refuses the messages (`raise_exception`), and when it
        fails, runs for more than a second of processor time or makes more than 4 Mi characters.
        """
        names = {
            **self._tokens,
            "tools": None,
            "documents": None,
            **plain(variables),
            "messages": [_with_reasoning(message) for message in plain(list(messages))],
            "add_generation_prompt": add_generation_prompt,
        }
        with self._lock:
            self._environment.budget = Budget()
            return self._saying_why(lambda: self._text(names))

    def _text(self, names: dict[str, Any]) -> str:
        budget = self._environment.budget
        for value in names.values():
            budget.weigh(value)
        context = self._template.new_context(names)
        text = "".join(self._template.root_render_func(context))
        if len(text) > MAX_TEXT:
            raise TooMuch(f"its text has more than {MAX_TEXT} characters")
        return text

    def _saying_why(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except Refused as error:
            raise UserError(f"the chat template refuses the messages: {error}") from None
        except TemplateSyntaxError as error:
            raise UserError(f"line {error.lineno} of the chat template is wrong: {error.message}") from None
        except Exception as error:  # a stranger's program can fail in any way
            where = self._line(error.__traceback__)
            why = str(error) or type(error).__name__
            raise UserError(f"the chat template fails{where}: {why[:500]}") from None

    def _line(self, traceback: TracebackType | None) -> str:
        """Where in the template the innermost frame of it was."""
        place = ""
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == "<template>":
                place = f" in line {self._template.get_corresponding_lineno(traceback.tb_lineno)}"
            traceback = traceback.tb_next
        return place


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of plain data, which is all that a stranger's program gets to see. Raises UserError for anything else."""
    if depth > MAX_NESTING:
        raise UserError(f"messages for a chat template are nested more than {MAX_NESTING} deep")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item, depth + 1) for item in value) if type(value) in (list, tuple) else list(value)
    raise UserError(f"messages for a chat template must be text, numbers, lists and dicts, not {type(value).__name__}")


def _with_reasoning(message: Any) -> Any:
    if not isinstance(message, dict):
        raise UserError(f"a message must be a dict with a role and a content, not {type(message).__name__}")
    thoughts = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if thoughts is None else {"thinking": thoughts, **message, "reasoning_content": thoughts}
