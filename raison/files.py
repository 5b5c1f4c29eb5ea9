"""Writing files, and small folders of files, so that a reader never sees half of one; folders that one process holds.

A folder is written as a hidden sibling, forced to disk and renamed; a reader finds the old folder or the new one, also
after a crash between the two renames (`standing`). A folder is held by a lock of the system's, which ends with the
process however that ends; it is seen from the same machine only. Not covered: numbered checkpoints
(train/checkpoint.py), appending (metrics.py), two processes that replace one folder at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raison.errors import UserError

SHIPPED = Path(__file__).parent / "models" / "countdown-r1"
"""The reasoner that comes with the package."""
HELD = ".held"
HELD_RETRIES, HELD_PAUSE = 10, 0.1
"""Whoever asks `is_held` holds the lock himself for a moment."""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: after a crash or on a full disk the old content is whole.

    Raises OSError when the disk is full or the folder cannot be written; no temporary file stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of `contents` by name, all or none, and carry over what else `folder` holds.

    Raises OSError, as on a full disk: what was there before is then untouched and nothing half-written stays.
    """
    finish_interrupted(folder)
    temporary = _sibling(folder, "saving")
    try:
        _write(temporary, contents)
        _carry_over(folder, temporary, contents)
        sync_folder(temporary)
        _swap(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def standing(folder: Path) -> Path | None:
    """The folder, or the one that stepped aside when a crash came before its successor stood in its place."""
    return next((path for path in (folder, _sibling(folder, "replaced")) if path.is_dir()), None)


def finish_interrupted(folder: Path) -> None:
    """After a crash within `_swap`: the old folder comes back, or goes for good if the new one is in its place."""
    aside = _sibling(folder, "replaced")
    if aside.exists():
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)


def _write(temporary: Path, contents: Mapping[str, bytes]) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, data in contents.items():
        write_synced(temporary / name, data)


def _carry_over(folder: Path, temporary: Path, contents: Mapping[str, bytes]) -> None:
    """What people have laid beside our files stays there."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in contents:
            if path.is_dir():
                shutil.copytree(path, temporary / path.name, symlinks=True)
            else:
                shutil.copy2(path, temporary / path.name, follow_symlinks=False)


def _swap(folder: Path, temporary: Path) -> None:
    """A folder cannot be renamed over another one: the old one steps aside, and back when the new one fails."""
    aside = _sibling(folder, "replaced")
    if folder.exists():
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(folder: Path, purpose: str) -> Path:
    return folder.with_name(f".{folder.name}.{purpose}")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and force it to disk; not atomic."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process until the block ends. Raises UserError when another process has it."""
    with (folder / HELD).open("a") as file:
        for _ in range(HELD_RETRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(HELD_PAUSE)
        else:
            raise UserError(f"another process is at work in {folder}; wait for it, or end it first")
        yield


def is_held(folder: Path) -> bool:
    """Whether a living process holds `folder`."""
    try:
        with (folder / HELD).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never held, or not ours to look at
        return False
    return False
