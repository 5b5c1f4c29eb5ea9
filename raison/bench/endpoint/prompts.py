"""What is asked: texts of a given number of tokens, each unlike every other; prompts of a file; problems of a task.

A synthetic prompt is words in random order, other ones from the first word on, so that neither a prefix cache nor
guesses of the next tokens from earlier requests gain anything; then it asks for a long continuation. Not covered:
images, tools, conversations of several turns (a file may hold them).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from raison.bench.endpoint.counting import Counter
from raison.bench.endpoint.records import Ask
from raison.bench.quality import PASSAGE
from raison.errors import UserError
from raison.records import Problem
from raison.tasks.task import Task
from raison.think.measure import held_out_problems

WISH = "\n\nGo on with this text for as long as you can."
WORDS = sorted({word for word in PASSAGE.split() if word.isalpha()})
FILLER = "a"
TRIES = 6
"""Corrections of a text's length."""
WARM_TOKENS = 8
"""Of an answer that only warms up."""

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """What every request has in common."""

    model: str
    max_tokens: int
    temperature: float | None = None
    """None leaves the server's own."""
    ignore_eos: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields to add or to put in place; None takes a field away."""

    def body(self, messages: Sequence[Message], max_tokens: int | None = None) -> bytes:
        limit = max_tokens or self.max_tokens
        wish: dict[str, Any] = {"model": self.model, "messages": list(messages), "max_tokens": limit}
        wish |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.temperature is not None:
            wish["temperature"] = self.temperature
        if self.ignore_eos:
            wish |= {"ignore_eos": True, "min_tokens": limit}
        wish |= self.extra
        return json.dumps({name: value for name, value in wish.items() if value is not None}).encode()


def ask(form: Form, counter: Counter, text: str, problem: Problem | None = None, max_tokens: int | None = None) -> Ask:
    messages = [{"role": "user", "content": text}]
    return Ask(form.body(messages, max_tokens), counter.count(text), problem)


def synthetic(counter: Counter, size: int, numbers: Random) -> str:
    """A text of `size` tokens or one or two fewer. Raises UserError where the wish alone takes more."""
    if (least := counter.count(_text(WORDS[:2]))) > size:
        raise UserError(f"a prompt of {size} tokens is too short: in this vocabulary the request alone takes {least}")
    words = numbers.choices(WORDS, k=size)
    kept = size
    for _ in range(TRIES):  # words differ in tokens, so that the first share is near and not exact
        tokens = counter.count(_text(words[:kept]))
        if 0 <= size - tokens <= 1:
            break
        kept = max(2, min(size, kept + math.floor((size - tokens) * kept / tokens)))
    while kept > 2 and counter.count(_text(words[:kept])) > size:
        kept -= 1
    missing = size - counter.count(_text(words[:kept]))
    return _text([*words[:kept], *[FILLER] * (missing // counter.count(f" {FILLER}"))])


def _text(words: Sequence[str]) -> str:
    return " ".join(words) + WISH


def synthetic_asks(form: Form, counter: Counter, size: int, count: int, seed: str) -> list[Ask]:
    numbers = Random(f"prompts/{seed}")
    return [ask(form, counter, synthetic(counter, size, numbers)) for _ in range(count)]


def warm_up_asks(form: Form, counter: Counter, size: int, count: int, seed: str) -> list[Ask]:
    """Short answers to prompts of the same kind."""
    numbers = Random(f"warm-up/{seed}")
    return [ask(form, counter, synthetic(counter, size, numbers), max_tokens=WARM_TOKENS) for _ in range(count)]


def problem_asks(form: Form, counter: Counter, task: Task, level: int, count: int, seed: int) -> list[Ask]:
    """Held-out problems. Raises UserError where the task has fewer."""
    problems = held_out_problems(task, level, count, seed)
    if len(problems) < count:
        raise UserError(f"{task.name} has {len(problems)} problems of level {level}; ask for no more with --requests")
    return [ask(form, counter, problem.prompt, problem) for problem in problems]


def read_prompts(path: Path) -> list[list[Message]]:
    """A conversation a line: plain text, or a JSON object with `prompt` or `messages` in a .jsonl file.

    Raises UserError that names the line.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not lines:
        raise UserError(f"{path} is empty; write a prompt a line")
    if path.suffix != ".jsonl":
        return [[{"role": "user", "content": line}] for line in lines]
    return [_conversation(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _conversation(line: str, where: str) -> list[Message]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}") from None
    match found:
        case {"prompt": str(text)}:
            return [{"role": "user", "content": text}]
        case {"messages": [*messages]} if messages and all(isinstance(message, dict) for message in messages):
            return messages
    raise UserError(f'{where} has neither "prompt", a text, nor "messages", a list')


def file_asks(form: Form, counter: Counter, conversations: Iterator[list[Message]], count: int) -> list[Ask]:
    """The next `count` conversations."""

    def tokens(messages: Sequence[Message]) -> int:
        return sum(counter.count(str(message.get("content", ""))) for message in messages)

    taken = [next(conversations) for _ in range(count)]
    return [Ask(form.body(messages), tokens(messages)) for messages in taken]
