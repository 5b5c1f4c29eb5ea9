"""What the arguments of many commands have in common.

Not covered: which commands there are (parser.py and its parts).
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from typing import TypeAlias

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


def add(commands: Commands, name: str, help: str, *examples: str) -> ArgumentParser:
    lines = "\n".join(f"  {example}" for example in examples)
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example{'s' if len(examples) > 1 else ''}:\n{lines}",
        formatter_class=RawDescriptionHelpFormatter,
    )


def as_json(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line of stdout"
    )


def threads(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads to compute with (default: all cores)"
    )


def model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a model folder, a .gguf file, smollm2, or a name of the hub (default: the shipped reasoner)",
    )


def draft(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--draft", metavar="MODEL",
        help="a smaller model of the same vocabulary that guesses ahead, where that saves time; whatever --model takes",
    )  # fmt: skip


def measured_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="whatever --model takes (default: the shipped reasoner)"
    )
