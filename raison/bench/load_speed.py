"""`raison bench load`: from nothing loaded to the first token, beside llama.cpp in the same run.

Every load has a process of its own, which is timed from after its imports: the file opened, its vocabulary built, a
prompt read, one token chosen. Turns alternate and the median counts; the file is in the system's page cache for all.
Not covered: the imports themselves (PyTorch's take a second or two, once in a process).
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from raison.bench.note import Note, unheard
from raison.errors import UserError
from raison.weights import place

QUESTION = "What is the capital of France?"
TIMEOUT = 600.0
OUR_ERROR = re.compile(r"^raison\.errors\.\w+: ")
"""What Python puts before a message that speaks for itself."""
OURS = """
import sys, time
import torch
import raison.reasoner as raison
torch.set_num_threads(int(sys.argv[2]))
start = time.perf_counter()
reasoner = raison.load(sys.argv[1])
(found,) = reasoner.generate(sys.argv[3], temperature=0.0, answer_tokens=1, budget=1)
print(time.perf_counter() - start)
"""
LLAMA_CPP = """
import sys, time
import llama_cpp
start = time.perf_counter()
threads = int(sys.argv[2])
model = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
found = model.create_chat_completion([{"role": "user", "content": sys.argv[3]}], max_tokens=1, temperature=0.0)
print(time.perf_counter() - start)
"""


def bench_load(model: str, rounds: int, against: str | None, threads: int, note: Note = unheard) -> dict[str, Any]:
    """Seconds to the first token, medians over `rounds`, and theirs over ours where there is a rival."""
    path = place.locate(model)
    scripts = {"raison": OURS}
    if against is not None:
        if importlib.util.find_spec("llama_cpp") is None:
            raise UserError("llama.cpp is not here: pip install llama-cpp-python (it is compiled for some minutes)")
        if path.suffix != ".gguf":
            raise UserError(f"llama.cpp reads GGUF files; {path} is none")
        scripts["llama.cpp"] = LLAMA_CPP
    seconds: dict[str, list[float]] = {name: [] for name in scripts}
    for turn in range(rounds + 1):
        for name, script in scripts.items():
            once = _once(script, path, threads)
            if turn:  # the first brings the file into memory
                seconds[name].append(once)
                note(f"{name}: {once:.3f} s")
    found: dict[str, Any] = {"model": str(path), "threads": threads}
    found |= {f"first_token_seconds_{name}": median(times) for name, times in seconds.items()}
    if against is not None:
        found["ours_over_theirs"] = median(seconds["raison"]) / median(seconds["llama.cpp"])
    return found


def _once(script: str, path: Path, threads: int) -> float:
    command = [sys.executable, "-c", script, str(path), str(threads), QUESTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{path} could not be loaded: {OUR_ERROR.sub('', last)}")
    return float(done.stdout.strip().splitlines()[-1])
