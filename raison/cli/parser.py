"""Every command's arguments. Imports nothing that takes time to load.

Each command has a line of help, an example, and where it makes sense `--json`. Not covered: what the values must be
beyond their type; the functions that use them say so.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from pathlib import Path
from typing import TypeAlias

from raison import __version__

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"

EPILOG = """\
Start with:  raison demo
Then:        raison think "3 7 25 -> 46"
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
    _serve_command(commands)
    _train_commands(commands)
    _access_commands(commands)
    _bench_commands(commands)
    _task_commands(commands)
    return parser


def _add(commands: Commands, name: str, help: str, *examples: str) -> ArgumentParser:
    lines = "\n".join(f"  {example}" for example in examples)
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example{'s' if len(examples) > 1 else ''}:\n{lines}",
        formatter_class=RawDescriptionHelpFormatter,
    )


def _json(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line of stdout"
    )


def _threads(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads to compute with (default: all cores)"
    )


def _model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a model folder, a .gguf file, smollm2, or a name of the hub (default: the shipped reasoner)",
    )


def _sampling(parser: ArgumentParser) -> None:
    parser.add_argument("--budget", type=int, default=512, metavar="N", help="thinking budget in tokens (default: 512)")
    parser.add_argument(
        "--n", type=int, default=1, metavar="N", help="samples; the first right one is shown (default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="the same seed gives the same tokens (default: a new one)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 = the likeliest token each time")


def _show_commands(commands: Commands) -> None:
    demo = _add(commands, "demo", "see the shipped reasoner think, and how thinking pays", "raison demo")
    _model(demo)
    demo.add_argument(
        "--problems", type=int, default=100, metavar="N", help="fresh problems to measure on (default: 100)"
    )
    demo.add_argument("--seed", type=int, default=0, metavar="S", help="names the problems (default: 0)")
    _threads(demo)
    _json(demo)
    doctor = _add(
        commands, "doctor", "show versions, this machine's measured speed, and what is installed", "raison doctor"
    )
    _threads(doctor)
    _json(doctor)
    spec = _add(
        commands, "spec", "show a model's parameters, cache and FLOPs without making it",
        "raison spec r1-671b", "raison spec tiny --context 1024 --json",
    )  # fmt: skip
    spec.add_argument("name", help="a preset, such as tiny or r1-671b")
    spec.add_argument(
        "--context", type=int, default=4096, metavar="N", help="tokens that FLOPs hold for (default: 4096)"
    )
    _json(spec)


def _use_commands(commands: Commands) -> None:
    think = _add(
        commands, "think", "solve one problem, thinking aloud, and check the answer",
        'raison think "3 7 25 -> 46"', 'raison think "1 5 8 9 -> 24" --n 8 --budget 256',
        'raison think "3 7 25 -> 46" --strategy auto --samples 16',
    )  # fmt: skip
    think.add_argument("problem", help='as its task writes it, such as "3 7 25 -> 46"')
    chat = _add(
        commands, "chat", "type problems one after the other, or talk with a model that has no task",
        "raison chat", "echo '3 7 25 -> 46' | raison chat", "raison chat --model smollm2",
    )  # fmt: skip
    for parser in (think, chat):
        _model(parser)
        parser.add_argument(
            "--device",
            choices=["cpu", "cuda"],
            default="cpu",
            help="where to compute (default: cpu; cuda is unmeasured)",
        )
        _sampling(parser)
        _threads(parser)
    _strategy(think)
    _json(think)


def _strategy(think: ArgumentParser) -> None:
    think.add_argument("--effort", metavar="LEVEL", help="none, minimal, low, medium, high or max, instead of --budget")
    think.add_argument(
        "--strategy", metavar="VOTE",
        help="draw samples until this is satisfied: auto, self-consistency, majority, adaptive, windows, confidence, "
        "best-of-n, weighted, beam or dvts",
    )  # fmt: skip
    think.add_argument("--samples", type=int, metavar="N", help="samples of a strategy at most (default: 16)")
    think.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of it, such as price=4"
    )
    think.add_argument("--endpoint", metavar="URL", help="ask an OpenAI-compatible endpoint; --model names its model")
    think.add_argument("--task", metavar="TASK", help="whose problem it is, for an endpoint's answer to be checked")
    think.add_argument("--key-env", default="", metavar="NAME", help="environment variable with the endpoint's key")


