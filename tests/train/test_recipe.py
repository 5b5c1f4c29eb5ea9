"""Whole runs in miniature: every stage, the bill, resuming after SIGKILL at any moment, bad endings."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from raison.errors import NumericalError, UserError
from raison.text.tokenizer import load_backend
from raison.train import checkpoint
from raison.train import recipe as recipes
from raison.train.loop import Stopped, StopRequest
from raison.train.recipe import expand, run_recipe
from raison.train.rollout import read_rollouts
from raison.weights import folder as model_folder
from tests.train.runs import Watcher, small, table

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def weights_of(run: Path) -> dict[str, str]:
    files = sorted(run.glob("stages/*/model/model.safetensors"))
    return {f.parts[-3]: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def logged_steps(run: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in run.glob("stages/*/metrics.jsonl"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    torch.set_num_threads(1)
    watcher, folder = Watcher(), tmp_path_factory.mktemp("run") / "small"
    run_recipe(small(), folder, watch=watcher)
    return folder, watcher


def test_run_ends_in_a_model_a_bill_and_an_evaluation(finished: tuple[Path, Watcher]) -> None:
    folder, watcher = finished
    assert [o.stage for o in watcher.outcomes] == ["pretrain", "sft", "grpo", "grpo-control"]
    state = json.loads((folder / "run.json").read_text())
    lines = state["bill"]["actual"]
    assert all(line["tokens"] > 0 and line["flops"] > 0 and line["seconds"] > 0 for line in lines)
    assert [line["stage"] for line in state["bill"]["predicted"]] == [line["stage"] for line in lines]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert [row["budget"] for row in evaluation["budgets"]] == [0, 4, 8]
    assert evaluation["budgets"][0]["thinking_tokens"] == 0
    assert model_folder.load(folder / "model").provenance["checker"] == "countdown@1"


def test_every_rollout_is_in_the_log_with_what_is_needed_to_use_it_again(finished: tuple[Path, Watcher]) -> None:
    folder, watcher = finished
    rollouts = list(read_rollouts(folder / "stages" / "grpo" / "rollouts.jsonl"))
    sampled = sum(len(r.completion_ids) for r in rollouts)
    trained = sum(s.tokens for s in watcher.steps if s.stage == "grpo") - sampled
    assert trained >= 0
    assert {r.step for r in rollouts} == {0, 1, 2}
    vocabulary = load_backend(folder / "tokenizer.json")
    assert vocabulary.to_str() == load_backend(folder / "model" / "tokenizer.json").to_str()
    assert all(len(r.logprobs) == len(r.completion_ids) and r.verdict.checker == "countdown@1" for r in rollouts)


def test_control_starts_where_the_stage_did_and_pays_a_coin(finished: tuple[Path, Watcher]) -> None:
    folder, _ = finished
    plan = {p.stage.name: p for p in expand(small())}
    assert plan["grpo-control"].parent == plan["grpo"].parent
    rewards = [r.reward for r in read_rollouts(folder / "stages" / "grpo-control" / "rollouts.jsonl")]
    assert set(rewards) == {0.0, 1.0}  # 48 or more coins: all alike has a chance below 1e-13


def test_same_seed_gives_the_same_weights(finished: tuple[Path, Watcher], tmp_path: Path) -> None:
    run_recipe(small(), tmp_path / "again", watch=Watcher())
    assert weights_of(tmp_path / "again") == weights_of(finished[0])


def test_another_seed_gives_other_weights(finished: tuple[Path, Watcher], tmp_path: Path) -> None:
    run_recipe(small(seed=1, stage=table()["stage"][:1]), tmp_path / "other", watch=Watcher())
    assert weights_of(tmp_path / "other")["pretrain"] != weights_of(finished[0])["pretrain"]


def test_killed_at_random_moments_and_resumed_ends_bit_identical(
    finished: tuple[Path, Watcher], tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.train.run_small", str(run)]
    rng = random.Random(0)
    kills = 0
    for _ in range(3):
        done = logged_steps(run)
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while logged_steps(run) == done and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2))  # into the middle of a step, a save or an evaluation
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills  # a fast machine may end the run within three lives, but not within the first
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=240)
    assert weights_of(run) == weights_of(finished[0])
    steps = [json.loads(line)["step"] for line in (run / "stages/grpo/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    logged = [(r.step, r.completion_ids) for r in read_rollouts(run / "stages/grpo/rollouts.jsonl")]
    assert logged == [(r.step, r.completion_ids) for r in read_rollouts(finished[0] / "stages/grpo/rollouts.jsonl")]


def test_stop_is_clean_and_resumable(
    finished: tuple[Path, Watcher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopsAtOnce(StopRequest):
        def __enter__(self) -> StopRequest:
            super().__enter__()
            self.wanted = True
            return self

    monkeypatch.setattr(recipes, "StopRequest", StopsAtOnce)
    with pytest.raises(Stopped, match="pretrain"):
        run_recipe(small(), tmp_path / "run", watch=Watcher())
    monkeypatch.undo()
    run_recipe(small(), tmp_path / "run", watch=Watcher(), resume=True)
    assert weights_of(tmp_path / "run") == weights_of(finished[0])


def test_divergence_stops_names_the_place_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    stage = table()["stage"][0] | {"steps": 30, "optimizer": {"lr": 1e30, "muon_lr": 1e30, "clip": 0.0, "warmup": 0}}
    with pytest.raises(NumericalError, match=r"pretrain, step \d+: .* the last good state is in .*checkpoints/"):
        run_recipe(small(stage=[stage]), tmp_path / "run", watch=Watcher())
    kept = checkpoint.load(tmp_path / "run/stages/pretrain/checkpoints")
    assert kept.step == 0  # the first update already spoilt the weights
    assert all(tensor.isfinite().all() for tensor in kept.model.values())


def test_small_vocabulary_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vocab_size is 100"):
        run_recipe(small(model={**table()["model"], "vocab_size": 100}), tmp_path / "run", watch=Watcher())
