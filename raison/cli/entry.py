"""Parse, call the command's module, and turn what went wrong into one line and an exit code.

0 = done, 1 = done and the answer is no, 2 = the user's mistake, 130 = stopped by ^C. A file that the system refuses is
named in one line, too: it is a folder, not ours to write, on a full disk. A broken invariant of ours keeps its
traceback. Not covered: what a command does.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from raison.cli.parser import build_parser
from raison.errors import UserError

MISTAKE = 2
STOPPED = 130
"""128 + SIGINT, as shells count."""
MENDS = {
    errno.ENOENT: "see that it and its folder exist",
    errno.EACCES: "see that this user may use it, or give another path",
    errno.ENOSPC: "make room, or give a path on another disk",
}
"""What mends an error of the system; any other wants another path."""
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
        code = int(getattr(error, "exit_code", MISTAKE))
        print(f"raison: {' '.join(str(error).split())}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("\nraison: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        print(f"raison: {_refused(error)}", file=sys.stderr)
        return MISTAKE


def _refused(error: OSError) -> str:
    """What the system would not do, and to which file; a full disk tells none."""
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)} cannot be used: "
    return f"{where}{error.strerror}; {MENDS.get(error.errno or 0, 'give another path')}"


def _command(name: str) -> Callable[[Namespace], int]:
    """`raison.cli.<name>.command`, imported by name so that no command waits for another's torch."""
    try:
        return cast(Callable[[Namespace], int], import_module(f"raison.cli.{name}").command)
    except ModuleNotFoundError as error:
        if name in EXTRAS and not str(error.name).startswith("raison"):
            raise UserError(f"raison {name} needs {error.name}: pip install 'raison[{EXTRAS[name]}]'") from error
        raise