def _model_commands(commands: Commands) -> None:
    inspect = _add(
        commands, "inspect", "show what a model's files hold, and what would be loaded",
        "raison inspect model.gguf", "raison inspect runs/countdown-20260101-120000/model --json",
    )  # fmt: skip
    export = _add(
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
        _json(parser)


def _serve_command(commands: Commands) -> None:
    serve = _add(
        commands, "serve", "serve a model to OpenAI's clients, and a page to talk with it",
        "raison serve", "raison serve smollm2 --port 8080", "raison serve runs/my-run/model --host 0.0.0.0",
    )  # fmt: skip
    serve.add_argument(
        "model", nargs="?", metavar="MODEL", help="whatever --model takes (default: the shipped reasoner)"
    )
    serve.add_argument("--name", default="", metavar="NAME", help="what clients call it (default: from its path)")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="(default: 8000)")
    serve.add_argument("--dtype", default="auto", help="fp32, bf16, q8, q4 (default: that of the file)")
    serve.add_argument("--database", metavar="URL", help="keys and usage (default: SQLite in RAISON_HOME, ~/.raison)")
    serve.add_argument("--queue", type=int, default=512, metavar="N", help="requests that may wait (default: 512)")
    for name, default, text in (("deadline", 600.0, "seconds a request may take"),
                                ("drain", 30.0, "seconds for answers under way after SIGTERM")):  # fmt: skip
        serve.add_argument(f"--{name}", type=float, default=default, metavar="S", help=f"{text} (default: {default:g})")
    serve.add_argument(
        "--reasoning-field", choices=["reasoning_content", "reasoning", "both"], default="reasoning_content",
        help="what an answer's thinking is called (default: reasoning_content)",
    )  # fmt: skip
    serve.add_argument("--log", choices=["debug", "info", "warning", "error"], default="info", help="(default: info)")
    _threads(serve)


def _train_commands(commands: Commands) -> None:
    run = _add(
        commands, "run", "train by a recipe, from random weights to a report and a bill",
        "raison run recipes/quick.toml", "raison run recipes/countdown.toml --resume",
    )  # fmt: skip
    run.add_argument("recipe", type=Path, help="a recipe in TOML")
    run.add_argument("--resume", action="store_true", help="go on with the newest unfinished run of this very recipe")
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    run.add_argument("--tensorboard", action="store_true", help="log for TensorBoard too (needs 'raison[tensorboard]')")
    _threads(run)
    _json(run)
    report = _add(commands, "report", "write a run's report.html anew", "raison report runs/quick-20260101-120000")
    report.add_argument("folder", type=Path, help="a run's folder")
    _json(report)


def _access_commands(commands: Commands) -> None:
    keys = _add(
        commands, "keys", "make, list, limit and revoke the server's API keys",
        "raison keys create --name alice --quota 1000000/month", "raison keys list",
    )  # fmt: skip
    actions = keys.add_subparsers(dest="keys", required=True, metavar="WHAT")
    create = _add(actions, "create", "make a key; it is printed this once", "raison keys create --name alice")
    create.add_argument("--name", required=True, metavar="N", help="whose it is; several keys may share a name")
    create.add_argument("--allow", action="store_true", help="put the name on the list of the early access, too")
    listing = _add(actions, "list", "show every key, its limits and what it used", "raison keys list --json")
    revoke = _add(actions, "revoke", "end a key for good, from the next request on", "raison keys revoke alice")
    limit = _add(
        actions, "limit", "change what a key may use; what is not given stays",
        "raison keys limit alice --requests-per-minute 60", "raison keys limit alice --quota none",
    )  # fmt: skip
    allow = _add(
        actions, "allow", "let a name into the early access (raison serve --early-access)", "raison keys allow alice"
    )
    disallow = _add(actions, "disallow", "take a name off the list of the early access", "raison keys disallow alice")
    for parser in (revoke, limit):
        parser.add_argument("key", metavar="KEY", help="its id, or its name if only one key has it")
    for parser in (allow, disallow):
        parser.add_argument("name", metavar="NAME", help="the name its keys have, or will have")
    for parser in (create, limit):
        _key_terms(parser)
    usage = _add(
        commands, "usage", "report requests, tokens and cost by key, model and day",
        "raison usage --since 7d", "raison usage --by key,model,day --csv",
    )  # fmt: skip
    usage.add_argument(
        "--by", default="key,model", metavar="LIST", help="key, id, model, endpoint, day (default: key,model)"
    )
    usage.add_argument("--since", metavar="DAY", help="a day (UTC) such as 2026-11-01, or 7d for the last seven")
    usage.add_argument("--csv", action="store_true", help="print comma-separated values")
    for parser in (create, listing, revoke, limit, allow, disallow, usage):
        parser.add_argument(
            "--database", metavar="URL",
            help="postgresql://... or sqlite:///PATH (default: RAISON_DATABASE, or raison.db under RAISON_HOME)",
        )  # fmt: skip
        _json(parser)


