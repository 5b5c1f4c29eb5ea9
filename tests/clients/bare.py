"""The crowd of load.py on the engine alone, without a server, as a command: what a server is to be compared with.

    python tests/clients/load.py URL ... > load.json
    python -m tests.clients.bare --clients 200 --seconds 20 --threads 1 --against load.json

It prints one JSON object: times between two steps that brought text to the same sequence, times between tokens as
load.py counts them, and, of load.py's, how many times as long they are. Whoever has its answer asks again before the
next step. Give the engine the threads that the server had.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import raison
from raison.engine.sequence import Event, SamplingParams
from raison.serve.asking import thinking_limit
from raison.text.chat import prompt_ids
from tests.clients.load import Seen, question, shares


class Answer:
    """One sequence's times."""

    def __init__(self, number: int) -> None:
        self.number, self.drawn = number, 0
        self.first = self.last = 0.0


class Bare:
    def __init__(self, tokens: int) -> None:
        self._reasoner = raison.load()
        self._tokens = tokens
        self._answers: dict[int, Answer] = {}

    def crowd(self, clients: int, seconds: float) -> Seen:
        """As Load.crowd; the answers under way at the end are left."""
        seen, engine = Seen(), self._reasoner.engine
        for number in range(clients):
            self._ask(number)
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            events = engine.step()
            self._hear(events, seen, time.perf_counter())
            for number in [event.sequence_id for event in events if event.finished is not None]:
                self._ask(self._end(number, seen) + clients)
        for number in self._answers:
            engine.cancel(number)
        return seen

    def _ask(self, number: int) -> None:
        most = self._tokens
        params = SamplingParams(
            max_tokens=most, answer_tokens=most, thinking_budget=thinking_limit(most, None), seed=number
        )
        (made,) = self._reasoner.engine.submit(prompt_ids(self._reasoner.tokenizer, question(number)), params)
        self._answers[made] = Answer(number)

    def _hear(self, events: list[Event], seen: Seen, now: float) -> None:
        for number in {event.sequence_id for event in events if event.text}:
            answer = self._answers[number]
            if answer.first:
                seen.between.append(now - answer.last)
            answer.first, answer.last = answer.first or now, now
        for event in events:
            self._answers[event.sequence_id].drawn += event.token_id is not None

    def _end(self, number: int, seen: Seen) -> int:
        answer = self._answers.pop(number)
        seen.ended += 1
        if answer.first and answer.drawn > 1:
            seen.each.append((answer.last - answer.first) / (answer.drawn - 1))
        return answer.number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clients", 200), ("tokens", 200), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--against", type=Path, help="what load.py printed")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bare = Bare(given.tokens)
    bare.crowd(8, 2)  # warm
    seen = bare.crowd(given.clients, given.seconds)
    told: dict[str, Any] = {
        "answers": seen.ended, "between_texts_seconds": shares(seen.between),
        "between_tokens_seconds": shares(seen.each),
    }  # fmt: skip
    if given.against is not None:
        loaded = json.loads(given.against.read_text())["crowd"]
        for name in ("between_texts_seconds", "between_tokens_seconds"):
            told[f"times_p99_of_{name}"] = round(loaded[name]["p99"] / told[name]["p99"], 2)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
