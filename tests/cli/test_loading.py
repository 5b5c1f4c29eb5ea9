"""Loading before the reader's eyes: a bar on a terminal, lines in a log, nothing where it is quick."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raison.cli import loading as module
from raison.cli.loading import load_reasoner, loading


def shown(monkeypatch: pytest.MonkeyPatch, seconds: float, terminal: bool) -> str:
    """What is printed of ten steps that take so long together."""
    clock = iter([0.0, *(seconds * i / 30 for i in range(1, 100))])
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with loading(console, "big\x1b[2J.gguf") as progress:
        for done in range(1, 11):
            progress(done * 10**9, 10**10)
    return out.getvalue()


def test_quick_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 0.1, terminal=True) == "" == shown(monkeypatch, 0.1, terminal=False)


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 60.0, terminal=False).splitlines()
    assert 2 <= len(lines) <= 6 and "of 10.0 GB" in lines[0] and "\x1b" not in lines[0]


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 60.0, terminal=True)
    assert "loading big·[2J.gguf" in text and "GB" in text


def test_the_whole_model_is_told_of() -> None:
    told: list[tuple[int, int]] = []
    import raison

    reasoner = raison.load(progress=lambda done, total: told.append((done, total)))
    size = sum(p.nbytes for p in reasoner.model.parameters()) + sum(b.nbytes for b in reasoner.model.buffers())
    assert told[-1] == (size, size) and told == sorted(told)
    assert load_reasoner(Console(file=io.StringIO()), None).spec == reasoner.spec
