"""Packed weights against other people's arithmetic: gguf's own dequantisation, and a plain loop over FP8 blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from raison.errors import CheckpointError
from raison.model.packed import PackedMatrix
from raison.weights.fp8 import Fp8Blocks
from raison.weights.gguf_blocks import CHUNK, FORMATS, PLAIN, GgufBlocks

# Where the fp16 scales of a block lie.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}
EXTREME = [0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 1.0, -1.0, 65504.0, -65504.0, math.inf, -math.inf, math.nan]

each_kind = pytest.mark.parametrize("kind", FORMATS)


def blocks(kind: str, shape: tuple[int, ...], seed: int = 0) -> GgufBlocks:
    """Random bytes, with a finite scale in most blocks and an extreme one in every seventh."""
    random = np.random.default_rng(seed)
    format = FORMATS[kind]
    raw = random.integers(0, 256, (math.prod(shape) // format.elements, format.bytes), np.uint8)
    for at in SCALES.get(kind, ()):
        scales = random.standard_normal(len(raw)).astype(np.float16)
        scales[3::7] = random.choice(EXTREME, len(scales[3::7])).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    return GgufBlocks(kind, shape, torch.from_numpy(raw).flatten())


def oracle(packed: GgufBlocks) -> Any:
    quants = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle: pip install 'raison[gguf]'")
    from gguf import GGMLQuantizationType

    rows = packed.data.numpy().reshape(math.prod(packed.shape[:-1]), -1)
    with np.errstate(all="ignore"):
        return quants.dequantize(rows, GGMLQuantizationType[packed.kind]).reshape(packed.shape)


@each_kind
@pytest.mark.parametrize("shape", [(256,), (37, 512), (3, 5, 256)])
def test_expands_as_gguf_does(kind: str, shape: tuple[int, ...]) -> None:
    packed = blocks(kind, shape)
    expanded = packed.expand()
    assert kind in PLAIN or expanded.isfinite().float().mean() > 0.5, "most blocks have an ordinary scale"
    np.testing.assert_array_equal(expanded.numpy(), oracle(packed), strict=True)


@each_kind
def test_expands_in_chunks_as_in_one(kind: str) -> None:
    packed = blocks(kind, (2 * CHUNK // 512 + 3, 512))
    np.testing.assert_array_equal(packed.expand().numpy(), oracle(packed))


@each_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrower_type_is_rounded_once(kind: str, dtype: torch.dtype) -> None:
    packed = blocks(kind, (2 * CHUNK // 512 + 3, 512))
    assert torch.equal(packed.expand(dtype).nan_to_num(7.0), packed.expand().to(dtype).nan_to_num(7.0))


@each_kind
def test_rows_are_a_slice_of_the_same_data(kind: str) -> None:
    packed = blocks(kind, (9, 2, 256))
    part = packed.rows(2, 7).rows(1, 4)
    np.testing.assert_array_equal(part.expand().numpy(), packed.expand()[3:6].numpy())
    assert part.shape == (3, 2, 256)
    assert part.data.untyped_storage().data_ptr() == packed.data.untyped_storage().data_ptr()
    assert part.nbytes * 3 == packed.nbytes
    assert packed.rows(4, 4).expand().shape == (0, 2, 256)


def test_a_vector_is_cut_between_blocks() -> None:
    packed = blocks("Q8_0", (128,))
    np.testing.assert_array_equal(packed.rows(32, 96).expand().numpy(), packed.expand()[32:96].numpy())
    with pytest.raises(AssertionError, match="multiple of 32"):
        packed.rows(16, 96)


class Largest(TorchDispatchMode):
    """The most bytes that one operation has newly produced."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out, self.bytes = out.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)} | {self.out}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in inputs:
            self.bytes = max(self.bytes, result.nbytes)
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [*FORMATS, "FP8"])
def test_a_large_matrix_takes_a_small_buffer(kind: str, dtype: torch.dtype) -> None:
    shape = (8 * CHUNK // 512, 512)
    packed: PackedMatrix = fp8(*shape) if kind == "FP8" else blocks(kind, shape)
    out = torch.empty(shape, dtype=dtype)
    with Largest(out) as largest:
        assert packed.expand_into(out) is out
    assert largest.bytes <= 4 * CHUNK
    assert kind in PLAIN or largest.bytes > 0, "the measurement sees nothing"


def test_data_of_another_size_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        GgufBlocks("Q8_0", (2, 32), torch.zeros(67, dtype=torch.uint8))
    with pytest.raises(AssertionError, match="divide"):
        GgufBlocks("Q4_K", (8, 32), torch.zeros(144, dtype=torch.uint8))


def fp8(rows: int, columns: int, seed: int = 0) -> Fp8Blocks:
    """Every one of the 256 codes, NaN included; scales over many magnitudes, a power of two now and then."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, columns), generator=random, dtype=torch.uint8)
    size = (-(-rows // 128), -(-columns // 128))
    scale = torch.randn(size, generator=random) * 10.0 ** torch.randint(-30, 30, size, generator=random)
    scale[::2, ::3] = 2.0 ** torch.randint(-20, 20, scale[::2, ::3].shape, generator=random).float()
    return Fp8Blocks(codes.view(torch.float8_e4m3fn), scale)


def loop(packed: Fp8Blocks) -> Tensor:
    out = packed.weight_FD.float()
    for row in range(packed.scale_fd.shape[0]):
        for column in range(packed.scale_fd.shape[1]):
            out[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128] *= packed.scale_fd[row, column]
    return out


SHAPES = [(1, 1), (128, 128), (127, 129), (300, 256), (130, 257), (64, 700)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_fp8_as_in_a_plain_loop(rows: int, columns: int) -> None:
    packed = fp8(rows, columns)
    np.testing.assert_array_equal(packed.expand().numpy(), loop(packed).numpy(), strict=True)
    np.testing.assert_array_equal(packed.expand(torch.bfloat16).float(), loop(packed).bfloat16().float())


def test_fp8_knows_every_code() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).view(2, 128)
    for scale in (1.0, 3e38 / 448, 1e-38, 1e38):
        expanded = Fp8Blocks(codes, torch.tensor([[scale]])).expand()
        np.testing.assert_array_equal(expanded.numpy(), (codes.float() * torch.tensor(scale)).numpy())


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 300), (0, 128), (128, 300), (5, 6), (100, 290), (127, 129), (300, 300)]
)
def test_fp8_rows_cut_blocks_anywhere(start: int, stop: int) -> None:
    packed = fp8(300, 200)
    part = packed.rows(start, stop)
    np.testing.assert_array_equal(part.expand().numpy(), loop(packed)[start:stop].numpy())
    inner = part.rows((stop - start) // 3, stop - start)
    np.testing.assert_array_equal(inner.expand().numpy(), loop(packed)[start + (stop - start) // 3 : stop].numpy())
    assert part.weight_FD.untyped_storage().data_ptr() == packed.weight_FD.untyped_storage().data_ptr()


def test_fp8_scales_must_fit() -> None:
    weight = torch.zeros(576, 200).to(torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match=r"needs fp32 scales of \[5, 2\].*\[4, 2\]"):
        Fp8Blocks(weight, torch.ones(4, 2))
    with pytest.raises(CheckpointError, match="bfloat16"):
        Fp8Blocks(weight, torch.ones(5, 2, dtype=torch.bfloat16))
    with pytest.raises(CheckpointError, match="float8_e4m3fn"):
        Fp8Blocks(torch.zeros(4, 4), torch.ones(1, 1))
