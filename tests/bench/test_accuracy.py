"""Accuracy of models on fixed problems: versions and hashes, scores of known sheets, going on after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raison.bench import accuracy
from raison.bench.accuracy import Measurement, Sample, next_part, read
from raison.bench.answerers import Manner, RemoteModel, engine_answers
from raison.bench.problem_set import draw, whole_file
from raison.bench.score import compare, majorities, score, voted
from raison.cli.entry import main
from raison.endpoint import Reply
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.errors import CheckpointError, UserError
from raison.metrics import StepMetrics
from raison.reasoner import SHIPPED
from raison.records import Completion, Problem
from raison.tasks.catalog import load_task
from raison.weights.fingerprint import fingerprint
from tests.engine.small import make_engine

PROBLEMS = draw(load_task("countdown@1", held_out=True), level=2, count=12, seed=0)
MANNER = Manner(samples=3, budget=6, answer_tokens=8)


class Untrained:
    """A model that has learnt nothing, and can fail after so many problems."""

    name, thinks = "untrained", True

    def __init__(self, fails_after: int = 1 << 30) -> None:
        self.left = fails_after
        self.engine: Engine = make_engine(cache_tokens=2048)

    def identity(self) -> dict[str, Any]:
        return {"model": self.name, "sha256": "0" * 64}

    def answer(self, problems: Sequence[Problem], params: Sequence[SamplingParams], n: int) -> list[list[Completion]]:
        if self.left <= 0:
            raise UserError("out of breath")
        self.left -= len(problems)
        return engine_answers(self.engine, problems, params, n)


class Sink:
    def __init__(self) -> None:
        self.heard: list[StepMetrics] = []

    def write(self, metrics: StepMetrics) -> None:
        self.heard.append(metrics)

    def close(self) -> None:
        pass


def measure(path: Path, model: Untrained, sink: Sink | None = None) -> Measurement:
    measurement = Measurement(path, PROBLEMS, MANNER, [model.identity()])
    measurement.run([model], sink or Sink())
    return measurement


def sample(answer: str, correct: bool, likelihood: float = 0.0, lenient: bool | None = None) -> Sample:
    return Sample(answer, correct, lenient, 10, 8, False, likelihood)


def test_a_task_is_asked_for_by_the_version_its_checker_states() -> None:
    assert load_task("countdown@1", held_out=True).name == "countdown"
    with pytest.raises(UserError, match=r"this installation has arithmetic@2, not arithmetic@1"):
        load_task("arithmetic@1", held_out=True)
    with pytest.raises(UserError, match="has no level 9"):
        draw(load_task("countdown", held_out=True), 9, 1, 0)


def test_the_hash_names_problems_and_their_order(tmp_path: Path) -> None:
    task = load_task("countdown", held_out=True)
    assert draw(task, 2, 12, 0).sha256 == PROBLEMS.sha256
    assert draw(task, 2, 12, 1).sha256 != PROBLEMS.sha256
    assert PROBLEMS.first(11).sha256 != PROBLEMS.sha256
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "what is {i}?", "answer": "{i}"}}\n' for i in range(5)))
    whole = whole_file(str(rows))
    assert [problem.gold for problem in whole.problems] == ["0", "1", "2", "3", "4"]
    with pytest.raises(UserError, match=r"no \.jsonl file"):
        whole_file("countdown")


def test_a_models_hash_is_of_what_decides_its_words(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(SHIPPED, copy)
    (copy / "raison.json").write_text("{}")
    assert fingerprint(copy) == fingerprint(SHIPPED)
    (copy / "chat_template.jinja").write_text("another")
    assert fingerprint(copy) != fingerprint(SHIPPED)
    with pytest.raises(CheckpointError, match="holds no model"):
        fingerprint(tmp_path)


def test_a_known_sheet_has_its_known_score() -> None:
    sheet = [
        [sample("7", True), sample("7", True), sample("3", False), sample("7.0", True)],
        [sample("3", False), sample("5", True), sample("", False), sample("3", False)],
    ]
    found = score(sheet, [1, 2, 4, 8])
    assert found.pass_at_1.value == pytest.approx(0.5)
    assert [seed.value for seed in found.seeds] == [0.5, 1.0, 0.0, 0.5]
    assert found.pass_at_k[2].value == pytest.approx((1.0 + 0.5) / 2)
    assert sorted(found.maj_at_k) == [1, 2, 4]
    assert found.maj_at_k[4].value == 0.5
    assert majorities(sheet, 2) == [0.5, 0.0], "of a tie the earliest leads"
    assert found.silent_share == pytest.approx(1 / 8) and found.lenient is None


def test_a_vote_speaks_with_the_likeliest_of_its_class() -> None:
    assert voted([sample("2+3", True, -1.0), sample("5", False, -0.1), sample("4", False)]).answer == "5"


def test_models_are_compared_on_the_same_problems() -> None:
    good = [[sample("1", True), sample("1", True)]] * 3 + [[sample("2", False)] * 2]
    bad = [[sample("2", False), sample("1", True)]] * 3 + [[sample("2", False)] * 2]
    found = compare(good, bad, [1, 2])
    assert found.pass_at_1.value == pytest.approx(0.375)
    assert (found.first_samples.gained, found.first_samples.lost) == (3, 0)
    assert found.majority is not None and found.majority.gained == 3 and sorted(found.maj_at_k) == [2]


def test_a_measurement_that_was_cut_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(tmp_path / "whole.json", Untrained())
    monkeypatch.setattr(accuracy, "next_part", lambda *_: 3)
    with pytest.raises(UserError, match="out of breath"):
        measure(tmp_path / "cut.json", Untrained(fails_after=8))
    sink = Sink()
    again = measure(tmp_path / "cut.json", Untrained(), sink)
    assert again.resumed == 12 and 0 < len(sink.heard) < 12
    assert again.measured[0].samples == whole.measured[0].samples
    assert again.measured[0].checker == "countdown@1"
    kept = read(tmp_path / "cut.json")
    assert {"problems_sha256", "models", "seed", "commit", "versions", "started", "ended"} <= kept.keys()
    finished = measure(tmp_path / "cut.json", Untrained(fails_after=0), sink)
    assert finished.measured[0].samples == whole.measured[0].samples


def test_another_measurement_is_not_written_over(tmp_path: Path) -> None:
    measure(tmp_path / "one.json", Untrained())
    with pytest.raises(UserError, match="another measurement: its budget is 6, not 7"):
        Measurement(tmp_path / "one.json", PROBLEMS, Manner(samples=3, budget=7, answer_tokens=8), [{}])
    (tmp_path / "two.json").write_text("{}")
    with pytest.raises(UserError, match="no result of raison bench accuracy"):
        Measurement(tmp_path / "two.json", PROBLEMS, MANNER, [{}])


def test_parts_grow_with_the_pace() -> None:
    assert next_part(16, 0.1, 4) == 64
    assert next_part(16, 20.0, 4) == 8
    assert next_part(1, 1000.0, 4) == 1
    assert next_part(400, 0.1, 16) == accuracy.MOST_SAMPLES // 16


def test_an_endpoint_answers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(self: object, question: str, *, temperature: float, max_tokens: int, seed: int) -> Reply:
        asked.append(seed)
        return Reply("hm", question, True, 9)

    monkeypatch.setattr("raison.endpoint.Endpoint.ask", ask)
    model = RemoteModel("http://127.0.0.1:9/v1#some")
    assert model.identity() == {"model": "some", "sha256": None, "endpoint": "http://127.0.0.1:9/v1"}
    some = PROBLEMS.problems[:3]
    heard = model.answer(some, MANNER.params(3, True), 2)
    assert [[one.answer for one in row] for row in heard] == [[p.prompt] * 2 for p in some]
    assert len(set(asked)) == 6
    with pytest.raises(UserError, match="names no model"):
        RemoteModel("http://127.0.0.1:9/v1")


def test_the_command_says_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bench", "accuracy", "shipped", "shipped", "--task", "countdown@1", "--problems", "8", "--samples", "2"]
    assert main([*words, "--budget", "16", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["task"] == "countdown@1" and found["comparison"]["pass_at_1"]["value"] == 0
    assert found["models"][0]["sha256"] == fingerprint(SHIPPED) and Path(found["file"]).is_file()
    assert main(["bench", "accuracy", "a", "b", "c"]) == 2
    assert "one, or two to compare" in capsys.readouterr().err
