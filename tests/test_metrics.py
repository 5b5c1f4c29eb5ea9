"""The metrics log: what is on disk after a kill, what a resume keeps, and what a person sees."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.errors import UserError
from raison.metrics import MetricsWriter, StepMetrics, read_metrics


def step(number: int, stage: str = "grpo", total: int = 10, **figures: float) -> StepMetrics:
    return StepMetrics(stage, number, total, tokens=1000, seconds=2.0, figures=figures or {"loss": 1 / number})


def fill(path: Path, numbers: range, **options: int) -> None:
    with MetricsWriter(path, **options) as writer:
        for number in numbers:
            writer.write(step(number))


def test_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    fill(path, range(1, 4))
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    same = {"stage": "grpo", "step": 2, "total": 10, "tokens": 1000, "seconds": 2.0, "loss": 0.5}
    assert read_metrics(path)[1] == same


def test_not_a_number_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write(step(1, loss=float("nan"), reward=float("inf")))
    assert read_metrics(path)[0]["loss"] is None
    assert "NaN" not in path.read_text()


@given(kept=st.integers(0, 4), cut=st.integers(1, 200))
def test_resuming_equals_never_stopping(tmp_path_factory: pytest.TempPathFactory, kept: int, cut: int) -> None:
    """Killed anywhere after step `kept` was saved, with the file cut at any later byte, the log ends the same."""
    folder = tmp_path_factory.mktemp("log")
    fill(folder / "whole", range(1, 7))
    whole = (folder / "whole").read_bytes()
    saved = len(b"".join(whole.splitlines(keepends=True)[:kept]))
    (folder / "resumed").write_bytes(whole[: saved + cut])
    fill(folder / "resumed", range(kept + 1, 7), resume_step=kept + 1)
    assert (folder / "resumed").read_bytes() == whole


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    fill(path, range(1, 3))
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    assert read_metrics(tmp_path / "absent") == []


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("Dear diary\n")
    with pytest.raises(UserError, match="line 1 is not a step"):
        MetricsWriter(path)
    assert path.read_text() == "Dear diary\n"


def test_every_line_is_on_disk_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    code = f"""
import os, signal
from pathlib import Path
from raison.metrics import MetricsWriter, StepMetrics
writer = MetricsWriter(Path({str(path)!r}))
for number in range(1, 6):
    writer.write(StepMetrics("sft", number, 9, 1, 1.0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4, 5]
