"""A whole frontier in miniature of the miniature: cells, shared samples, a stop on the way, the result and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raison import load
from raison.bench.answerers import Manner, engine_answers
from raison.bench.frontier import record
from raison.bench.frontier.cells import Cell, all_cells, chain, recipe_of
from raison.bench.frontier.forecast import Clock
from raison.bench.frontier.grid import dump, load_grid, parse_grid, shipped_grid
from raison.bench.frontier.record import Record
from raison.bench.frontier.run import GRID, Frontier
from raison.bench.frontier.sharing import over_budgets
from raison.bench.problem_set import draw
from raison.cli.entry import main
from raison.config import GrpoStage
from raison.errors import UserError
from raison.tasks.catalog import load_task
from tests.bench.grids import made_up, micro, table, tossed, wide
from tests.train.runs import Watcher


class Watch(Watcher):
    """Remembers cells, and can have enough after so many."""

    def __init__(self, most: int = 1 << 30) -> None:
        super().__init__()
        self.most, self.cells, self.forecasts = most, list[str](), list[int]()

    def forecast(self, clock: Clock, waiting: list[Cell], done: int) -> None:
        self.forecasts.append(len(waiting))
        assert not waiting or clock.total > 0

    def cell_done(self, record: Record, left: float) -> None:
        self.cells.append(record.cell.id)
        if len(self.cells) >= self.most:
            raise KeyboardInterrupt


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("raison.bench.frontier.sharing.judged", tossed)
    monkeypatch.setattr("raison.plan.least_squares.RESAMPLES", 3)
    monkeypatch.setattr("raison.plan.coverage.RESAMPLES", 3)
    monkeypatch.setattr("raison.bench.frontier.cells.SMALL_EVALUATION", 2)


@pytest.mark.parametrize("mini", [False, True])
def test_the_grids_that_are_shipped_are_whole(mini: bool, tmp_path: Path) -> None:
    grid = shipped_grid("countdown", mini)
    (tmp_path / "grid.toml").write_text(dump(grid))
    assert load_grid(tmp_path / "grid.toml") == grid
    assert len(grid.sha256) == 64
    cells = all_cells(grid)
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(cell.parent is None or cell.parent.id in {c.id for c in cells} for cell in cells)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": [512]}, "at least 6 trained models"),
        ({"votes": [4, 1]}, "votes is .* rising"),
        ({"budgets": [4, 16]}, "grpo.budget is 8"),
        ({"vote": [1]}, 'did you mean "votes"'),
        ({"size": [table()["size"][0]] * 2}, "a name of its own"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_grid(table(**changes))


def test_cells_share_tokens_and_go_on_in_chains() -> None:
    grid = wide()
    first, second, last = chain("a", 100_000, 10, 40)
    recipe = recipe_of(grid, first, None)
    assert sum(stage.steps * stage.batch_tokens for stage in recipe.stages) == pytest.approx(100_000, rel=0.01)
    going_on = recipe_of(grid, last, Path("before"))
    (stage,) = going_on.stages
    assert isinstance(stage, GrpoStage) and stage.steps == 30 and not stage.control and going_on.model == "before"
    assert last.parent is not None and last.parent.id == second.id and first.parent is None
    assert recipe_of(micro(), Cell("a", 512), None).stages[0].optimizer.warmup == 0, "a short stage has no long warm-up"


def test_a_smaller_budget_shares_the_samples_that_had_ended() -> None:
    """What is not drawn again is the very sample that a run under the smaller budget draws."""
    torch.set_num_threads(1)
    engine = load().engine
    problems = draw(load_task("countdown", held_out=True), 3, 8, 5)
    manner, budgets = Manner(samples=3, budget=256, seed=4), (32, 96, 256)
    shared = over_budgets(engine, problems, manner, budgets)
    assert 0.05 < shared.drawn_again < 0.95
    for budget in budgets:
        params = Manner(samples=3, budget=budget, seed=4).params(8, thinks=True)
        fresh = engine_answers(engine, problems.problems, params, 3)
        told = [
            [(sample.answer, sample.thinking_tokens, sample.cut) for sample in row] for row in shared.sheets[budget]
        ]
        assert told == [
            [(one.answer, one.thinking_tokens, one.forced_close or one.finish_reason == "length") for one in row]
            for row in fresh
        ]


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    one = made_up(wide())[7]
    record.write(tmp_path, one)
    assert record.read(tmp_path) == one and record.read(tmp_path / "none") is None
    (tmp_path / record.FILE).write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        record.read(tmp_path)
    assert record.last_tenth([9.0] * 19 + [1.0, 2.0]) == 1.5


def test_a_frontier_goes_on_after_a_stop_and_ends_in_a_checked_split(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, folder = micro(rl_steps=[1]), tmp_path / "frontier-micro-1"
    stopped = Watch(most=3)
    with pytest.raises(KeyboardInterrupt):
        Frontier(grid, folder, stopped).run()
    kept = {path: path.read_bytes() for path in folder.glob("cells/*/measured.json")}
    assert set(stopped.cells) == {path.parent.name for path in kept} and stopped.forecasts == [12]
    (tmp_path / "grid.toml").write_text(dump(grid))
    words = ["frontier", "--grid", str(tmp_path / "grid.toml"), "--runs", str(tmp_path), "--threads", "1", "--resume"]
    assert main([*words, "--check", "--seeds", "2", "--json"]) == 0
    out = capsys.readouterr()
    assert "9 models to train" in out.err and "3 were done before" in out.err and "The next 10% would gain" in out.err
    assert all(path.read_bytes() == text for path, text in kept.items()), "what was measured is not measured again"
    found, printed = json.loads((folder / "result.json").read_text()), json.loads(out.out.splitlines()[-1])
    assert found["grid_sha256"] == grid.sha256 == printed["grid_sha256"] and len(found["cells"]) == 12
    assert found["predicted_seconds"] > 0 and {"commit", "versions", "started", "machine"} <= found.keys()
    page = (folder / "report.html").read_text()
    assert (
        "Where should the next dollar go?" in page and page.count("<svg") == 3 and "http" not in page.split("<svg")[0]
    )
    assert (folder / "laws.svg").is_file() and not list(folder.glob("**/rollouts.jsonl"))
    arms = found["check"]["arms"]
    assert arms[0]["arm"] == "recommended" and arms[0]["recommended_less_this"] is None
    assert found["check"]["seeds"] == 2 and "trained anew with 2 seeds each" in page and "seeds each" in out.err
    assert all([run["cell"].split("-s")[1] for run in arm["runs"]] == ["1", "2"] for arm in arms)
    assert all(len({run["model_sha256"] for run in arm["runs"]}) == 2 for arm in arms), "two seeds, two models"
    assert all(arm["recommended_less_this"]["low"] <= arm["recommended_less_this"]["high"] for arm in arms[1:])
    with pytest.raises(UserError, match="another grid"):
        Frontier(micro(rl_steps=[2]), folder, Watch()).run()
    assert main(words) == 2, "it is finished"
    capsys.readouterr()
    assert main([*words, "--flops", str(2 * found["check"]["budget_flops"])]) == 0
    assert f"Of {2 * found['check']['budget_flops']:.2e} FLOPs" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontier", "--task", "chess"]) == 2
    assert "no grid for chess" in capsys.readouterr().err
    for refused, said in ((["--seeds", "2"], "--check too"), (["--check", "--seeds", "0"], "at least 1"),
                          (["--flops", "-1"], "above 0"), (["--flops", "nan"], "above 0")):  # fmt: skip
        assert main(["frontier", "--mini", *refused]) == 2
        assert said in capsys.readouterr().err
    assert main(["frontier", "--mini", "--resume", "--runs", str(tmp_path)]) == 2
    assert "no unfinished run of this grid" in capsys.readouterr().err
    (tmp_path / GRID).write_text("name = ")
    assert main(["frontier", "--grid", str(tmp_path / GRID)]) == 2
    assert "not TOML" in capsys.readouterr().err
