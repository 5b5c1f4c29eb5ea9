"""Arguments of `raison bench`. Imports nothing that takes time to load.

Not covered: what the values must be beyond their type.
"""

from __future__ import annotations

from argparse import ArgumentParser

from raison.cli.arguments import Commands, add, as_json, draft, measured_model, threads
from raison.cli.bench_endpoint_parser import endpoint_command
from raison.cli.measure_parser import accuracy_command


def bench_commands(commands: Commands) -> None:
    bench = add(commands, "bench", "measure speed on this machine", "raison bench train --json")
    kinds = bench.add_subparsers(dest="bench", required=True, metavar="WHAT")
    train = add(
        kinds, "train", "measure pre-training and one GRPO step, maybe against TRL's",
        "raison bench train", "raison bench train --against trl --json",
    )  # fmt: skip
    train.add_argument("--steps", type=int, default=20, metavar="N", help="steps to time (default: 20)")
    train.add_argument("--against", choices=["trl"], help="time the same GRPO step there too (needs 'raison[peers]')")
    load = add(
        kinds, "load", "measure the time from nothing loaded to the first token",
        "raison bench load smollm2 --against llama.cpp",
    )  # fmt: skip
    load.add_argument("model", metavar="MODEL", help="whatever --model takes")
    load.add_argument("--against", choices=["llama.cpp"], help="time it there too, in the same run")
    load.add_argument("--rounds", type=int, default=5, metavar="N", help="loads of each (default: 5)")
    engine = add(
        kinds, "engine", "measure tokens/s over parallel sequences, maybe beside rivals in the same run",
        "raison bench engine smollm2", "raison bench engine smollm2 --against llama.cpp,transformers --json",
    )  # fmt: skip
    _engine_options(engine)
    guesses = add(
        kinds, "guesses", "measure what guessing the next tokens ahead brings",
        "raison bench guesses", "raison bench guesses smollm2 --depths 2,4 --json",
    )  # fmt: skip
    _guesses_options(guesses)
    thinking = add(
        kinds, "think", "measure ways of thinking: accuracy and tokens against self-consistency",
        "raison bench think --problems 300", "raison bench think MODEL --task arithmetic --level 2 --json",
        "raison bench think MODEL --efforts",
    )  # fmt: skip
    _thinking_options(thinking)
    soak = add(
        kinds, "soak", "run a mixed load for long: exit code 1 where memory grows or a page of the cache is lost",
        "raison bench soak", "raison bench soak smollm2 --minutes 60 --threads 1 --json",
    )  # fmt: skip
    _soak_options(soak)
    endpoint_command(kinds)
    for parser in (train, load, engine, guesses, soak, thinking, accuracy_command(kinds)):
        threads(parser)
        as_json(parser)


def _engine_options(engine: ArgumentParser) -> None:
    def option(name: str, default: str | int | float, metavar: str, text: str) -> None:
        shown = f" (default: {default})" if default != "" else ""
        engine.add_argument(name, type=type(default), default=default, metavar=metavar, help=text + shown)

    measured_model(engine)
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


def _guesses_options(guesses: ArgumentParser) -> None:
    measured_model(guesses)
    draft(guesses)
    guesses.add_argument("--dtype", default="auto", help="fp32, bf16, q8, q4 (default: that of the file)")
    guesses.add_argument("--depths", default="1,2,3", metavar="LIST", help="guesses a step at most (default: 1,2,3)")
    for name, default, text in (("problems", 16, "problems to answer"), ("streams", 1, "of these at once"),
                                ("rounds", 5, "times all of them; the median counts")):  # fmt: skip
        guesses.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    guesses.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 = the likeliest token each time"
    )


def _thinking_options(thinking: ArgumentParser) -> None:
    measured_model(thinking)
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
    measured_model(soak)
    soak.add_argument("--minutes", type=float, default=60, metavar="N", help="how long (default: 60)")
    soak.add_argument("--every", type=float, default=60, metavar="N", help="seconds to a line (default: 60)")
    for name, default, text in (("streams", 16, "sequences at once"), ("seed", 0, "of the load")):
        soak.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
