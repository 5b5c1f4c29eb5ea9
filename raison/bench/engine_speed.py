"""`raison bench engine`: tokens/s of the engine over parallel sequences, beside rivals in the same run.

Everyone writes the same number of tokens after the same prompts, ends of text ignored, sampled at the same temperature;
runs alternate, so that a noisy machine disturbs all alike, and the median counts. llama.cpp gets the file as it is and
files of other quantisations that it makes itself, and its best counts at each number of streams. Beside speed stand
perplexity on a passage, and shares of this machine's measured bandwidth and of its peak of products of bytes, taken as
four times that of fp32. Not covered: servers.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from raison import hardware
from raison.bench.quality import PASSAGE, perplexity
from raison.bench.rival import Rival, Timed, Transformers, is_shared
from raison.engine.engine import Engine, EngineSettings
from raison.engine.sequence import SamplingParams
from raison.engine.twin import Dtype
from raison.errors import UserError, nearest
from raison.model import cost
from raison.model.spec import preset
from raison.model.transformer import Transformer, initialise
from raison.reasoner import SHIPPED, stored_width
from raison.text.tokenizer import Tokenizer
from raison.weights import source
from raison.weights.export import export
from raison.weights.opened import LoadedModel, Opened

RIVALS = {"llama.cpp": "llama_cpp", "transformers": "transformers", "openvino": "openvino_genai"}
"""And the package of each."""
WORDS = "The quick brown fox jumps over the lazy dog while seven wizards count their numbers by the river. "

INT8 = 4
"""Products of bytes that an instruction does for one of fp32, in VNNI."""
LONGEST = 704
"""Tokens of the passage at most, for which a runner of one stream has room."""

Note = Callable[[str], None]
Make = Callable[[int], Rival]
"""A runner for so many streams."""


@dataclass(frozen=True, slots=True)
class Load:
    """What everyone has to do."""

    streams: tuple[int, ...]
    prompt: int
    tokens: int
    rounds: int
    temperature: float
    shared: bool
    """One prompt for all streams, or one each."""


class Ours:
    """The engine with nothing that ends a text."""

    def __init__(self, loaded: LoadedModel, dtype: Dtype, streams: int, load: Load) -> None:
        t = loaded.tokenizer
        endless: Tokenizer = replace(t, stops=frozenset(), eos=-1)
        room = max((load.prompt + load.tokens + 32) * streams, LONGEST) + 64
        self._engine = Engine(loaded.model, endless, EngineSettings(cache_tokens=room, max_batch=streams, dtype=dtype))

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        self._engine.update_weights()  # forgets cached prompts
        params = [
            SamplingParams(temperature=temperature, max_tokens=tokens, answer_tokens=tokens, seed=i)
            for i in range(len(prompts))
        ]
        start = time.perf_counter()
        if is_shared(prompts):
            groups = self._engine.generate([prompts[0]], params[0], n=len(prompts))
        else:
            groups = self._engine.generate(list(prompts), params)
        seconds = time.perf_counter() - start
        found = [completion for group in groups for completion in group]
        first = max(completion.first_token_seconds for completion in found)
        return Timed(sum(len(completion.token_ids) for completion in found), seconds, first)

    def logits(self, ids: Sequence[int]) -> torch.Tensor | None:
        return self._engine.score(ids)

    def close(self) -> None:
        pass


def bench_engine(
    model: str | None, load: Load, against: Sequence[str], widths: Sequence[Dtype], threads: int, scratch: Path,
    note: Note = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Figures as plain numbers: `rates` by runner and streams, `ratios` of our best over each rival's best."""
    for name in against:
        if name not in RIVALS:
            raise UserError(f'there is no rival "{name}": {nearest(name, RIVALS)}')
    model = str(SHIPPED) if model is None else model
    opened = source.open_model(model)
    stored = stored_width(opened.tensors)
    loaded = opened.load(packed=stored != "fp32")
    ours = {f"raison {w}": partial(_ours, loaded, w, load) for w in widths or (stored,)}
    rivals, absent = _rivals(model, against, threads, load, scratch, note)
    quality = _quality({**ours, **rivals}, loaded, note)
    rates, first = _measure({**ours, **rivals}, loaded, load, note)
    machine = hardware.probe()
    best = {str(n): max(rates[name][str(n)] for name in ours) for n in load.streams}
    flops = cost.matmul_flops(opened.spec)
    return {
        "model": str(opened.path), "threads": threads, "prompt": load.prompt, "tokens": load.tokens,
        "shared_prompt": load.shared, "temperature": load.temperature, "rates": rates, "first_token_seconds": first,
        "perplexity": quality,
        "ratios": _ratios(rates, list(ours), against, load.streams), "absent": absent,
        "read_gb_per_second": machine.read_gb_per_second, "fp32_gflops": machine.fp32_gflops,
        "share_of_bandwidth": {
            n: rate * touched_bytes(opened) / (machine.read_gb_per_second * 1e9) for n, rate in best.items() if n == "1"
        },
        "share_of_int8_peak": {n: rate * flops / (INT8 * machine.fp32_gflops * 1e9) for n, rate in best.items()},
    }  # fmt: skip


def random_file(shape: str, scratch: Path) -> Path:
    """A GGUF file of the preset `shape` with random weights in Q4_0, as other engines read it: without MTP modules."""
    spec = replace(preset(shape), num_nextn_predict_layers=0)
    path = scratch / f"{shape}.gguf"
    loaded = LoadedModel(initialise(Transformer(spec), seed=0), Tokenizer.build(), {})
    export(loaded, path, "gguf", "Q4_0", shape)
    return path