def _key_terms(parser: ArgumentParser) -> None:
    for name, metavar, text in (
        ("models", "LIST", "models it may use, separated by commas; all lifts the limit"),
        ("requests-per-minute", "R", "requests a minute; none lifts the limit"),
        ("tokens-per-minute", "T", "tokens a minute, of prompts and completions; none lifts the limit"),
        ("quota", "TOKENS", "tokens in all, or a day or month in UTC: 500000, 50000/day, 1000000/month; or none"),
        ("expires", "DAYS", "days from now until it ends; none = never"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--priority", type=int, metavar="P", help="higher is served first (default: 0)")


def _bench_commands(commands: Commands) -> None:
    bench = _add(commands, "bench", "measure speed on this machine", "raison bench train --json")
    kinds = bench.add_subparsers(dest="bench", required=True, metavar="WHAT")
    train = _add(
        kinds, "train", "measure pre-training and one GRPO step, maybe against TRL's",
        "raison bench train", "raison bench train --against trl --json",
    )  # fmt: skip
    train.add_argument("--steps", type=int, default=20, metavar="N", help="steps to time (default: 20)")
    train.add_argument("--against", choices=["trl"], help="time the same GRPO step there too (needs 'raison[peers]')")
    load = _add(
        kinds, "load", "measure the time from nothing loaded to the first token",
        "raison bench load smollm2 --against llama.cpp",
    )  # fmt: skip
    load.add_argument("model", metavar="MODEL", help="whatever --model takes")
    load.add_argument("--against", choices=["llama.cpp"], help="time it there too, in the same run")
    load.add_argument("--rounds", type=int, default=5, metavar="N", help="loads of each (default: 5)")
    engine = _add(
        kinds, "engine", "measure tokens/s over parallel sequences, maybe beside rivals in the same run",
        "raison bench engine smollm2", "raison bench engine smollm2 --against llama.cpp,transformers --json",
    )  # fmt: skip
    _engine_options(engine)
    guesses = _add(
        kinds, "guesses", "measure what guessing the next tokens ahead brings",
        "raison bench guesses", "raison bench guesses smollm2 --depths 2,4 --json",
    )  # fmt: skip
    _guesses_options(guesses)
    thinking = _add(
        kinds, "think", "measure ways of thinking: accuracy and tokens against self-consistency",
        "raison bench think --problems 300", "raison bench think MODEL --task arithmetic --level 2 --json",
        "raison bench think MODEL --efforts",
    )  # fmt: skip
    _thinking_options(thinking)
    soak = _add(
        kinds, "soak", "run a mixed load for long: exit code 1 where memory grows or a page of the cache is lost",
        "raison bench soak", "raison bench soak smollm2 --minutes 60 --threads 1 --json",
    )  # fmt: skip
    _soak_options(soak)
    for parser in (train, load, engine, guesses, soak, thinking):
        _threads(parser)
        _json(parser)


def _engine_options(engine: ArgumentParser) -> None:
    def option(name: str, default: str | int | float, metavar: str, text: str) -> None:
        shown = f" (default: {default})" if default != "" else ""
        engine.add_argument(name, type=type(default), default=default, metavar=metavar, help=text + shown)

    _measured_model(engine)
    option(
        "--shape", "", "PRESET", "random weights of this shape (raison spec lists them) in 4 bits, instead of a model"
    )
    option("--against", "", "NAMES", "llama.cpp, transformers, openvino, vllm: those that are installed")
    option("--loads", "shared,different,prefill", "LIST", "one prompt for all, one each, long ones; the first is main")
    option("--streams", "1,4,8,16,32,64", "LIST", "sequences at once")
    option("--prefill", "512,4096", "LIST", "tokens of the long prompts, of one stream up to its first token")
    option("--widths", "", "LIST", "fp32, bf16, q8, q4; that of the file where left out")
    option("--prompt", 64, "N", "tokens of a prompt")
    option("--tokens", 64, "N", "tokens after it")
    option("--rounds", 3, "N", "runs of each, of which the median counts")
    option("--temperature", 1.0, "T", "0 takes the likeliest")
    option("--plot", "", "FILE.svg", "draw tokens/s over streams and perplexity there (needs 'raison[report]')")


def _measured_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="whatever --model takes (default: the shipped reasoner)"
    )


def _guesses_options(guesses: ArgumentParser) -> None:
    _measured_model(guesses)
    guesses.add_argument("--dtype", default="auto", help="fp32, bf16, q8, q4 (default: that of the file)")
    guesses.add_argument("--depths", default="1,2,3", metavar="LIST", help="guesses a step at most (default: 1,2,3)")
    for name, default, text in (("problems", 16, "problems to answer"), ("streams", 1, "of these at once"),
                                ("rounds", 5, "times all of them; the median counts")):  # fmt: skip
        guesses.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    guesses.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 = the likeliest token each time"
    )


