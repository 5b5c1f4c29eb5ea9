"""Every command's arguments. Imports nothing that takes time to load.

Each command has a line of help, an example, and where it makes sense `--json`. Not covered: what the values must be
beyond their type; the functions that use them say so.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from raison import __version__
from raison.cli.arguments import Commands, add, as_json, draft, model, threads
from raison.cli.bench_parser import bench_commands
from raison.cli.measure_parser import frontier_command
from raison.cli.plan_parser import plan_commands
from raison.cli.serve_parser import access_commands, serve_command

EPILOG = """\
Start with:  raison demo
Then:        raison think "3 7 17 -> 38"
             raison run recipes/quick.toml

Exit codes:  0 done, 1 done and the answer is no, 2 a mistake in what was given, 130 stopped by ^C
"""


def build_parser() -> ArgumentParser:
    """The parser of the whole command line; `command` holds the name of the module in raison.cli to call."""
    parser = ArgumentParser(
        prog="raison",
        description="DeepSeek-R1's recipe from random weights to a small reasoner, on two CPU cores.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"raison {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _show_commands(commands)
    _use_commands(commands)
    _model_commands(commands)
    serve_command(commands)
    _train_commands(commands)
    access_commands(commands)
    bench_commands(commands)
    frontier_command(commands)
    plan_commands(commands)
    _task_commands(commands)
    return parser


def _sampling(parser: ArgumentParser, effort: bool) -> None:
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget", type=int, default=512, metavar="N", help="thinking budget in tokens (default: 512)")
    if effort:
        budget.add_argument("--effort", metavar="LEVEL", help="none, minimal, low, medium, high or max, instead of it")
    parser.add_argument(
        "--min-thinking", type=int, default=0, metavar="N", help="no answer before so many tokens of it"
    )
    parser.add_argument(
        "--n", type=int, default=1, metavar="N", help="samples; the first right one is shown (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="the same seed gives the same tokens (default: a new one)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 = the likeliest token each time")


def _show_commands(commands: Commands) -> None:
    demo = add(commands, "demo", "see the shipped reasoner think, and how thinking pays", "raison demo")
    model(demo)
    demo.add_argument(
        "--problems", type=int, default=100, metavar="N", help="fresh problems to measure on (default: 100)"
    )
    demo.add_argument("--seed", type=int, default=0, metavar="S", help="names the problems (default: 0)")
    threads(demo)
    as_json(demo)
    doctor = add(
        commands, "doctor", "show versions, this machine's measured speed, and what is installed", "raison doctor"
    )
    threads(doctor)
    as_json(doctor)
    spec = add(
        commands, "spec", "show a model's parameters, cache and FLOPs without making it",
        "raison spec r1-671b", "raison spec tiny --context 1024 --json",
    )  # fmt: skip
    spec.add_argument("name", nargs="?", help="a preset, such as tiny or r1-671b (default: a list of all)")
    spec.add_argument(
        "--context", type=int, default=4096, metavar="N", help="tokens that FLOPs hold for (default: 4096)"
    )
    as_json(spec)


def _use_commands(commands: Commands) -> None:
    think = add(
        commands, "think", "solve one problem, thinking aloud, and check the answer",
        'raison think "3 7 17 -> 38"', 'raison think "4 9 11 -> 47" --n 8 --budget 256',
        'raison think "3 7 17 -> 38" --strategy auto --samples 16',
    )  # fmt: skip
    think.add_argument("problem", help='as its task writes it, such as "3 7 17 -> 38"')
    chat = add(
        commands, "chat", "type problems one after the other, or talk with a model that has no task",
        "raison chat", "echo '3 7 17 -> 38' | raison chat", "raison chat --model smollm2",
    )  # fmt: skip
    for parser in (think, chat):
        model(parser)
        draft(parser)
        parser.add_argument(
            "--device",
            choices=["cpu", "cuda"],
            default="cpu",
            help="where to compute (default: cpu; cuda is unmeasured)",
        )
        _sampling(parser, effort=parser is think)
        threads(parser)
    _strategy(think)
    as_json(think)


def _strategy(think: ArgumentParser) -> None:
    think.add_argument(
        "--strategy", metavar="VOTE",
        help="draw samples until this is satisfied: auto, self-consistency, majority, adaptive, windows, confidence, "
        "best-of-n, weighted, beam or dvts",
    )  # fmt: skip
    think.add_argument("--samples", type=int, metavar="N", help="samples of a strategy at most (default: 16)")
    think.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of it, such as price=8"
    )
    think.add_argument("--endpoint", metavar="URL", help="ask an OpenAI-compatible endpoint; --model names its model")
    think.add_argument("--task", metavar="TASK", help="whose problem it is, for an endpoint's answer to be checked")
    think.add_argument("--key-env", default="", metavar="NAME", help="environment variable with the endpoint's key")


def _model_commands(commands: Commands) -> None:
    inspect = add(
        commands, "inspect", "show what a model's files hold, and what would be loaded",
        "raison inspect model.gguf", "raison inspect runs/countdown-20260101-120000/model --json",
    )  # fmt: skip
    export = add(
        commands, "export", "write a model for other people's software",
        "raison export runs/my-run/model --to gguf --quant Q8_0 --out model.gguf",
        "raison export smollm2 --to hf --out folder",
    )  # fmt: skip
    for parser in (inspect, export):
        parser.add_argument(
            "source", metavar="PATH", help="a model folder, a .gguf file, smollm2, or a name of the hub"
        )
    export.add_argument("--to", choices=["hf", "gguf"], required=True, help="a Hugging Face folder, or a GGUF file")
    export.add_argument("--out", type=Path, required=True, metavar="PATH", help="where to")
    export.add_argument(
        "--quant",
        choices=["F32", "F16", "BF16", "Q8_0", "Q4_0"],
        help="how matrices are stored (default: BF16 in hf, F16 in gguf)",
    )
    for parser in (inspect, export):
        as_json(parser)


def _train_commands(commands: Commands) -> None:
    run = add(
        commands, "run", "train by a recipe, from random weights to a report and a bill",
        "raison run recipes/quick.toml", "raison run recipes/countdown.toml --resume",
    )  # fmt: skip
    run.add_argument("recipe", type=Path, help="a recipe in TOML")
    run.add_argument("--resume", action="store_true", help="go on with the newest unfinished run of this very recipe")
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    run.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too (needs 'raison[tensorboard]')")
    threads(run)
    as_json(run)
    report = add(commands, "report", "write a run's report.html anew", "raison report runs/quick-20260101-120000")
    report.add_argument("folder", type=Path, help="a run's folder")
    as_json(report)


def _task_commands(commands: Commands) -> None:
    grade = add(
        commands, "grade", "judge one answer: exit code 0 right, 1 wrong, 2 malformed problem",
        'raison grade countdown "3 7 17 -> 38" "7 * 3 + 17"',
    )  # fmt: skip
    grade.add_argument(
        "task", help="countdown, arithmetic, a .jsonl file (GSM8K's and SVAMP's too), gym:NAME or file.py:name"
    )
    grade.add_argument("problem", help='as the task writes it, such as "3 7 17 -> 38"')
    grade.add_argument("answer", help='such as "7 * 3 + 17"')
    grade.add_argument("--checker", metavar="FILE:NAME", help="judge with a checker of your own")
    as_json(grade)
    check = add(
        commands, "check", "attack a checker before anything is trained on it: exit code 0 no hole, 1 holes",
        "raison check countdown", "raison check problems.jsonl --checker number", "raison check my_checker.py:check",
    )  # fmt: skip
    check.add_argument("task", metavar="TASK", help="countdown, arithmetic, a .jsonl file, gym:NAME or file.py:name")
    check.add_argument("--attacks", type=int, default=100_000, metavar="N", help="hostile answers (default: 100000)")
    check.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same seed tries the same ones (default: 0)"
    )
    check.add_argument(
        "--checker", metavar="NAME", help="number, exact, countdown, gsm8k or svamp for a .jsonl file; or file.py:name"
    )
    as_json(check)
