"""The child's side of sandbox.py: imports a user's file under limits and answers one JSON line with one JSON line.

Runs as a script in a fresh isolated interpreter, so it uses the standard library alone and must not be imported from
the package. What the user's code prints goes to a small file that is emptied after every call; the channel of answers
is a private descriptor. Not covered: code that attacks this process on purpose.
"""

from __future__ import annotations

import errno
import importlib.util
import inspect
import json
import math
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

_CLIP = 160


class Failure(Exception):
    """The user's code did something that cannot be used; `reply` is what the parent is told."""

    def __init__(self, failed: str, mend: str = "", fatal: bool = False, known: list[str] | None = None) -> None:
        super().__init__(failed)
        self.reply = {"failed": failed, "mend": mend, "fatal": fatal, "known": known or []}


class Budget:
    """The kernel's limits. CPU time counts for the life of a process, so it is set again before every call."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self.seconds: float = limits["seconds"]
        self.load_seconds: float = limits["load_seconds"]
        self.output_bytes: int = limits["output_bytes"]
        lower(resource.RLIMIT_CORE, 0)
        lower(resource.RLIMIT_FSIZE, self.output_bytes)
        lower(resource.RLIMIT_AS, limits["memory_bytes"])

    def start(self, seconds: float) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds) + 1, hard))
        # If the parent was killed nobody enforces wall time, and a sleeping call would stay for ever.
        signal.setitimer(signal.ITIMER_REAL, seconds + 2)

    def end(self, printed: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        flooded = os.fstat(printed).st_size >= self.output_bytes
        os.ftruncate(printed, 0)
        os.lseek(printed, 0, os.SEEK_SET)
        if flooded:
            raise Failure(f"printed {self.output_bytes:,} bytes or more", "print less in a checker", fatal=True)


def lower(which: int, value: int) -> None:
    """Set both limits, or as near as an already lower hard limit allows."""
    hard = resource.getrlimit(which)[1]
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bounded, bounded))


def load(setup: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The user's task object or check function, and its description."""
    path, name = Path(setup["file"]), setup["name"]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Failure("cannot be imported", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise Failure("does not exist in that file", "the file defines nothing that can be called", known=known)
    found = getattr(module, name)
    if inspect.isclass(found) or (callable(found) and not required(found)):
        found = found(**accepted(found, setup["options"]))
    if hasattr(found, "sample") and hasattr(found, "check"):
        about = {
            "kind": "task",
            "name": str(getattr(found, "name", name)),
            "version": int(getattr(found, "version", 1)),
        }
        abilities = [ability for ability in ("parse",) if hasattr(found, ability)]
        return found, {**about, "levels": [int(n) for n in getattr(found, "levels", [1])], "abilities": abilities}
    if not callable(found) or len(required(found)) != 2:
        raise Failure(
            "is neither a task nor a checker", "write def name(problem, answer), or a class with sample and check"
        )
    return found, {"kind": "check", "name": name, "version": int(getattr(found, "version", 1))}


def required(function: Callable[..., Any]) -> list[str]:
    """Names of the positional parameters that a call must give."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]


def accepted(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}


class ProblemView(dict[str, Any]):
    """A problem as the user's code sees it: `problem["prompt"]` and `problem.prompt` are the same."""

    __getattr__ = dict.__getitem__


def answer(found: Any, request: dict[str, Any]) -> Any:
    """Do one call and bring its result into JSON: a verdict as [correct, reason], a problem as a dict."""
    method, arguments = request["call"], list(request["arguments"])
    if method == "check":
        arguments[0] = ProblemView(arguments[0])
        judge: Callable[..., Any] = getattr(found, "check", found)
        return verdict(judge(*arguments))
    make: Callable[..., Any] = getattr(found, method)
    return problem(make(*arguments))


def verdict(value: Any) -> list[Any]:
    if hasattr(value, "correct"):
        return [value.correct is True, str(getattr(value, "reason", ""))[:_CLIP]]
    if value is None:
        return [False, "the checker gave no verdict"]
    if isinstance(value, (bool, int, float)) and 0 <= value <= 1:
        return [value == 1, "" if value in (0, 1) else f"scored {value:.3g}, and only 1 counts as right"]
    shown = clipped(value)
    raise Failure(f"returned {shown}", "return True, False, None or a number from 0 to 1")


def clipped(value: Any) -> str:
    """A short description that never asks a hostile or huge object for its whole text."""
    if isinstance(value, (int, float)):
        return f"a number outside 0..1 ({value})" if isinstance(value, float) else "a whole number outside 0..1"
    return f"a value of type {type(value).__name__}"


def problem(value: Any) -> dict[str, Any]:
    read: Callable[..., Any] = value.get if isinstance(value, dict) else partial(getattr, value)
    prompt = read("prompt", None)
    if not isinstance(prompt, str):
        raise Failure(
            f"made {clipped(value)} where a problem was expected", "return an object with prompt, gold and meta"
        )
    return {"prompt": prompt, "gold": str(read("gold", "")), "meta": dict(read("meta", {}))}


def guarded(action: Callable[[], Any]) -> dict[str, Any]:
    """Run the user's code; whatever comes out of it becomes a reply."""
    try:
        return {"value": action()}
    except Failure as failure:
        return failure.reply
    except MemoryError:
        return Failure("ran out of its memory limit", "use less memory", fatal=True).reply
    except RecursionError:
        return Failure("raised RecursionError", "bound the depth of what it follows").reply
    except (SystemExit, KeyboardInterrupt):
        return Failure("tried to exit", "return a verdict instead of exiting").reply
    except BaseException as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return Failure("printed or wrote more than its limit", "print less in a checker", fatal=True).reply
        what = f"raised {type(error).__name__}: {str(error)[:_CLIP]}"
        return Failure(what, "let it return False for answers that it cannot read").reply


def requests(descriptor: int) -> Iterator[dict[str, Any]]:
    with os.fdopen(descriptor, "rb", buffering=1 << 16) as stream:
        for line in stream:
            yield json.loads(line)


def private_channels() -> tuple[int, int, int]:
    """Descriptors of requests and answers that the user's prints cannot reach, and the file that takes those."""
    incoming, outgoing = os.dup(0), os.dup(1)
    printed, path = tempfile.mkstemp(dir=".")
    os.unlink(path)
    os.set_inheritable(printed, True)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    return incoming, outgoing, printed


def send(descriptor: int, reply: dict[str, Any]) -> None:
    data = memoryview(json.dumps(reply).encode() + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    budget = Budget(json.loads(sys.argv[1]))
    sys.path.append(sys.argv[2])
    incoming, outgoing, printed = private_channels()
    found: Any = None

    def handle(request: dict[str, Any]) -> Any:
        nonlocal found
        if "call" in request:
            value = answer(found, request)
            json.dumps(value)
            return value
        found, description = load(request["load"])
        lower(resource.RLIMIT_NPROC, 0)
        return description

    def clean_up() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        budget.end(printed)

    for request in requests(incoming):
        budget.start(budget.seconds if "call" in request else budget.load_seconds)
        reply = guarded(partial(handle, request))
        flood = guarded(clean_up)
        send(outgoing, flood if "failed" in flood else reply)


if __name__ == "__main__":
    main()
