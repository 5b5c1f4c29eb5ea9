"""Runs a user's Python in a limited subprocess: a checker that loops, raises or grows cannot take the run with it.

One fresh interpreter (`python -I`, stdlib worker in sandbox_worker.py, no access to our memory) is kept alive and asked
over pipes, one JSON line each way, about 0.1 ms a call. Limits: wall time (by the parent, which kills the process group
and starts anew), and, by the kernel, CPU time, address space, size of files and printed output, no core dumps, and no
new processes unless run as root.

This bounds resources and mistakes. It is NOT a security boundary against hostile code: files that the user may read
stay readable and the network stays reachable. Run checkers that you do not trust inside a container.
Not covered: Windows (needs POSIX process groups and `resource`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from raison.errors import CheckerError, nearest

_WORKER = Path(__file__).with_name("sandbox_worker.py")
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call, and for memory the whole process, may use."""

    seconds: float = 2.0
    """Wall time of a call; also its CPU time, rounded up to whole seconds."""
    load_seconds: float = 20.0
    """Wall time to import the file."""
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20
    """Printed text and written files, and the size of a result."""


class Sandbox:
    """A function or class of a user's file, `path/to/file.py:name`, called in a limited subprocess.

    Use as a context manager, or call `close`; the process also ends with this object. Calls from several threads wait
    for each other. Every failure raises CheckerError, after which the next call starts a fresh process.
    """

    def __init__(self, target: str, limits: Limits | None = None, options: dict[str, Any] | None = None) -> None:
        """`options` are keyword arguments for a class or factory, given only where it takes them."""
        path, _, name = target.rpartition(":")
        if not path or not name.isidentifier():
            raise CheckerError(f'"{target}" does not name a checker: write path/to/file.py:function')
        if not Path(path).is_file():
            raise CheckerError(
                f"there is no file {path}: give the path of a Python file, then a colon and the function"
            )
        self.target = target
        self.limits = limits or Limits()
        self._setup: dict[str, Any] = {"file": str(Path(path).resolve()), "name": name, "options": options or {}}
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and all that it started. May be called twice; a later call starts a new process."""
        with self._lock:
            self._stop()

    def describe(self) -> dict[str, Any]:
        """What the name stands for: `kind` ("check" or "task"), and for a task its `name`, `version`, `levels`."""
        with self._lock:
            return dict(self._ready().description)

    def call(self, method: str, arguments: list[Any]) -> Any:
        """The JSON value that `method` ("check", "sample", "parse") returns. Raises CheckerError, naming what
        happened and how to mend it.
        """
        with self._lock:
            worker = self._ready()
            return self._ask(worker, {"call": method, "arguments": arguments}, self.limits.seconds)

    def _ready(self) -> _Worker:
        if self._worker is None:
            self._worker = _Worker(self.limits)
            self._worker.description = self._ask(self._worker, {"load": self._setup}, self.limits.load_seconds)
        return self._worker

    def _ask(self, worker: _Worker, request: dict[str, Any], seconds: float) -> Any:
        try:
            reply = worker.exchange(request, seconds)
        except _Dead as dead:
            self._stop()
            raise CheckerError(f"{self.target} {dead}") from None
        except BaseException:
            self._stop()
            raise
        if "failed" in reply:
            self._fail(reply)
        return reply["value"]

    def _fail(self, reply: dict[str, Any]) -> NoReturn:
        if reply.get("fatal"):
            self._stop()
        hint = nearest(self._setup["name"], reply["known"]) if reply.get("known") else str(reply.get("mend", ""))
        raise CheckerError(f"{self.target} {reply['failed']}" + (f": {hint}" if hint else ""))

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


class _Dead(Exception):
    """The worker is gone or must go; the message continues `file:function ...`."""


class _Worker:
    """One subprocess in its own process group and empty working directory, and the two pipes to it."""

    def __init__(self, limits: Limits) -> None:
        self.description: dict[str, Any] = {}
        self._limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="raison-checker-")
        command = [sys.executable, "-I", "-X", "utf8", str(_WORKER), json.dumps(asdict(limits)), str(_PACKAGE_PARENT)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=_bare_environment(),
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN | select.POLLHUP)
        self.stop = weakref.finalize(self, _end, self._process, self._folder)

    def exchange(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send one request and wait for its reply. Raises _Dead when none comes in time or it is not ours."""
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except (BrokenPipeError, OSError):
            raise _Dead(self._obituary()) from None
        line = self._read_line(time.monotonic() + seconds, seconds)
        try:
            reply = json.loads(line)
        except ValueError:
            raise _Dead("wrote into the channel of its answers: leave file descriptors alone") from None
        assert isinstance(reply, dict)
        return reply

    def _read_line(self, deadline: float, seconds: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while not (parts and parts[-1].endswith(b"\n")):
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise _Dead(f"took longer than {seconds:g} s and was stopped: make it return sooner")
            part = os.read(self._replies.fileno(), 1 << 16)
            if not part:
                raise _Dead(self._obituary())
            parts.append(part)
            size += len(part)
            if size > self._limits.output_bytes:
                raise _Dead(f"returned more than {self._limits.output_bytes:,} bytes: return only a verdict")
        return b"".join(parts)

    def _obituary(self) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its channel: leave file descriptors alone"
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return f"used more than {self._limits.seconds:g} s of processor time and was stopped: make it return sooner"
        if code < 0:
            mebibytes = self._limits.memory_bytes >> 20
            return f"was killed by {signal.Signals(-code).name}: see that it stays within {mebibytes} MiB"
        return f"ended its own process with code {code}: return a verdict instead of exiting"


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    """Kill the process group, children included, and leave nothing behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    folder.cleanup()


def _bare_environment() -> dict[str, str]:
    """Nothing of the user's environment but what an interpreter needs: no keys or tokens reach a checker."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
