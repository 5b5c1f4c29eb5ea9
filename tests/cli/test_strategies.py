"""`raison think --strategy` and `raison bench think` on a random model: what they print, count and keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raison.cli import main
from raison.think.effort import KEY

Capture = pytest.CaptureFixture[str]
ASK = ["think", "3 7 25 -> 46", "--seed", "1", "--budget", "24", "--samples", "4", "--json"]


@pytest.mark.parametrize("vote", ["auto", "confidence", "best-of-n", "beam"])
def test_think_shows_branches_and_counts_their_tokens(vote: str, model_folder: str, capsys: Capture) -> None:
    more = ["--set", "fan=2"] if vote == "beam" else []
    assert main([*ASK, "--model", model_folder, "--strategy", vote, *more]) in (0, 1)
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["tokens"] == sum(branch["tokens"] for branch in result["branches"]) > 0
    assert result["strategy"]["vote"] == vote
    assert "branch   0" in said.err or vote == "beam"
    assert f"{result['tokens']:,} tokens" in said.err


def test_think_by_effort(model_folder: str, capsys: Capture) -> None:
    assert main(["think", "3 7 25 -> 46", "--seed", "1", "--effort", "none", "--model", model_folder, "--json"]) in (
        0,
        1,
    )
    assert json.loads(capsys.readouterr().out)["thinking_tokens"] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--strategy", "atuo"], "strategy.vote"), (["--strategy", "auto", "--set", "price"], "NAME=NUMBER"),
        (["--strategy", "auto", "--set", "prize=2"], "strategy.prize"), (["--effort", "hihg"], 'mean "high"'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(options: list[str], named: str, model_folder: str, capsys: Capture) -> None:
    assert main(["think", "3 7 25 -> 46", "--model", model_folder, *options]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1


def test_bench_compares_methods_in_pairs(model_folder: str, capsys: Capture) -> None:
    options = ["--problems", "4", "--samples", "4", "--budget", "16", "--waits", "1", "--json"]
    wanted = ["--methods", "self-consistency,auto,majority"]
    assert main(["bench", "think", model_folder, *options, *wanted]) == 0
    result = json.loads(capsys.readouterr().out)
    whole, auto, majority = result["methods"]
    assert whole["samples"] == 4 and whole["share"] == 1 and whole["difference"] == 0
    assert auto["tokens"] <= whole["tokens"] and majority["tokens"] <= whole["tokens"]
    assert majority["difference"] == 0, "the same class always; a random model is never right in one wording alone"
    assert set(result["waiting"]["seconds"]) == {"sequential", "self-consistency", "auto", "majority"}
    assert main(["bench", "think", model_folder, "--methods", "magic"]) == 2


def test_bench_measures_efforts_and_keeps_them(model_folder: str, capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in Path(model_folder).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert main(["bench", "think", str(folder), "--efforts", "--problems", "3", "--budget", "16", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)[KEY]
    about = json.loads((folder / "raison.json").read_text())
    assert about["provenance"][KEY] == kept
    assert about["provenance"]["task"] == "countdown" and "weights" in about, "what was there stays"
