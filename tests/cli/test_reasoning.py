"""think, chat and demo on a small model with random weights: it is never right, and everything around it works."""

from __future__ import annotations

import io
import json

import pytest
import torch

from raison.cli import main
from raison.reasoner import SHIPPED

Capture = pytest.CaptureFixture[str]
SHORT = ["--budget", "8", "--threads", "1"]


def test_think_shows_the_thinking_and_judges_the_answer(model_folder: str, capsys: Capture) -> None:
    assert main(["think", "3 7 25 -> 46", "--model", model_folder, *SHORT]) == 1
    said = capsys.readouterr().out
    assert "thinking ▏" in said
    assert "✗" in said
    assert "tokens/s" in said


def test_think_is_repeatable_and_speaks_json(model_folder: str, capsys: Capture) -> None:
    line = ["think", "3 7 25 -> 46", "--model", model_folder, *SHORT, "--seed", "5", "--json"]
    told = []
    for _ in range(2):
        assert main(line) == 1
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 1, "people's lines go to stderr"
        assert "thinking" in said.err
        told.append(json.loads(said.out))
    assert told[0]["thinking"] == told[1]["thinking"]
    assert told[0]["answer"] == told[1]["answer"]
    assert told[0]["thinking_tokens"] <= 8
    assert main([*line, "--n", "3"]) == 1
    many = json.loads(capsys.readouterr().out)
    assert len(many["samples"]) == 3
    assert many["samples"][0]["thinking"] == told[0]["thinking"], "the first of n is that of n = 1"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["3 7 25 -> 460000"], "460000 is out of reach"),
        (["3 7 25"], "cannot read"),
        (["3 7 25 -> 46", "--budget", "-1"], "budget is -1"),
        (["3 7 25 -> 46", "--n", "0"], "n is 0"),
        (["3 7 25 -> 46", "--temperature", "-1"], "temperature is -1"),
        (["3 7 25 -> 46", "--threads", "-1"], "--threads is -1"),
        (["3 7 25 -> 46", "--threads", "100000"], "1,024 at most"),
        (["3 7 25 -> 46", "--n", "100000000"], "n is 100000000; it must be at most 10,000"),
        (["3 7 25 -> 46", "--temperature", "nan"], "temperature is nan"),
        (["3 7 25 -> 46", "--samples", "4"], "--samples would not be heeded here: add --strategy"),
        (["3 7 25 -> 46", "--set", "price=4"], "--set would not be heeded"),
        (["3 7 25 -> 46", "--task", "countdown"], "--task would not be heeded"),
        (["3 7 25 -> 46", "--key-env", "KEY"], "--key-env would not be heeded"),
        (["3 7 25 -> 46", "--strategy", "auto", "--n", "4"], "--n would not be heeded"),
        (["3 7 25 -> 46", "--strategy", "auto", "--budget", "-1"], "budget is -1"),
        (["3 7 25 -> 46", "--endpoint", "http://x/v1", "--draft", "small"], "--draft would not be heeded"),
        (["3 7 25 -> 46", "--endpoint", "http://x/v1", "--min-thinking", "3"], "--min-thinking would not be heeded"),
        (["3 7 25 -> 46", "--model", "/nowhere"], "there is no model folder /nowhere"),
        (["3 7 25 -> 46", "--device", "cuda"], "PyTorch finds no GPU"),
    ],
)
def test_a_mistake_is_one_line(
    model_folder: str, arguments: list[str], part: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["think", "--model", model_folder, *arguments]) == 2
    said = capsys.readouterr().err
    assert part in said
    assert len(said.splitlines()) == 1


def test_chat_takes_problems_and_settings_from_a_pipe(
    model_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    lines = (
        "2 3 -> 6\n/budget 0\n/budgte 3\n/n two\n/n 0\n/temperature nan\nnonsense\n/help\n3 4 -> 12\n/quit\n5 6 -> 30\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["chat", "--model", model_folder, *SHORT]) == 0
    said = capsys.readouterr().out
    for part in (
        "2 3 -> 6",
        "budget 0",
        'did you mean "budget"?',
        "/n needs a number",
        "n is 0",
        "temperature is nan",
        "cannot read",
        "/seed",
    ):
        assert part in said, part
    assert "none: it answered at once" in said
    assert "5 6 -> 30" not in said, "nothing is read after /quit"


def test_demo_without_a_terminal(model_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("raison.cli.demo.BUDGETS", (0, 8))
    monkeypatch.setattr("raison.cli.demo.SAMPLES", 2)
    monkeypatch.setattr("raison.cli.demo.ATTACKS", 200)
    assert main(["demo", "--model", model_folder, "--problems", "3", "--threads", "1", "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [row["budget"] for row in told["budgets"]] == [0, 8]
    assert told["problems"] == 3
    assert told["audit"]["paid"] == 0
    for part in ("200 answers: 0 wrongly paid", "Make ", "How thinking pays, on 3 fresh problems", "Next:"):
        assert part in said.err, part


@pytest.mark.skipif(SHIPPED.is_dir(), reason="the shipped reasoner is there")
def test_without_the_shipped_reasoner_it_says_how_to_make_one(capsys: Capture) -> None:
    assert main(["demo"]) == 2
    assert "raison run recipes/countdown.toml" in capsys.readouterr().err
