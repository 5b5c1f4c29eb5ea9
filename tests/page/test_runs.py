"""Training runs through the API: incremental, patient with half-written files, deaf to names that are paths."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'raison[serve]'")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from raison.files import holding
from raison.serve import run_files, runs
from raison.serve.run_files import Tail
from tests.page.written_run import ACCURACY, WrittenRun

NAME = "countdown-20261122-052758"


@pytest.fixture
def written(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "runs")


@pytest.fixture
def client(written: WrittenRun) -> TestClient:
    app = FastAPI()
    app.state.runs = runs.Runs(written.folder.parent)
    app.include_router(runs.router)
    return TestClient(app)


def ask(client: TestClient, name: str = NAME, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/raison/runs/{name}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_list_says_where_each_run_is(written: WrittenRun, client: TestClient) -> None:
    WrittenRun(written.folder.parent, "older").save(evaluation={})
    os.utime(written.folder.parent / "older", (1, 1))
    written.grpo_step(1)
    newest = client.get("/v1/raison/runs").json()["data"][0]
    assert (newest["name"], newest["state"], newest["stage"]) == (NAME, "stopped", "grpo")
    assert (newest["step"], newest["total"], newest["recipe"], newest["task"]) == (1, 40, "countdown", "countdown")
    assert ask(client, "older")["state"] == "finished"


def test_stages_are_told_in_their_order_with_what_they_reached(written: WrittenRun, client: TestClient) -> None:
    written.grpo_step(1)
    first, grpo, control = ask(client)["stages"]
    assert (first["name"], first["state"], first["accuracy"]) == ("cold-start", "done", ACCURACY)
    assert (grpo["state"], grpo["step"], grpo["total"], grpo["seconds"]) == ("active", 1, 40, 0.5)
    assert (control["name"], control["state"], control["control"]) == ("grpo-control", "waiting", True)
    assert control["predicted_seconds"] == 60.0


def test_a_run_goes_on_while_a_process_holds_it(written: WrittenRun, client: TestClient) -> None:
    with holding(written.folder):
        assert ask(client)["state"] == "running"
    assert ask(client)["state"] == "stopped"
    written.save(evaluation={})
    assert ask(client)["state"] == "finished"


def test_only_steps_after_the_one_named_are_sent(written: WrittenRun, client: TestClient) -> None:
    for step in (1, 2, 3):
        written.grpo_step(step)
    assert [row["step"] for row in ask(client, after=1)["metrics"]] == [2, 3]
    assert [row["step"] for row in ask(client, stage="cold-start", after=1)["metrics"]] == [2]
    assert ask(client, after=3)["metrics"] == []


def test_a_line_half_written_waits_for_its_other_half(written: WrittenRun, client: TestClient) -> None:
    written.grpo_step(1)
    written.append("grpo", "metrics.jsonl", '{"stage": "grpo", "step": 2, "tot')
    assert [row["step"] for row in ask(client)["metrics"]] == [1]
    written.append("grpo", "metrics.jsonl", 'al": 40, "reward": 0.5}\n')
    assert [row["step"] for row in ask(client)["metrics"]] == [1, 2]


def test_what_is_no_step_is_passed_over_and_what_is_no_number_is_null(written: WrittenRun, client: TestClient) -> None:
    odd = ["nonsense", "[1]", '{"step": "one"}', "[" * 100_000, '{"step": 7, "reward": NaN, "loss": Infinity, "x": {}}']
    written.append("grpo", "metrics.jsonl", "\n".join(odd) + "\n")
    assert ask(client)["metrics"] == [{"step": 7, "reward": None, "loss": None}]


def test_a_log_is_read_on_from_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def noting(lines: list[bytes]) -> Any:
        parsed.extend(lines)
        return original(lines)

    original = run_files.parsed
    monkeypatch.setattr(run_files, "parsed", noting)
    log, path = Tail(tmp_path / "log"), tmp_path / "log"
    assert log.rows() == []
    for number in range(3):
        with path.open("a") as file:
            file.write(f'{{"step": {number}}}\n')
        assert [row["step"] for row in log.rows()] == list(range(number + 1))
    assert len(parsed) == 3, "each line was read once"


@pytest.mark.parametrize("rewritten", [[0], [0, 10, 11, 12, 13], [5, 6]], ids=["cut", "cut and grown", "replaced"])
def test_a_log_that_was_cut_by_a_resumption_is_read_anew(tmp_path: Path, rewritten: list[int]) -> None:
    path = tmp_path / "log"

    def write(steps: list[int]) -> None:
        path.write_text("".join(f'{{"step": {step}}}\n' for step in steps))

    write([0, 1, 2])
    log = Tail(path)
    assert len(log.rows()) == 3
    write(rewritten)
    assert [row["step"] for row in log.rows()] == rewritten
    path.unlink()
    assert log.rows() == []


def test_samples_are_told_in_words_one_solved_and_one_not(written: WrittenRun, client: TestClient) -> None:
    for step in (0, 1):
        for correct in (True, False, True):
            answer = "7 * 3 + 25 = 46" if correct else "25 + 7 + 3 = 35"
            written.rollout(step, "3 7 25 -> 46", f"7 * 3 = 21 at {step}", answer, correct)
    written.append("grpo", "rollouts.jsonl", '{"problem": {"prompt": "half')
    solved, failed = ask(client)["samples"]
    assert (solved["step"], solved["thinking"], solved["answer"]) == (1, "7 * 3 = 21 at 1", "7 * 3 + 25 = 46")
    assert (failed["correct"], failed["reason"], failed["reward"]) == (False, "makes 35", 0.0)
    assert ask(client, samples=1)["samples"] == [solved]


def test_without_a_tokenizer_samples_still_have_their_verdicts(written: WrittenRun, client: TestClient) -> None:
    written.rollout(0, "3 7 25 -> 46", "thinking", "7 * 3 + 25 = 46", True)
    (written.folder / "tokenizer.json").write_text("{damaged")
    (sample,) = ask(client)["samples"]
    assert (sample["thinking"], sample["answer"], sample["correct"]) == ("", "", True)


def test_of_a_long_log_of_rollouts_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "END_BYTES", 100)
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1000)))
    found = [row["step"] for row in run_files.last_rows(path)]
    assert found == list(range(found[0], 1000)) and 1 < len(found) < 10
    path.write_text(json.dumps({"long": "x" * 5000}) + "\n")
    assert len(run_files.last_rows(path)) == 1, "a line longer than the piece that is read first"


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", "%2fetc%2fpasswd", ".hidden", "a%00b", "x" * 5000])
def test_a_name_is_never_a_path(written: WrittenRun, client: TestClient, name: str) -> None:
    WrittenRun(written.folder.parent, ".hidden")
    assert client.get(f"/v1/raison/runs/{name}").status_code == 404


@pytest.mark.parametrize("stage", ["..", "../../..", "/etc", "\0", "none"])
def test_a_stage_is_never_a_path(client: TestClient, stage: str) -> None:
    assert client.get(f"/v1/raison/runs/{NAME}", params={"stage": stage}).status_code == 404


def test_a_run_that_has_only_its_recipe_yet_is_shown(written: WrittenRun, client: TestClient) -> None:
    (written.folder / "run.json").write_text("{")
    run = ask(client)
    assert [stage["name"] for stage in run["stages"]] == ["cold-start", "grpo", "grpo-control"]


def test_without_a_folder_of_runs_there_are_none(tmp_path: Path) -> None:
    app = FastAPI()
    app.state.runs = runs.Runs(tmp_path / "nowhere")
    app.include_router(runs.router)
    assert TestClient(app).get("/v1/raison/runs").json() == {"object": "list", "data": []}