def _thinking_options(thinking: ArgumentParser) -> None:
    _measured_model(thinking)
    thinking.add_argument("--task", metavar="TASK", help="countdown, arithmetic, ... (default: the model's own)")
    thinking.add_argument("--level", type=int, metavar="N", help="difficulty (default: the task's usual one)")
    thinking.add_argument(
        "--methods", default="self-consistency,majority,adaptive,windows,confidence,auto,best-of-n,beam,dvts",
        metavar="LIST", help="the first is what the others are held against (default: %(default)s)",
    )  # fmt: skip
    for name, default, text in (
        ("problems", 300, "fresh problems"), ("samples", 16, "samples of a problem at most"),
        ("budget", 512, "thinking tokens of a sample at most"), ("seed", 0, "names problems and samples"),
        ("waits", 10, "of these problems timed one by one, beside a loop of one sample at a time; 0 leaves it out"),
    ):  # fmt: skip
        thinking.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    thinking.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of sampling (default: 1)")
    thinking.add_argument(
        "--efforts", action="store_true",
        help="measure accuracy over budgets instead, and write the effort levels into the model's folder",
    )  # fmt: skip


def _soak_options(soak: ArgumentParser) -> None:
    _measured_model(soak)
    soak.add_argument("--minutes", type=float, default=60, metavar="N", help="how long (default: 60)")
    soak.add_argument("--every", type=float, default=60, metavar="N", help="seconds to a line (default: 60)")
    for name, default, text in (("streams", 16, "sequences at once"), ("seed", 0, "of the load")):
        soak.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")


def _task_commands(commands: Commands) -> None:
    grade = _add(
        commands, "grade", "judge one answer: exit code 0 right, 1 wrong, 2 malformed problem",
        'raison grade countdown "3 7 25 -> 46" "7 * 3 + 25"',
    )  # fmt: skip
    grade.add_argument(
        "task", help="countdown, arithmetic, a .jsonl file (GSM8K's and SVAMP's too), gym:NAME or file.py:name"
    )
    grade.add_argument("problem", help='as the task writes it, such as "3 7 25 -> 46"')
    grade.add_argument("answer", help='such as "7 * 3 + 25"')
    grade.add_argument("--checker", metavar="FILE:NAME", help="judge with a checker of your own")
    _json(grade)
    check = _add(
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
    _json(check)