def touched_bytes(opened: Opened) -> float:
    """Bytes of the file's matrices that one token reads: of routed experts those that are chosen, of the embedding one
    row, unless it is the head too.
    """
    spec = opened.spec
    share = spec.num_experts_per_tok / spec.n_routed_experts if spec.n_routed_experts else 1.0
    total = 0.0
    for name, matrix in opened.tensors.items():
        if name.endswith("embed_tokens.weight") and not spec.tie_word_embeddings:
            continue
        total += matrix.nbytes * (share if ".experts." in name else 1.0)
    return total


def _ours(loaded: LoadedModel, width: Dtype, load: Load, streams: int) -> Rival:
    return Ours(loaded, width, streams, load)


def _rivals(
    model: str, against: Sequence[str], threads: int, load: Load, scratch: Path, note: Note
) -> tuple[dict[str, Make], list[str]]:
    """Those that are installed, and the names of those that are not."""
    found: dict[str, Make] = {}
    absent = []
    context = load.prompt + load.tokens + 16
    for name in against:
        if importlib.util.find_spec(RIVALS[name]) is None:
            absent.append(name)
            note(f"{name} is not installed and is left out")
        elif name == "llama.cpp":
            note("llama.cpp makes its own quantisations of the file")
            found |= _llama_cpp(_gguf(model, name), threads, context, scratch)
        elif name == "openvino":
            found |= _openvino(_gguf(model, name), threads)
        else:
            folder = scratch / "hf"
            export(source.load(model, packed=False), folder, "hf", "F32", "bench")
            for dtype in (torch.float32, torch.bfloat16):
                label = str(dtype).removeprefix("torch.")
                found[f"transformers {label}"] = partial(_transformers, folder, dtype)
    return found, absent


def _transformers(folder: Path, dtype: torch.dtype, streams: int) -> Rival:
    return Transformers(folder, dtype)


def _llama_cpp(path: Path, threads: int, context: int, scratch: Path) -> dict[str, Make]:
    from raison.bench.llama_cpp_peer import QUANTS, LlamaCpp, quantised  # needs llama-cpp-python

    files = {"as it is": path, **{quant: quantised(path, quant, scratch) for quant in QUANTS}}
    return {f"llama.cpp {name}": partial(_one_llama, LlamaCpp, file, threads, context) for name, file in files.items()}


def _openvino(file: Path, threads: int) -> dict[str, Make]:
    from raison.bench.openvino_peer import Batching, Padded  # needs openvino-genai

    return {"openvino batching": partial(Batching, file, threads), "openvino padded": partial(Padded, file, threads)}


def _gguf(model: str, rival: str) -> Path:
    path = source.locate(model)
    if path.suffix != ".gguf":
        raise UserError(f"{rival} reads GGUF files; export {path} first: raison export {path} --to gguf --out m.gguf")
    return path


def _one_llama(kind: Callable[..., Rival], file: Path, threads: int, context: int, streams: int) -> Rival:
    return kind(file, threads, streams, context if streams > 1 else max(context, LONGEST))


def _prompts(loaded: LoadedModel, load: Load, streams: int) -> list[list[int]]:
    """Of exactly the wanted length; the same object for all where the prompt is shared."""
    ids = loaded.tokenizer.encode(WORDS * (2 + load.prompt // 8))
    if load.shared:
        return [ids[: load.prompt]] * streams
    return [ids[i : i + load.prompt] for i in range(streams)]


def _quality(makes: Mapping[str, Make], loaded: LoadedModel, note: Note) -> dict[str, float]:
    """Perplexity of each that tells its logits."""
    ids = loaded.tokenizer.encode(PASSAGE)[: min(LONGEST, loaded.model.spec.max_position_embeddings)]
    found = {}
    for name, make in makes.items():
        runner = make(1)
        logits = runner.logits(ids)
        runner.close()
        if logits is not None:
            found[name] = perplexity(logits, ids)
    said = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
    note(f"perplexity of {len(ids)} tokens: {said}")
    return found


def _measure(
    makes: Mapping[str, Make], loaded: LoadedModel, load: Load, note: Note
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    rates: dict[str, dict[str, float]] = {name: {} for name in makes}
    first: dict[str, dict[str, float]] = {name: {} for name in makes}
    for streams in load.streams:
        runners = {name: make(streams) for name, make in makes.items()}
        prompts = _prompts(loaded, load, streams)
        runs: dict[str, list[Timed]] = {name: [] for name in makes}
        for turn in range(load.rounds + 1):
            for name, runner in runners.items():
                timed = runner.generate(prompts, load.tokens, load.temperature)
                if turn:  # the first warms up
                    runs[name].append(timed)
        for name, runner in runners.items():
            runner.close()
            rates[name][str(streams)] = median(run.rate for run in runs[name])
            first[name][str(streams)] = median(run.first_seconds for run in runs[name])
        said = "  ".join(f"{name} {rates[name][str(streams)]:,.0f}" for name in makes)
        note(f"{streams} streams, tokens/s: {said}")
    return rates, first


def _ratios(
    rates: Mapping[str, Mapping[str, float]], ours: Sequence[str], against: Sequence[str], streams: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Our best over each rival's best."""
    found: dict[str, dict[str, float]] = {}
    for rival in against:
        theirs = [row for name, row in rates.items() if name.startswith(f"{rival} ")]
        if theirs:
            best = {n: max(row[str(n)] for row in theirs) for n in streams}
            found[rival] = {str(n): max(rates[name][str(n)] for name in ours) / best[n] for n in streams}
    return found
