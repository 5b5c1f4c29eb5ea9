"""How much memory a runner takes: it is made and run once in a process of its own, which is asked for its peak.

What counts is the growth from after the runner's libraries were imported to the most that was ever resident: weights,
cache and working room, pages of a mapped file with them. So PyTorch's own couple of hundred MB, which a rival without
it would not need, is nobody's. Not covered: memory of an accelerator.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module

import torch

from raison.bench.loads import Work
from raison.bench.rivals import OURS, PACKAGES, Setting
from raison.errors import UserError
from raison.hardware import peak_bytes, resident_bytes, steady_memory

TIMEOUT = 1800.0


def resident(setting: Setting, work: Work) -> int:
    """Bytes by which a process grows at most that makes this runner and does this work.

    Raises UserError with the process's last words where it fails.
    """
    told = json.dumps({"setting": asdict(setting), "work": asdict(work)})
    command = [sys.executable, "-m", "raison.bench.resident"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the memory of {setting.name} could not be measured: {last}")
    return int(done.stdout.strip().splitlines()[-1])


def grown(setting: Setting, work: Work) -> int:
    """The same in this process, which should be a fresh one."""
    torch.set_num_threads(setting.threads)
    steady_memory()
    if setting.whose != OURS:
        import_module(PACKAGES[setting.whose])
    before = resident_bytes()
    runner = setting.make(work.streams, work.context)
    runner.generate(work.prompts, work.tokens, work.temperature)
    return peak_bytes() - before


def _main() -> None:
    told = json.load(sys.stdin)
    prompts = tuple(map(tuple, told["work"].pop("prompts")))
    if len(set(prompts)) == 1:
        prompts = prompts[:1] * len(prompts)  # the same object again: one prompt
    found = grown(Setting(**told["setting"]), Work(prompts, **told["work"]))
    sys.stdout.write(f"{found}\n")


if __name__ == "__main__":
    _main()
