"""The commands that need no model: what they print, their exit codes, and one line for every mistake."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest

from raison.cli import main
from raison.cli.output import bar_line, emit_json, visible
from raison.cli.parser import build_parser
from raison.errors import UserError
from raison.model.spec import preset

Capture = pytest.CaptureFixture[str]


def last_json(capture: Capture) -> dict[str, Any]:
    value = json.loads(capture.readouterr().out.splitlines()[-1])
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["countdown", "3 7 25 -> 46", "7 * 3 + 25"], 0),
        (["countdown", "3 7 25 -> 46", "7 * 3 + 25 = 46"], 0),
        (["countdown", "3 7 25 -> 46", "46"], 1),
        (["countdown", "3 7 25 -> 46", "2**3"], 1),
        (["countdown", "3 7 25 -> 46", ""], 1),
        (["countdown", "3 7 25 ->", "46"], 2),
        (["countdown", "3 7 25 -> 460000", "46"], 2),
        (["contdown", "3 7 25 -> 46", "46"], 2),
        (["arithmetic", "487 + 356", "843"], 0),
        (["arithmetic", "487 + 356", "844"], 1),
    ],
)
def test_grade_answers_with_its_exit_code(arguments: list[str], code: int, capsys: Capture) -> None:
    assert main(["grade", *arguments]) == code
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == (1 if code == 2 else 0)
    assert said.err.startswith("raison: ") == (code == 2)


def test_grade_speaks_json(capsys: Capture) -> None:
    assert main(["grade", "countdown", "3 7 25 -> 46", "7 * 3", "--json"]) == 1
    assert last_json(capsys) == {"correct": False, "reason": "it makes 21, not 46", "checker": "countdown@1"}


def test_spec_of_r1(capsys: Capture) -> None:
    assert main(["spec", "r1-671b", "--json"]) == 0
    told = last_json(capsys)
    assert told["parameters"] == 671_026_419_200
    assert told["cache_bytes_per_token"] == 70_272
    assert sum(told["parameters_by_part"].values()) == told["parameters"]
    assert main(["spec", "r1-671b"]) == 0
    assert "671,026,419,200" in capsys.readouterr().out


def test_spec_without_a_name_lists_them(capsys: Capture) -> None:
    assert main(["spec", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["presets"]["tiny"] == preset("tiny").to_dict()
    assert "r1-671b" in said.err and "671,026,419,200 parameters" in said.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["plan", "train", "tiny", "--chip", "H100", "--kept", "0.5"], "name one with --teacher"),
        (["plan", "train", "tiny", "--chip", "H100", "--logits"], "name one with --teacher"),
        (["bench", "guesses", "--temperature", "nan"], "--temperature is 0 or more"),
        (["demo", "--seed", "-1"], "seed is -1"),
    ],
)
def test_what_would_not_be_heeded_or_measured_is_refused(arguments: list[str], part: str, capsys: Capture) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert part in said.err and len(said.err.splitlines()) == 1 and not said.out


def test_a_misspelt_preset_is_helped(capsys: Capture) -> None:
    assert main(["spec", "r1-671"]) == 2
    assert capsys.readouterr().err == 'raison: there is no model "r1-671": did you mean "r1-671b"?\n'


def test_check_finds_no_hole_in_countdown(capsys: Capture) -> None:
    assert main(["check", "countdown", "--attacks", "2000", "--json"]) == 0
    told = last_json(capsys)
    assert told["ok"]
    assert told["tried"] == 2000
    assert told["paid_by_family"] == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [("return any(c in answer for c in '0123456789')", 1), ("raise ValueError('never works')", 2)],
)
def test_check_of_a_users_checker(body: str, code: int, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.py").write_text(f"def check(problem, answer):\n    {body}\n")
    assert main(["check", f"{tmp_path / 'mine.py'}:check", "--attacks", "100"]) == code
    said = capsys.readouterr()
    if code == 1:
        assert "hole: target alone" in said.out
        assert "e.g." in said.out
    else:
        assert "judged nothing" in said.err
        assert len(said.err.splitlines()) == 1


def test_check_of_nothing(capsys: Capture, tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "absent.jsonl")]) == 2
    assert main(["check", "countdown", "--attacks", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_mistake_in_a_recipe_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('name = "bad"\nsede = 1\n[task]\nname = "countdown"\n[[stage]]\nkind = "sft"\nsteps = 1\n')
    assert main(["run", str(path)]) == 2
    said = capsys.readouterr().err
    assert "`sede` is not a setting" in said
    assert 'did you mean "seed"?' in said
    assert main(["run", str(tmp_path / "absent.toml")]) == 2


def test_every_command_has_help_with_an_example(capsys: Capture) -> None:
    commands = next(action for action in build_parser()._actions if action.dest == "command").choices
    assert commands is not None
    for name in commands:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "example" in capsys.readouterr().out or name == "bench"


def test_an_error_of_several_lines_becomes_one(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def fail(_: object) -> int:
        raise UserError("this\n  and that")

    monkeypatch.setattr("raison.cli.entry._command", lambda _: fail)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "raison: this and that\n"


def test_stopping_has_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("raison.cli.entry._command", lambda _: stop)
    assert main(["doctor"]) == 130


def test_a_file_that_the_system_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    recipe = Path(__file__).parents[2] / "recipes" / "quick.toml"
    assert main(["run", str(recipe), "--runs", str(tmp_path / "file")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"raison: {tmp_path / 'file'}") and "cannot be used: Not a directory; give" in last

    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("raison.cli.entry._command", lambda _: full)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "raison: No space left on device; make room, or give a path on another disk\n"


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for defect in (AssertionError("ours"), OSError("a pipe of ours, no file")):

        def fail(_: object, defect: Exception = defect) -> int:
            raise defect

        monkeypatch.setattr("raison.cli.entry._command", lambda _, fail=fail: fail)
        with pytest.raises(type(defect), match="ours"):
            main(["doctor"])


def test_a_screen_without_unicode_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert main(["grade", "countdown", "3 7 25 -> 46", "7 * 3 + 25"]) == 0
    assert raw.getvalue().startswith(b"? right")


def test_what_is_printed_cannot_move_the_cursor() -> None:
    assert visible("a\x1b[2Jb\r\x07\nc\td") == "a·[2Jb··\nc\td"


def test_json_has_no_nan(capsys: Capture) -> None:
    emit_json({"a": float("nan"), "b": [1.0, float("inf")], "c": (1,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": [1]}


def test_bars_run_from_empty_to_full() -> None:
    assert bar_line([0.0, 0.5, 1.0]) == "▁▅█"
