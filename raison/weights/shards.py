"""The tensors of a Hugging Face folder, from one safetensors file or from several with an index, memory-mapped.

A file is opened once; a tensor is a view of the map and costs no memory until it is read. The index may only name
files in its own folder, and must agree with what those files hold. Not covered: pickled checkpoints (`.bin`, `.pt`),
which are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from raison.errors import CheckpointError
from raison.model.packed import Mapped, PackedMatrix
from raison.weights.fp8 import Fp8Blocks
from raison.weights.safetensors_file import open_safetensors

SCALE = "_scale_inv"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LISTED = 4


class TensorFiles(Mapping[str, PackedMatrix]):
    """Name -> matrix over all files of a checkpoint, in the files' order. FP8 weights and their scales are one."""

    def __init__(self, paths: list[Path]) -> None:
        self._tensors: dict[str, Tensor] = {}
        for path in paths:
            found = open_safetensors(path)
            twice = sorted(self._tensors.keys() & found.keys())
            if twice:
                raise CheckpointError(f"{path} holds {twice[0]}, which an earlier file of the checkpoint holds too")
            self._tensors |= found

    def __getitem__(self, name: str) -> PackedMatrix:
        scale = self._tensors.get(name + SCALE)
        if scale is None:
            return Mapped(self._tensors[name])
        try:
            return Fp8Blocks(self._tensors[name], scale.float())
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tensors if not self._is_scale(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._tensors and not self._is_scale(name)

    @property
    def stored(self) -> frozenset[str]:
        """Every name in the files, scales included."""
        return frozenset(self._tensors)

    def _is_scale(self, name: str) -> bool:
        return name.endswith(SCALE) and name.removesuffix(SCALE) in self._tensors


def open_tensors(folder: Path) -> TensorFiles:
    """The checkpoint in `folder`; CheckpointError that names the file and what is wrong with it."""
    if (folder / SINGLE).is_file():
        return TensorFiles([folder / SINGLE])
    if not (folder / INDEX).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"; {pickles[0]} is pickled and is never opened: convert it to safetensors first" if pickles else ""
        raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}{hint}")
    files = _indexed(folder / INDEX)
    tensors = TensorFiles([folder / name for name in dict.fromkeys(files.values())])
    _compare(folder / INDEX, files, tensors)
    return tensors


def _indexed(path: Path) -> dict[str, str]:
    """Tensor name -> file name, as the index has it."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{path} lacks `weight_map`, an object from tensors to files")
    for name in set(files.values()):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path} names {name!r}, which is no safetensors file of its own folder")
        if not (path.parent / name).is_file():
            raise CheckpointError(f"{path.parent / name} is missing, but {INDEX} needs it; download it again")
    return files


def _compare(path: Path, files: Mapping[str, str], tensors: TensorFiles) -> None:
    missing, left = sorted(files.keys() - tensors.stored), sorted(tensors.stored - files.keys())
    for names, what in ((missing, "names tensors that its files lack"), (left, "does not name tensors of its files")):
        if names:
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            raise CheckpointError(f"{path} {what}: {', '.join(names[:LISTED])}{more}")
