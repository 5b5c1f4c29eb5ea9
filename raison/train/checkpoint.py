"""Checkpoints that are whole or absent: safetensors and JSON in a folder of their own, without pickle.

    <folder>/000003-step-120/model.safetensors     the model's tensors
                             state.safetensors     the optimizer's tensors, and torch's random state state.json
                             step, `extra`, length and SHA-256 of both files, and a digest of itself

A save writes a hidden sibling folder, forces it to disk and renames it, so a process killed at any moment leaves the
earlier checkpoints whole; the newest two that look whole are kept. Folders are numbered by saving, not by step, since
a run that goes back may save a step twice. A load checks every hash and falls back to the one before.

Not covered: several processes that save into one folder, sharded tensors, random states of other libraries or devices.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from raison.errors import CheckpointError, UserError
from raison.files import sync_folder, write_synced

MODEL_FILE, STATE_FILE, INDEX_FILE = "model.safetensors", "state.safetensors", "state.json"
OPTIMIZER_PREFIX, RANDOM_STATE = "optimizer.", "random.torch"
KEPT = 2
FORMAT = 1
_NAME = re.compile(r"(\d{6,})-step-(\d+)")
_TEMPORARY = ".saving-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a load gives back; tensors are on the CPU and bit-identical to what was saved."""

    path: Path
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    extra: Any
    random_state: Tensor
    """For `torch.set_rng_state`."""
    warnings: tuple[str, ...] = field(default=())
    """One line for each newer checkpoint that had to be passed over; to be shown to the user."""


def save(
    folder: Path, step: int, model_tensors: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], extra: Any
) -> Path:
    """Write a checkpoint of `step` and torch's random state as it is now; returns its folder.

    `extra` is anything JSON can hold (floats come back exactly). Raises UserError when it cannot be written, as on a
    full disk: what was there before is then untouched and nothing half-written stays.
    """
    optimizer = {OPTIMIZER_PREFIX + name: tensor for name, tensor in optimizer_state.items()}
    tensors = {MODEL_FILE: model_tensors, STATE_FILE: {**optimizer, RANDOM_STATE: torch.get_rng_state()}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        target = folder / f"{_next_number(folder):06d}-step-{step}"
        temporary = folder / f"{_TEMPORARY}{target.name}"
        try:
            _write(temporary, step, tensors, extra)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder)
        _prune(folder)
    except OSError as error:
        raise UserError(
            f"the checkpoint of step {step} could not be saved in {folder}: {error.strerror or error}. "
            "Earlier checkpoints are intact; make room or choose another folder, then resume"
        ) from error
    return target


def load(folder: Path) -> Checkpoint:
    """The newest checkpoint in `folder` that is whole.

    Raises CheckpointError when there is none, naming the damaged file and the remedy.
    """
    passed_over: list[str] = []
    for path in _newest_first(folder):
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            passed_over.append(str(error))
            continue
        said = tuple(f"{reason}; went back to step {checkpoint.step}" for reason in passed_over)
        return Checkpoint(path, checkpoint.step, checkpoint.model, checkpoint.optimizer, checkpoint.extra,
                          checkpoint.random_state, said)  # fmt: skip
    if passed_over:
        raise CheckpointError(f"no checkpoint in {folder} is whole ({'; '.join(passed_over)}); start the run anew")
    raise CheckpointError(f"there is no checkpoint in {folder}; start the run without resuming")


def exists(folder: Path) -> bool:
    """Whether there is anything to resume from, whole or not."""
    return bool(_newest_first(folder))


def forget(folder: Path, step: int) -> Path | None:
    """Remove the checkpoints of `step` and later ones, which turned out bad; returns the newest that is left."""
    for path in _newest_first(folder):
        found = _NAME.fullmatch(path.name)
        if found is None or int(found[2]) < step:
            return path
        shutil.rmtree(path)
    return None


def _write(temporary: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], extra: Any) -> None:
    temporary.mkdir()
    files = {}
    for name, values in tensors.items():
        data = safetensors.torch.save(_unshared(values))
        write_synced(temporary / name, data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {"format": FORMAT, "step": step, "files": files, "extra": extra}
    write_synced(temporary / INDEX_FILE, json.dumps({**body, "digest": _digest(body)}, indent=1).encode())
    sync_folder(temporary)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and without two names for one memory (tied weights), which safetensors refuses."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if address in seen else plain
        seen.add(address)
    return result


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _next_number(folder: Path) -> int:
    newest = _newest_first(folder)
    return int(newest[0].name.split("-")[0]) + 1 if newest else 0


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _prune(folder: Path) -> None:
    """Keep the newest KEPT whose index and file lengths are right; a damaged one must not push a good one out."""
    whole = 0
    for path in _newest_first(folder):
        if whole < KEPT and _looks_whole(path):
            whole += 1
        else:
            shutil.rmtree(path, ignore_errors=True)


def _looks_whole(path: Path) -> bool:
    try:
        files = _index(path)["files"]
        return all((path / name).stat().st_size == about["bytes"] for name, about in files.items())
    except (CheckpointError, OSError):
        return False


def _index(path: Path) -> dict[str, Any]:
    file = path / INDEX_FILE
    try:
        body = json.loads(_read_bytes(file))
        digest = body.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CheckpointError(f"{file} is damaged") from None
    if digest != _digest(body):
        raise CheckpointError(f"{file} is damaged")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{file} has format {body['format']}, this version reads {FORMAT}")
    return dict(body)


def _read(path: Path) -> Checkpoint:
    index = _index(path)
    model = _tensors(path / MODEL_FILE, index["files"][MODEL_FILE])
    state = _tensors(path / STATE_FILE, index["files"][STATE_FILE])
    random_state = state.pop(RANDOM_STATE)
    optimizer = {name.removeprefix(OPTIMIZER_PREFIX): tensor for name, tensor in state.items()}
    return Checkpoint(path, index["step"], model, optimizer, index["extra"], random_state)


def _tensors(file: Path, about: Mapping[str, Any]) -> dict[str, Tensor]:
    data = _read_bytes(file)
    if len(data) != about["bytes"]:
        raise CheckpointError(f"{file} is cut off: {len(data)} of {about['bytes']} bytes")
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise CheckpointError(f"{file} is damaged: its content is not what was saved")
    try:
        return dict(safetensors.torch.load(data))
    except SafetensorError as error:
        raise CheckpointError(f"{file} is no safetensors file: {error}") from None


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None
