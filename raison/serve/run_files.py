"""A training run as it lies on disk, read while another process writes it: recipe order, steps, samples.

Files that grow are read once: `Tail` keeps what it has read of a log of steps and reads on from there; of rollouts,
which grow to hundreds of megabytes, only the end is read. A half-written last line waits for its other half, and a
line that is no JSON is passed over, for a viewer must not fail where a trainer would. Not covered: judging a run
(bench/report.py), the routes (runs.py).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from raison.text.tokenizer import THINK_CLOSE

Row = dict[str, Any]
END_BYTES = 1 << 18
"""How much of the end of a log of rollouts is read: some hundred of the shipped model's samples."""
MOST_END_BYTES = 1 << 24


class Tail:
    """The rows of a log that grows by whole lines; each look reads only what was added. Threads may share one."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._forget()

    def rows(self) -> list[Row]:
        """All rows so far; none while there is no file."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    self._read_on(file.fileno())
            except FileNotFoundError:
                self._forget()
            return list(self._rows)

    def _forget(self) -> None:
        self._rows: list[Row] = []
        self._offset, self._last = 0, b""

    def _read_on(self, file: int) -> None:
        """A run that resumes cuts its log and writes on: then the last line that was read is no longer where it was."""
        if os.pread(file, len(self._last), self._offset - len(self._last)) != self._last:
            self._forget()
        added = os.pread(file, max(os.fstat(file).st_size - self._offset, 0), self._offset)
        lines = added[: added.rfind(b"\n") + 1].splitlines(keepends=True)
        if lines:
            self._offset, self._last = self._offset + sum(map(len, lines)), lines[-1]
            self._rows += parsed(lines)


def parsed(lines: Iterable[bytes]) -> Iterator[Row]:
    """The lines that are JSON objects."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def last_rows(path: Path) -> list[Row]:
    """Rows from the end of a log, oldest first: as many as the last END_BYTES hold, or the last one if it is longer."""
    try:
        with path.open("rb") as file:
            size, wanted = os.fstat(file.fileno()).st_size, END_BYTES
            while wanted <= MOST_END_BYTES:
                start = max(size - wanted, 0)
                lines = os.pread(file.fileno(), size - start, start).split(b"\n")[:-1]
                found = list(parsed(lines if start == 0 else lines[1:]))
                if found or start == 0:
                    return found
                wanted *= 4
    except OSError:
        pass
    return []


def read_object(path: Path) -> Row:
    """A JSON object that is replaced whole; empty where there is none yet, or it is damaged."""
    try:
        return next(parsed([path.read_bytes()]), {})
    except OSError:
        return {}


def vocabulary(run: Path) -> Backend | None:
    """The tokenizer that a run's samples were drawn with: its own, or a model's that the run has saved."""
    for path in (run / "tokenizer.json", run / "model/tokenizer.json", *run.glob("stages/*/model/tokenizer.json")):
        try:
            return _backend(path, path.stat().st_mtime_ns)
        except Exception:  # missing, or damaged: `tokenizers` raises plain Exception for what it cannot read
            continue
    return None


@lru_cache(maxsize=8)
def _backend(path: Path, changed: int) -> Backend:
    """`changed` makes a file that was replaced another key."""
    return Backend.from_file(str(path))


def spoken(row: Row, backend: Backend | None) -> tuple[str, str]:
    """Thinking and answer of a rollout, decoded; empty where no tokenizer is at hand."""
    ids = row.get("completion_ids")
    if backend is None or not isinstance(ids, list):
        return "", ""
    close = backend.token_to_id(THINK_CLOSE)
    thinks = bool(row.get("thinking_tokens"))
    at = ids.index(close) if close in ids else len(ids) if thinks else -1
    return backend.decode(ids[: max(at, 0)]), backend.decode(ids[at + 1 :])


def telling(rows: Iterable[Row], count: int) -> list[Row]:
    """Of many samples the few worth reading, newest first: of each problem one that was solved and one that was not."""
    seen: dict[tuple[Any, bool], Row] = {}
    for row in rows:
        verdict = row.get("verdict")
        if isinstance(verdict, dict) and isinstance(row.get("problem"), dict):
            seen.pop(key := (row.get("problem_id"), bool(verdict.get("correct"))), None)
            seen[key] = row
    return list(seen.values())[: -count - 1 : -1]
