"""Plain completions: texts and ids in, one text out, streamed as whole."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from raison.engine.sequence import Event
from raison.serve.completions import TextView
from raison.serve.protocol import CompletionRequest
from raison.text.tokenizer import THINK_OPEN
from tests.engine.small import TOKENIZER
from tests.serve.serving import Served

PATH = "/v1/completions"


def texts(events: list[dict[str, Any]], index: int) -> str:
    return "".join(choice["text"] for event in events for choice in event["choices"] if choice["index"] == index)


@pytest.mark.parametrize("prompt", ["1 2 3", f"1 2 3{THINK_OPEN}", ["1 2", "3 4 5"], [7, 8, 9], [[7, 8], [9]]])
@pytest.mark.parametrize("echo", [False, True])
def test_streamed_is_whole(prompt: Any, echo: bool, served: Served) -> None:
    fields: dict[str, Any] = {"prompt": prompt, "seed": 3, "max_tokens": 30, "n": 2, "echo": echo}
    whole = served.ask(PATH, **fields)
    events = served.events(PATH, **fields)
    count = 2 if isinstance(prompt, str) or isinstance(prompt[0], int) else 4
    assert len(whole["choices"]) == count
    for choice in whole["choices"]:
        assert texts(events, choice["index"]) == choice["text"]
        assert choice["text"]


def test_ids_are_taken_as_they_are(served: Served) -> None:
    text = served.ask(PATH, prompt="1 2 3", seed=1)
    ids = served.ask(PATH, prompt=[TOKENIZER.bos, *TOKENIZER.encode("1 2 3")], seed=1)
    assert text["choices"] == ids["choices"]
    assert text["usage"]["completion_tokens"] <= 16


def test_logprobs_side_by_side(served: Served) -> None:
    choice = served.ask(PATH, prompt="1 2 3", seed=1, logprobs=0)["choices"][0]
    found = choice["logprobs"]
    assert "".join(found["tokens"]) == choice["text"] or "\ufffd" in choice["text"]
    assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["text_offset"])
    assert all(value <= 0 for value in found["token_logprobs"])


@pytest.mark.parametrize(
    "fields", [{"prompt": []}, {"prompt": ""}, {"prompt": [[]]}, {"prompt": [99999]}, {"prompt": [-1]}, {},
               {"prompt": "x", "suffix": "y"}, {"prompt": ["x"] * 65}, {"prompt": "\\ud800"}]
)  # fmt: skip
def test_mistakes(fields: dict[str, Any], served: Served) -> None:
    if fields.get("prompt") == "":  # the beginning of a document alone is a prompt
        served.ask(PATH, **fields)
    elif fields.get("prompt") != "\\ud800":
        assert served.ask(PATH, **fields, expect=400)["error"]["message"]
    else:
        body = '{"prompt":"\\ud800"}'
        reply = served.client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert reply.status_code == 400


def test_a_token_that_could_not_be_drawn_has_a_number_all_the_same() -> None:
    """JSON has no infinity: whole answers would fail, and streams could not be read."""
    reasoner = SimpleNamespace(tokenizer=TOKENIZER)
    order = SimpleNamespace(model="small", prompt_tokens=1)
    service = SimpleNamespace(reasoner=reasoner, fingerprint="f")
    job: Any = SimpleNamespace(id="x", created=1, order=order, service=service)
    view = TextView(job, CompletionRequest(prompt="x"))
    event = Event(0, 7, "a", False, None, float("-inf"), ((7, float("-inf")),))
    json.dumps(view._logprobs(0, [event]), allow_nan=False)
