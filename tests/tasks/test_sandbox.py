"""A checker that misbehaves costs one clear error and a fresh process, never the run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from raison.errors import CheckerError
from raison.tasks.sandbox import Limits, Sandbox

CODE = """
import os, sys, time
calls = 0
def good(problem, answer): return answer == problem.gold == problem["gold"]
def chatty(problem, answer):
    print("x" * 1000)
    return True
def counting(problem, answer):
    global calls
    calls += 1
    return calls == 1
def loop(problem, answer):
    while answer == "bad": pass
    return True
def sleep(problem, answer): time.sleep(1000)
def boom(problem, answer): raise KeyError("no such thing")
def deep(problem, answer): return deep(problem, answer)
def memory(problem, answer): return len(b"x" * (1 << 33)) > 0
def creeping(problem, answer):
    kept = []
    while True: kept.append(b"x" * (1 << 20))
def flood(problem, answer):
    while True: print("x" * 1000)
def quiet_flood(problem, answer):
    try:
        while True: os.write(1, b"x" * 100_000)
    except OSError:
        return True
def exiting(problem, answer): sys.exit(0)
def vanishing(problem, answer): os._exit(7)
def crashing(problem, answer): os.kill(os.getpid(), 11)
def nan(problem, answer): return float("nan")
def text(problem, answer): return "yes"
def two(problem, answer): return 2
def half(problem, answer): return 0.5
def one(problem, answer): return 1.0
def nothing(problem, answer): return None
def long_reason(problem, answer):
    class Said:
        correct, reason = True, "y" * 10**7
    return Said()
def environment(problem, answer): return "SECRET" not in os.environ and os.getcwd() != problem.meta["cwd"]
def three(problem, answer, more): return True
def parent(problem, answer):
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    open(problem.meta["note"], "w").write(str(pid))
    return True
"""
ENDLESS = ("loop", "sleep")
PLENTY = 60.0
"""Seconds for what ends by itself, on however busy a machine."""
PROBLEM = {"prompt": "p", "gold": "g", "meta": {}}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkers") / "mine.py"
    path.write_text(CODE)
    return str(path)


def ask(code: str, name: str, answer: str = "g", meta: dict[str, Any] | None = None, seconds: float = PLENTY) -> Any:
    with Sandbox(f"{code}:{name}", Limits(seconds=seconds, memory_bytes=256 << 20)) as sandbox:
        return sandbox.call("check", [{**PROBLEM, "meta": meta or {}}, answer])


@pytest.mark.parametrize(
    ("name", "correct"), [("good", True), ("chatty", True), ("half", False), ("one", True), ("nothing", False)]
)
def test_verdicts(code: str, name: str, correct: bool) -> None:
    assert ask(code, name)[0] is correct


@pytest.mark.parametrize("answer", ["", "é\n\u2028\ud800\x00", "x" * 300_000])
def test_any_text_reaches_the_checker_unchanged(code: str, answer: str) -> None:
    with Sandbox(f"{code}:good") as sandbox:
        assert sandbox.call("check", [{**PROBLEM, "gold": answer}, answer])[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loop", "took longer than 0.5 s"),
        ("sleep", "took longer than 0.5 s"),
        ("boom", "raised KeyError: 'no such thing'"),
        ("deep", "RecursionError"),
        ("memory", "ran out of its memory"),
        ("flood", "print less"),
        ("quiet_flood", "print less"),
        ("exiting", "tried to exit"),
        ("vanishing", "ended its own process with code 7"),
        ("crashing", "SIGSEGV"),
        ("nan", "nan"),
        ("text", "type str"),
        ("two", "outside 0..1"),
        ("three", "def name(problem, answer)"),
        ("godo", 'did you mean "good"'),
    ],
)
def test_misbehaviour_is_one_clear_error(code: str, name: str, says: str) -> None:
    with pytest.raises(CheckerError) as caught:
        ask(code, name, "bad", seconds=0.5 if name in ENDLESS else PLENTY)
    message = str(caught.value)
    assert says in message and message.startswith(f"{code}:{name} ") and "\n" not in message and len(message) < 600


def test_creeping_memory_is_stopped(code: str) -> None:
    with pytest.raises(CheckerError, match="memory"):
        ask(code, "creeping")


def test_a_huge_result_is_cut(code: str) -> None:
    correct, reason = ask(code, "long_reason")
    assert correct and len(reason) < 1000


def test_the_process_is_kept_between_calls_and_made_anew_after_a_failure(code: str) -> None:
    with Sandbox(f"{code}:counting") as sandbox:
        assert [sandbox.call("check", [PROBLEM, ""])[0] for _ in range(3)] == [True, False, False]
    with Sandbox(f"{code}:loop", Limits(seconds=0.5)) as sandbox:
        with pytest.raises(CheckerError):
            sandbox.call("check", [PROBLEM, "bad"])
        sandbox.limits = Limits(seconds=PLENTY)
        assert sandbox.call("check", [PROBLEM, "fine"])[0]


def test_printing_is_limited_per_call_not_for_ever(code: str) -> None:
    with Sandbox(f"{code}:chatty", Limits(output_bytes=10_000)) as sandbox:
        assert all(sandbox.call("check", [PROBLEM, ""])[0] for _ in range(50))


def test_sees_no_secrets_and_not_our_folder(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "key")
    assert ask(code, "environment", meta={"cwd": os.getcwd()})[0]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to look for processes")
def test_no_process_is_left_behind(code: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    try:
        ask(code, "parent", meta={"note": str(note)})
    except CheckerError:
        return  # not root: the limit on processes already forbade it
    pid = int(note.read_text())
    deadline = time.monotonic() + PLENTY
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("target", ["nowhere.py:check", "nocolon", "file.py:", ":check"])
def test_a_target_that_names_nothing(target: str) -> None:
    with pytest.raises(CheckerError, match=r"path|file"):
        Sandbox(target)


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_module_here\n")
    with pytest.raises(CheckerError, match="ModuleNotFoundError"):
        Sandbox(f"{path}:check").describe()
