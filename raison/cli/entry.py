"""Parse, call the command's module, and turn what went wrong into one line and an exit code.

0 = done, 1 = done and the answer is no, 2 = the user's mistake, 130 = stopped by ^C. A broken invariant of ours keeps
its traceback. Not covered: what a command does.
"""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from raison.cli.parser import build_parser
from raison.errors import UserError

STOPPED = 130
"""128 + SIGINT, as shells count."""
SPIN = "1000"
"""Turns that a thread waits busily for the others. OpenMP's own choice, 300 times that, is many times slower as soon as
another program wants a core; where the machine is left alone it gains some 15 %, so long work keeps it."""
LONG_WORK = ("run", "bench", "frontier")
EXTRAS = {"serve": "serve", "keys": "serve", "usage": "serve"}
"""What to install for a command that the base installation cannot run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. `argv` without the program's name; None = the process's own."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ?, and nothing fails
    arguments = build_parser().parse_args(argv)
    if arguments.command not in LONG_WORK:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when torch is loaded, which no module has done yet
    try:
        return _command(arguments.command)(arguments)
    except UserError as error:
        code = int(getattr(error, "exit_code", 2))
        print(f"raison: {' '.join(str(error).split())}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("\nraison: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _command(name: str) -> Callable[[Namespace], int]:
    """`raison.cli.<name>.command`, imported by name so that no command waits for another's torch."""
    try:
        return cast(Callable[[Namespace], int], import_module(f"raison.cli.{name}").command)
    except ModuleNotFoundError as error:
        if name in EXTRAS and not str(error.name).startswith("raison"):
            raise UserError(f"raison {name} needs {error.name}: pip install 'raison[{EXTRAS[name]}]'") from error
        raise
