"""Arguments of `raison bench accuracy` and `raison frontier`. Imports nothing that takes time to load.

Not covered: what the values must be beyond their type.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from raison.cli.arguments import Commands, add, as_json, threads

CHECK_SEEDS = 3
"""The fewest of which the scatter of runs can be told with some use."""


def accuracy_command(kinds: Commands) -> ArgumentParser:
    """A kind of `raison bench`; its --threads and --json are added with the others'."""
    accuracy = add(
        kinds, "accuracy", "measure accuracy over seeds, with intervals; two models on the same problems",
        "raison bench accuracy --task countdown@1", "raison bench accuracy MODEL OTHER --samples 8 --json",
        "raison bench accuracy smollm2 --task test.jsonl --whole",
        "raison bench accuracy http://127.0.0.1:8000/v1#countdown-r1 --task countdown",
    )  # fmt: skip
    accuracy.add_argument(
        "models", nargs="*", metavar="MODEL",
        help="one or two: whatever --model takes, shipped, or URL#NAME of an endpoint (default: the shipped reasoner)",
    )  # fmt: skip
    accuracy.add_argument(
        "--task", metavar="TASK", help="maybe with its version, as countdown@1 (default: the model's)"
    )
    accuracy.add_argument("--checker", metavar="NAME", help="of a .jsonl file, or FILE:NAME of your own")
    accuracy.add_argument("--whole", action="store_true", help="every row of a .jsonl file, not the held-out tenth")
    accuracy.add_argument("--level", type=int, metavar="N", help="difficulty (default: the task's usual one)")
    _numbers(accuracy, (("problems", 300, "fresh problems"), ("samples", 4, "seeds: answers to each problem"),
                        ("budget", 512, "thinking tokens at most"), ("answer", 32, "answer tokens at most"),
                        ("seed", 0, "names problems and samples")))  # fmt: skip
    accuracy.add_argument(
        "--k", metavar="LIST", help="for pass@k and maj@k (default: those of 1,2,4,8,16 that --samples allows)"
    )
    accuracy.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of sampling (default: 1)")
    accuracy.add_argument("--key-env", default="", metavar="NAME", help="environment variable with an endpoint's key")
    accuracy.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="result with every sample; where it exists, the measurement goes on (default: named by what is measured)",
    )  # fmt: skip
    return accuracy


def frontier_command(commands: Commands) -> None:
    frontier = add(
        commands, "frontier", "measure the three scaling laws here, and where the next dollar should go",
        "raison frontier --mini", "raison frontier --resume", "raison frontier --resume --check --flops 5e13",
    )  # fmt: skip
    frontier.add_argument("--task", default="countdown", metavar="TASK", help="whose grid to run (default: countdown)")
    frontier.add_argument("--mini", action="store_true", help="a small grid of small models, some 10 minutes")
    frontier.add_argument("--grid", type=Path, metavar="FILE.toml", help="a grid of your own instead")
    frontier.add_argument("--resume", action="store_true", help="go on with the newest unfinished run of this grid")
    frontier.add_argument(
        "--check", action="store_true",
        help="then train at the recommended split, and with all of the same budget spent on one law",
    )  # fmt: skip
    frontier.add_argument(
        "--seeds", type=int, metavar="N", help=f"runs of training of each arm of --check (default: {CHECK_SEEDS})"
    )
    frontier.add_argument(
        "--flops", type=float, metavar="F", help="the budget to split and to check (default: amid the measured ones)"
    )
    frontier.add_argument("--predict", action="store_true", help="say how long it would take, and run nothing")
    frontier.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where its folder goes (default: runs)"
    )
    threads(frontier)
    as_json(frontier)


def _numbers(parser: ArgumentParser, options: tuple[tuple[str, int, str], ...]) -> None:
    for name, default, text in options:
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
