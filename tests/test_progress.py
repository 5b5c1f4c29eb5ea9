"""What a person sees of a running stage, on a terminal and in a log file."""

from __future__ import annotations

import io

from rich.console import Console

from raison.metrics import StepMetrics
from raison.progress import ConsoleSink, clock_time


def step(number: int, stage: str = "grpo", total: int = 10, **figures: float) -> StepMetrics:
    return StepMetrics(stage, number, total, tokens=1000, seconds=2.0, figures=figures)


def test_plain_output_is_one_line_in_ten_seconds() -> None:
    now, out = [0.0], io.StringIO()
    sink = ConsoleSink(Console(file=out, width=200), clock=lambda: now[0])
    for number in range(1, 31):
        now[0] += 2.0
        sink.write(step(number, total=30, solved=0.5))
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["grpo", "step", "1/30", "0:58", "left", "0.5", "k", "tok/s", "solved", "0.5"]
    assert len(lines) == 7, "at 2, 12, 22, 32, 42 and 52 s, and the last step"
    sink.close()
    assert out.getvalue().splitlines()[-1].split()[:3] == ["✓", "grpo", "1:00"]


def test_a_terminal_keeps_a_line_of_each_stage() -> None:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, width=100, force_terminal=True))
    sink.write(step(10, "pretrain", length=1234.5))
    sink.write(step(3, "sft"))
    sink.close()
    text = out.getvalue()
    for part in ("✓ pretrain", "length 1234", "step 3/10", "▪ sft", "0:14 left"):
        assert part in text


def test_clock_time() -> None:
    assert [clock_time(s) for s in (0, 59.6, 75, 3700)] == ["0:00", "1:00", "1:15", "1:01:40"]
