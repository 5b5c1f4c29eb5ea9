"""Runs the small recipe in a process of its own, so that a test can kill it: `run_small.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from raison.train.recipe import run_recipe
from tests.train.runs import Watcher, small

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_recipe(small(), Path(sys.argv[1]), watch=Watcher(), resume=True)
