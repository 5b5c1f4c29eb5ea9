"""A JSONL file of conversations to train on: one `{"messages": [{"role": "user", "content": "..."}, ...]}` a line.

Loss is on the assistant's messages alone (text/chat.py). Every line is read before training starts, so that a mistake
in the last one does not end a run in its middle. Not covered: tools, contents that are no text, files too large for
memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raison.errors import UserError
from raison.text.chat import Example, Turn, conversation
from raison.text.tokenizer import Tokenizer

SHAPE = 'write {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


def read_conversations(path: Path, tokenizer: Tokenizer, longest: int) -> list[Example]:
    """Every conversation of the file as documents of at most `longest` tokens, the context of the model.

    Raises UserError that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from None
    examples: list[Example] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                examples += _documents(line, tokenizer, longest)
            except UserError as error:
                raise UserError(f"{path} line {number}: {error}") from None
    if not examples:
        raise UserError(f"{path} has no conversation; {SHAPE}, one a line")
    return examples


def _documents(line: str, tokenizer: Tokenizer, longest: int) -> list[Example]:
    found = conversation(tokenizer, _turns(line))
    for document in found:
        if len(document.ids) > longest:
            raise UserError(f"it has {len(document.ids)} tokens, and the model's context {longest}; cut it")
    return found


def _turns(line: str) -> list[Turn]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is not JSON: {error}") from None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list):
        raise UserError(f"there is no list `messages`; {SHAPE}")
    return [_turn(message, number) for number, message in enumerate(messages, start=1)]


def _turn(message: Any, number: int) -> Turn:
    role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(content, str):
        raise UserError(f"message {number} has no text as `role` and `content`; {SHAPE}")
    return Turn(role, content)
