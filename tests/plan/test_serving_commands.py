"""`raison plan serve`, `compare` and `fit` as typed: exit codes, JSON, a plot, errors on one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raison.cli import main


def _json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["plan", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


def test_serve_prints_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("serve", "r1-671b", "--chip", "8xH200", "--streams", "64")
    told = _json(capsys, *words)
    assert told["verdict"] == "served" and told["chips"] == 8 and told["cache_bytes_per_token"] == 70_272
    assert main(["plan", *words]) == 0
    shown = capsys.readouterr().out
    assert told["layout"] in shown and f"{told['tokens_per_second_user']['mid']:,.1f}" in shown
    assert all(
        part in shown for part in ("tokens/s a rack", "time to first token", "$/M tokens", "bound by", "weights")
    )


def test_an_answer_of_no_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    told = _json(capsys, "serve", "r1-671b", "--chip", "H100", "--chips", "2", code=1)
    assert told["verdict"] == "infeasible" and "tokens_per_second_user" not in told
    told = _json(capsys, "serve", "llama-3.1-8b", "--chip", "H100", "--chips", "1", "--rate", "9999", code=1)
    assert told["verdict"] == "saturated"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve", "r1-671b", "--chip", "H999"), "there is no chip"),
        (("serve", "nobody", "--chip", "H100"), "no model"),
        (("serve", "tiny", "--chip", "H100", "--precision", "fast"), "no precision"),
        (("serve", "tiny", "--chip", "H100", "--max-tpot", "0"), "--max-tpot"),
        (("serve", "tiny", "--chip", "H100", "--tp", "3"), "no layout"),
        (("compare", ",", "--chip", "H100"), "at least one"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_two(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_compare_draws_every_frontier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "compare.svg"
    told = _json(capsys, "compare", "r1-671b", "--chip", "H200,B200", "--chips", "8", "--plot", str(plot))
    assert [line["chip"] for line in told["frontiers"]] == ["H200 SXM", "B200 SXM"]
    assert all(len(line["points"]) > 3 for line in told["frontiers"])
    assert "r1-671b on B200 SXM" in plot.read_text() or "DeepSeek-R1 on B200 SXM" in plot.read_text()


def test_fit_writes_calibrations_that_plan_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "vllm ISL/OSL 512/512 conc"
    rows = ["id,model,precision,hardware,chips,workload,metric,value,unit,date,source"]
    for streams in (1, 8, 64):
        rows.append(f"a,Llama-3.1-8B,bf16,H100,1,{words} {streams},tpot_ms,{9 + streams / 8},ms,2026-01,me")
    source, out = tmp_path / "points.csv", tmp_path / "calibrations.json"
    source.write_text("\n".join(rows))
    assert main(["plan", "fit", str(source), "--out", str(out)]) == 0
    assert "gpu / vllm" in capsys.readouterr().out
    written = json.loads(out.read_text())["calibrations"]
    assert {tuple(entry["key"]) for entry in written} >= {("gpu",), ("gpu", "vllm"), ("H100 SXM", "vllm", "dense")}
    assert all(entry["sources"] == ["me"] and entry["points"] == 3 for entry in written)
    assert main(["plan", "fit", str(source), "--leave-out", "a"]) == 2
