"""What a grader, a planner or `--help` needs starts without torch, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "raison",
    "raison.records",
    "raison.errors",
    "raison.config",
    "raison.metrics",
    "raison.progress",
    "raison.hardware",
    "raison.text.chat",
    "raison.text.pre_tokenizer",
    "raison.text.reasoning",
    "raison.text.template",
    "raison.text.tokenizer",
    "raison.text.vocabulary",
    "raison.tasks.catalog",
    "raison.tasks.audit",
    "raison.model.spec",
    "raison.model.cost",
    "raison.train.bill",
    "raison.plan.story",
    "raison.plan.validate",
    "raison.plan.training_plan",
    "raison.bench.report",
    "raison.serve.access",
    "raison.cli",
)
COMMANDS = (
    ["--help"],
    ["think", "--help"],
    ["grade", "countdown", "3 7 25 -> 46", "7 * 3 + 25"],
    ["check", "countdown", "--attacks", "100"],
    ["spec", "r1-671b"],
    ["plan", "train", "r1-671b", "--chip", "H800", "--chips", "2048"],
    ["plan", "story"],
    ["keys", "--help"],
    ["usage", "--help"],
)


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_modules() -> None:
    lines = [f"import {name}; assert 'torch' not in sys.modules, '{name} imports torch'" for name in MODULES]
    python("import sys\n" + "\n".join(lines))


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_commands(arguments: list[str]) -> None:
    python(
        "import sys\nfrom raison.cli import main\n"
        f"try:\n    code = main({arguments!r})\nexcept SystemExit as ended:\n    code = ended.code\n"
        "assert code == 0, code\nassert 'torch' not in sys.modules"
    )
