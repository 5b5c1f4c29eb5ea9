"""`raison keys` and `raison usage` as a person and as a script use them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raison.cli import main
from raison.serve.access import Caller, open_access
from raison.serve.refusal import Denied, Limited
from tests.access.conftest import child_environment, used

Capture = pytest.CaptureFixture[str]


def told(capture: Capture, *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capture.readouterr().out)


def test_create_prints_the_key_alone_and_it_works(state: Path, capsys: Capture) -> None:
    assert main(["keys", "create", "--name", "alice"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1 and "from now on every request needs a key" in said.err
    access = open_access(state)
    assert access.caller(f"Bearer {said.out.strip()}").name == "alice"
    assert main(["keys", "create", "--name", "bob"]) == 0
    assert "from now on" not in capsys.readouterr().err
    access.close()


def test_a_key_with_every_term(state: Path, capsys: Capture) -> None:
    made = told(
        capsys, "keys", "create", "--name", "alice", "--models", "a,b", "--requests-per-minute", "2",
        "--tokens-per-minute", "100", "--quota", "500/day", "--priority", "7", "--expires", "30", "--allow",
    )  # fmt: skip
    assert made["quota"] == {"tokens": 500, "period": "day"} and made["models"] == ["a", "b"] and made["early_access"]
    access = open_access(state, early_access=True)
    caller = access.caller(f"Bearer {made['key']}")
    assert caller == Caller(made["id"], "alice", frozenset({"a", "b"}), 7, limited=True)
    held = access.reserve(caller, 90)
    with pytest.raises(Limited, match="100 tokens a minute"):
        access.reserve(caller, 20)
    access.settle(held, used("r", made["id"], prompt=30, completion=12))
    access.close()
    listed = told(capsys, "keys", "list")["keys"]
    assert [(key["name"], key["state"], key["used"]["day"]) for key in listed] == [("alice", "active", 42)]
    assert "key" not in listed[0], "a key is shown once"


def test_limits_change_alone_and_are_lifted(state: Path, capsys: Capture) -> None:
    made = told(capsys, "keys", "create", "--name", "alice", "--quota", "10", "--requests-per-minute", "3")
    changed = told(capsys, "keys", "limit", "alice", "--requests-per-minute", "5", "--models", "a")
    assert (changed["requests_per_minute"], changed["quota"]["tokens"], changed["models"]) == (5, 10, ["a"])
    lifted = told(capsys, "keys", "limit", made["id"], "--quota", "none", "--requests-per-minute", "none",
                  "--models", "all", "--expires", "none")  # fmt: skip
    assert (lifted["requests_per_minute"], lifted["quota"], lifted["models"], lifted["expires"]) == (None,) * 4
    assert main(["keys", "limit", "alice", "--tokens-per-minute", "10"]) == 0
    assert "10 tokens a minute" in capsys.readouterr().err


def test_revoke_ends_a_key_for_a_running_server(state: Path, capsys: Capture) -> None:
    made = told(capsys, "keys", "create", "--name", "alice")
    access = open_access(state)
    access.caller(f"Bearer {made['key']}")
    first = told(capsys, "keys", "revoke", "alice")
    assert first["state"] == "revoked"
    with pytest.raises(Denied, match="was revoked"):
        access.caller(f"Bearer {made['key']}")
    assert told(capsys, "keys", "revoke", made["id"])["revoked"] == first["revoked"]
    access.close()


def test_the_list_of_the_early_access(capsys: Capture) -> None:
    assert told(capsys, "keys", "allow", "zoe") == {"name": "zoe", "allowed": True}
    assert main(["keys", "allow", "zoe"]) == 0
    assert "already" in capsys.readouterr().err
    assert main(["keys", "list"]) == 0
    assert "without a key yet: zoe" in capsys.readouterr().err
    assert told(capsys, "keys", "disallow", "zoe") == {"name": "zoe", "allowed": False}
    assert main(["keys", "disallow", "zoe"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--name", ""], ["create", "--name", "a", "--quota", "much"],
        ["create", "--name", "a", "--models", ""],
        ["create", "--name", "a", "--quota", "9" * 20], ["create", "--name", "a", "--priority", "9" * 20],
        ["create", "--name", "a", "--requests-per-minute", "0"], ["create", "--name", "a", "--tokens-per-minute", "-3"],
        ["create", "--name", "a", "--expires", "0"], ["create", "--name", "a", "--expires", "nan"],
        ["create", "--name", "a", "--expires", "soon"], ["revoke", "nobody"], ["limit", "nobody", "--quota", "5"],
        ["list", "--database", "mysql://a/b"],
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_makes_no_key(arguments: list[str], capsys: Capture) -> None:
    assert main(["keys", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("raison: ") and said.err.count("\n") == 1
    assert told(capsys, "keys", "list")["keys"] == []


@pytest.mark.parametrize("command", [["keys", "list"], ["usage"]])
def test_without_the_extra_it_says_what_to_install(
    command: list[str],
) -> None:
    code = f"import sys; sys.modules['sqlalchemy'] = None; from raison.cli import main; sys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert (done.returncode, done.stderr) == (
        2, f"raison: raison {command[0]} needs sqlalchemy: pip install 'raison[serve]'\n"
    )  # fmt: skip


def test_usage_in_three_forms(state: Path, capsys: Capture) -> None:
    state.mkdir()
    (state / "prices.toml").write_text("[default]\nprompt = 0.55\ncompletion = 2.19\n")
    made = told(capsys, "keys", "create", "--name", "alice")
    access = open_access(state)
    caller = access.caller(f"Bearer {made['key']}")
    for number in range(3):
        access.settle(access.reserve(caller, 20), used(f"r{number}", caller.key))
    access.close()
    nano = 3 * (10 * 550 + 5 * 2190)
    report = told(capsys, "usage", "--by", "key,model", "--since", "1d")
    assert report["rows"] == [report["total"] | {"key": "alice", "model": "tiny"}]
    assert (report["total"]["requests"], report["total"]["cost_nanodollars"]) == (3, nano)
    assert report["total"]["cost"] == pytest.approx(nano / 1e9)
    assert main(["usage", "--by", "day,key", "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["key"], row["prompt_tokens"], row["cost"]) == ("alice", "30", f"0.{nano:09}")
    assert main(["usage"]) == 0
    assert f"0.{nano:09}" in capsys.readouterr().out
    for wrong in ("colour", "key,key"):
        assert main(["usage", "--by", wrong]) == 2
