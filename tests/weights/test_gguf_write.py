"""Writing GGUF: what is written reads back, by us and by the gguf package, and bad luck leaves the old file alone."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raison.errors import UserError
from raison.model.packed import PackedMatrix
from raison.weights.gguf_file import open_gguf
from raison.weights.gguf_write import Field, Kind, write_gguf

gguf = pytest.importorskip("gguf", reason="writing needs the gguf package: pip install 'raison[gguf]'")

ARCHITECTURE = {"general.architecture": Field("llama", "str")}
METADATA = {
    "general.name": Field("né 模型 🙂", "str"), **ARCHITECTURE, "empty": Field("", "str"), "on": Field(True, "bool"),
    "u8": Field(200, "u8"), "i8": Field(-100, "i8"), "u16": Field(60000, "u16"), "i16": Field(-30000, "i16"),
    "u32": Field(1, "u32"), "i32": Field(-1, "i32"), "u64": Field(2**63, "u64"), "i64": Field(-(2**40), "i64"),
    "f32": Field(0.5, "f32"), "f64": Field(0.1, "f64"), "tokens": Field(["a", "Ġb", ""], "str"),
    "types": Field([1, 3, -1], "i32"), "scores": Field([0.5, 1.0], "f32"), "flags": Field([True, False], "bool"),
}  # fmt: skip
KINDS: tuple[Kind, ...] = ("F32", "F16", "Q8_0", "Q4_0")


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(name: str, shape: tuple[int, ...]) -> Kind:
    return "F32"


def write_one(path: Path, tensor: Tensor, kind: Kind) -> None:
    write_gguf(path, ARCHITECTURE, {"x": tensor}, lambda name, shape: kind)


def test_metadata_comes_back_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.gguf"
    write_gguf(path, METADATA, {"x": weights(3, 4)}, plain)
    assert open_gguf(path).metadata == {key: field.value for key, field in METADATA.items()}
    theirs = gguf.GGUFReader(path)
    for key, field in METADATA.items():
        types = [stored.name.lower() for stored in theirs.fields[key].types]
        name = field.type.replace("str", "string").replace("u", "uint") if field.type != "bool" else "bool"
        name = {"i": "int", "f": "float"}.get(name[0], "") + name[1:] if name[0] in "if" else name
        assert types[-1] == name and (types[0] == "array") == isinstance(field.value, list)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_come_back(tmp_path: Path, kind: Kind, dtype: torch.dtype) -> None:
    tensors = {
        "m": weights(5, 64).to(dtype),
        "experts": weights(3, 4, 32).to(dtype).mT.mT,
        "norm": weights(96).to(dtype),
    }
    write_gguf(tmp_path / "m.gguf", ARCHITECTURE, tensors, lambda name, shape: "F32" if len(shape) == 1 else kind)
    back = open_gguf(tmp_path / "m.gguf").tensors
    assert list(back) == list(tensors)
    assert torch.equal(back["norm"].expand(), tensors["norm"].float())
    for name in ("m", "experts"):
        type_ = gguf.GGMLQuantizationType[kind]
        expected = gguf.quants.dequantize(gguf.quants.quantize(tensors[name].float().numpy(), type_), type_)
        np.testing.assert_array_equal(back[name].expand().numpy(), expected, strict=True)
        step = {"F32": 0.0, "F16": 2**-11, "Q8_0": 1 / 250, "Q4_0": 1 / 8}[kind]
        assert (back[name].expand() - tensors[name].float()).abs().max() <= step * tensors[name].abs().max()
    assert [t.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors] == list(tensors)


def test_a_packed_tensor_goes_through(tmp_path: Path) -> None:
    write_one(tmp_path / "a.gguf", weights(8, 64), "Q8_0")
    packed = dict(open_gguf(tmp_path / "a.gguf").tensors)
    write_gguf(tmp_path / "b.gguf", ARCHITECTURE, packed, plain)
    assert torch.equal(open_gguf(tmp_path / "b.gguf").tensors["x"].expand(), packed["x"].expand())


class Watched:
    """A packed matrix that notes how many of its kind are expanded at once."""

    shape, nbytes = (4, 32), 0

    def __init__(self, alive: list[weakref.ref[Tensor]]) -> None:
        self.alive, self.most = alive, 0

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        self.most = sum(reference() is not None for reference in self.alive)
        tensor = torch.ones(self.shape, dtype=dtype)
        self.alive.append(weakref.ref(tensor))
        return tensor

    def expand_into(self, out: Tensor) -> Tensor:
        return out.fill_(1.0)

    def rows(self, start: int, stop: int) -> PackedMatrix:
        return self


@pytest.mark.parametrize("kind", KINDS)
def test_one_tensor_at_a_time(tmp_path: Path, kind: Kind) -> None:
    alive: list[weakref.ref[Tensor]] = []
    tensors = {str(number): Watched(alive) for number in range(4)}
    write_gguf(tmp_path / "m.gguf", ARCHITECTURE, tensors, lambda name, shape: kind)
    assert len(alive) == 4
    assert [tensor.most for tensor in tensors.values()] == [0] * 4


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.gguf"
    write_one(path, weights(4, 32), "F16")
    old = path.read_bytes()

    def full(self: Any, tensor: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(UserError, match=r"m\.gguf could not be written: No space left.*make room"):
        write_one(path, weights(8, 64), "F16")
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full takes every write and then refuses it, also what was still buffered when the file is closed."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(gguf.GGUFWriter, "print_plan", lambda self: ["/dev/full"])
    with pytest.raises(UserError, match="No space left"):
        write_one(tmp_path / "m.gguf", weights(8, 64), "F16")
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_the_file(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_one(tmp_path / "m.gguf", weights(2, 2), "F32")
    finally:
        os.umask(mask)
    assert (tmp_path / "m.gguf").stat().st_mode & 0o777 == 0o644


REFUSED = [
    (torch.tensor([[1.0, float("nan")]]), "F32", "NaN or infinity"),
    (torch.tensor([[1.0, 7e4]]), "F16", "beyond 65504"),
    (torch.full((1, 32), 1e7), "Q8_0", "beyond"),
    (torch.full((1, 32), -1e6), "Q4_0", "beyond"),
    (torch.zeros(4, 33), "Q8_0", "rows of a multiple of 32; store it as F16"),
]  # fmt: skip


@pytest.mark.parametrize(("tensor", "kind", "reason"), REFUSED)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, tensor: Tensor, kind: Kind, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        write_one(tmp_path / "m.gguf", tensor, kind)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'raison\[gguf\]'"):
        write_one(tmp_path / "m.gguf", weights(2, 2), "F32")
