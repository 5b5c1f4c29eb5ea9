"""Checkpoints in several files: read as one, and every disagreement between index and files named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from raison.errors import CheckpointError
from raison.weights.shards import INDEX, open_tensors

PARTS = {"a.safetensors": {"x": torch.ones(2), "y": torch.zeros(3)}, "b.safetensors": {"z": torch.arange(4.0)}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    for name, tensors in PARTS.items():
        save_file(tensors, tmp_path / name)
    write_index(tmp_path)
    return tmp_path


def write_index(folder: Path, **changes: str | None) -> None:
    names = {tensor: part for part, tensors in PARTS.items() for tensor in tensors} | changes
    index = {"metadata": {}, "weight_map": {tensor: part for tensor, part in names.items() if part}}
    (folder / INDEX).write_text(json.dumps(index))


def test_several_files_are_one_checkpoint(checkpoint: Path) -> None:
    found = open_tensors(checkpoint)
    assert {name: found[name].expand().tolist() for name in found} == {"x": [1, 1], "y": [0, 0, 0], "z": [0, 1, 2, 3]}


def indexed(**changes: str | None) -> Callable[[Path], Any]:
    return lambda folder: write_index(folder, **changes)


def wrote(name: str, text: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(text)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (indexed(w="b.safetensors"), "names tensors that its files lack: w"),
        (indexed(y=None), "does not name tensors of its files: y"),
        (indexed(x="../a.safetensors"), "no safetensors file of its own folder"),
        (indexed(x="a.bin"), "no safetensors file of its own folder"),
        (indexed(x="c.safetensors"), r"c\.safetensors is missing"),
        (lambda folder: save_file({"x": torch.ones(1), **PARTS["b.safetensors"]}, folder / "b.safetensors"),
         "holds x, which an earlier file"),
        (wrote("a.safetensors", b"\x10"), "cut off or damaged"),
        (wrote(INDEX, b"{"), "is not JSON"),
        (wrote(INDEX, b"[" * 100_000), "is not JSON"),
        (wrote(INDEX, b"[]"), "lacks `weight_map`"),
        (wrote(INDEX, b'{"weight_map": {"x": 3}}'), "lacks `weight_map`"),
    ],
)  # fmt: skip
def test_disagreement_is_named(checkpoint: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=said):
        open_tensors(checkpoint)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is pickled and is never opened"):
        open_tensors(tmp_path)
