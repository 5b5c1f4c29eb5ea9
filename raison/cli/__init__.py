"""The command `raison`: parses, builds, calls one function. `main` is the entry point.

parser.py holds every command's arguments and loads nothing heavy; each command's module is imported when it is called
for, so that `raison grade` and `--help` start without torch. Not covered: anything that a library user could want.
"""

from raison.cli.entry import main

__all__ = ["main"]
