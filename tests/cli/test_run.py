"""`raison run`: which folder a run gets, what it can be resumed from, and a whole run in miniature."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raison.cli import main
from raison.cli import run as command
from raison.config import Recipe, dump, parse_recipe
from raison.errors import UserError
from raison.train.loop import Stopped

TINY: dict[str, Any] = {
    "name": "mini",
    "model": {"preset": "nano", "num_hidden_layers": 1, "hidden_size": 48, "n_routed_experts": 4, "n_group": 1,
              "num_nextn_predict_layers": 0},
    "task": {"name": "countdown", "levels": [2]},
    "train": {"precision": "fp32", "threads": 1},
    "stage": [{"kind": "sft", "steps": 2, "batch_tokens": 256}],
    "evaluation": {"problems": 4, "level": 2, "budgets": [4, 8], "votes": [1, 2]},
}  # fmt: skip


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(TINY)


def begin(runs: Path, name: str, recipe: Recipe, ended: bool = False) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(dump(recipe))
    (folder / "run.json").write_text(json.dumps({"ended": "now"} if ended else {}))
    return folder


def test_a_new_folder_never_meets_an_old_one(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-120000")
    for name in ("mini-20260101-120000", "mini-20260101-120000+2"):
        folder = command.new_folder(tmp_path, recipe)
        assert folder.name == name
        folder.mkdir()


def test_resume_finds_the_newest_unfinished_run_of_this_recipe(tmp_path: Path, recipe: Recipe) -> None:
    other = replace(recipe, seed=7)
    begin(tmp_path, "mini-1", recipe, ended=True)
    wanted = begin(tmp_path, "mini-2", recipe)
    begin(tmp_path, "mini-3", other)
    assert command.unfinished(tmp_path, recipe) == wanted
    shutil.rmtree(wanted)
    with pytest.raises(UserError, match=r"mini-3 was made by another version of this recipe.*mini-3/recipe.toml"):
        command.unfinished(tmp_path, recipe)
    shutil.rmtree(tmp_path / "mini-3")
    with pytest.raises(UserError, match="no unfinished run of mini"):
        command.unfinished(tmp_path, recipe)


def test_a_stopped_run_says_how_to_go_on(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Stopped("stopped after step 1 of sft")

    monkeypatch.setattr(command, "run_recipe", stop)
    path = tmp_path / "mini.toml"
    path.write_text(dump(recipe))
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 130
    said = capsys.readouterr().out
    assert "stopped after step 1 of sft" in said
    assert f"run {path} --runs {tmp_path / 'runs'} --resume" in said


def test_resume_line_repeats_what_changes_the_run() -> None:
    plain = Namespace(threads=0, runs=Path("runs"), recipe=Path("r.toml"))
    assert command.resume_line(plain).endswith("run r.toml --resume")


def test_a_whole_run_in_miniature(tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mini.toml"
    path.write_text(dump(recipe))
    assert main(["run", str(path), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert len(said.out.splitlines()) == 1
    for part in ("predicted:", "✓ sft", "pass@1", "the bill", "Next:"):
        assert part in said.err, part
    assert Path(told["model"], "config.json").is_file()
    assert told["report"] is None or Path(told["report"]).is_file()
    assert command.is_finished(Path(told["folder"]))
    assert main(["run", str(path), "--runs", str(tmp_path / "runs"), "--resume"]) == 2, "nothing is left to resume"
