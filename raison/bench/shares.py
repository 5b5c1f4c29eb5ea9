"""What decoding makes of the machine: shares of its bandwidth, of its peak of products of bytes, of the floor of both.

All are of decoding alone, since a prompt is another kind of work (of a mixture it reads every expert), and of rates
probed in the same run, since a virtual machine's bandwidth may double within an hour. Bytes are those of the file's
matrices, operations those of products with weights. With n streams a weight is read once a step; of E routed experts
of which a token takes k, 1 - (1 - k/E)^n are expected to be read, each by few rows, so that their floor is bandwidth
long after the shared parts' is arithmetic. A step's floor adds up both, each the greater of its two times. Not covered:
attention over the cache; the head, which the engine keeps in 8 bits beside a file of 4; weights that stay in the
processor's caches from step to step, with which a small model can be faster than the floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raison import hardware
from raison.model import cost
from raison.model.spec import ModelSpec
from raison.weights.opened import Opened


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that a step reads, and operations of each token of it."""

    read: float
    """Bytes."""
    operations: float
    """Multiplications and additions."""

    def seconds(self, streams: int, machine: hardware.Machine) -> float:
        return max(self.read / machine.read_gb_per_second, streams * self.operations / machine.int8_gops) / 1e9


def shares(opened: Opened, rates: Mapping[str, float], threads: int) -> dict[str, Any]:
    """Shares of the bandwidth, of the peak of products of bytes and of the floor of both, by streams.

    Args:
        rates: tokens a second of all streams together, by their number.
    """
    machine, flops = hardware.probe(threads, refresh=True), cost.matmul_flops(opened.spec)
    steps = {n: list(parts(opened, int(n))) for n in rates}
    reads = {n: sum(part.read for part in step) * rates[n] / int(n) for n, step in steps.items()}
    floors = {n: sum(part.seconds(int(n), machine) for part in step) for n, step in steps.items()}
    return {
        "read_gb_per_second": machine.read_gb_per_second, "fp32_gflops": machine.fp32_gflops,
        "int8_gops": machine.int8_gops,
        "share_of_bandwidth": {n: read / (machine.read_gb_per_second * 1e9) for n, read in reads.items()},
        "share_of_int8_peak": {n: rate * flops / (machine.int8_gops * 1e9) for n, rate in rates.items()},
        "share_of_floor": {n: rate * floors[n] / int(n) for n, rate in rates.items()},
    }  # fmt: skip


def parts(opened: Opened, streams: int) -> Iterator[Part]:
    """What all tokens of a step share, the head included, and the routed experts."""
    spec = opened.spec
    routed = _routed_operations(spec)
    yield Part(_bytes(opened, routed=False), cost.matmul_flops(spec) - routed)
    if spec.n_routed_experts:
        missed = (1 - spec.num_experts_per_tok / spec.n_routed_experts) ** streams
        yield Part(_bytes(opened, routed=True) * (1 - missed), routed)


def _routed_operations(spec: ModelSpec) -> int:
    layers = sum(map(spec.is_moe_layer, range(spec.num_hidden_layers)))
    return 2 * layers * spec.num_experts_per_tok * cost.expert_parameters(spec)


def _bytes(opened: Opened, routed: bool) -> float:
    """Of the file's matrices; of the embedding, unless it is the head too, one row is read, which does not count."""
    tied = opened.spec.tie_word_embeddings
    return sum(
        matrix.nbytes
        for name, matrix in opened.tensors.items()
        if (".experts." in name) == routed and (tied or not name.endswith("embed_tokens.weight"))
    )
