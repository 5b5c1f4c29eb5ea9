"""Who runs in `raison bench engine`, each at every setting that could be its best: ours and other people's.

A setting is plain text, so that another process can make the same runner (resident.py). llama.cpp gets the file as it
is and files of other quantisations that it makes itself; OpenVINO continuous batching and one padded batch;
transformers and vLLM fp32 and bf16. Not covered: rivals that run as servers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import torch

from raison.bench.note import Note
from raison.bench.ours import Ours
from raison.bench.rival import Rival, Transformers
from raison.errors import UserError, nearest
from raison.reasoner import stored_width
from raison.weights import place, source
from raison.weights.export import Quant, export
from raison.weights.opened import LoadedModel

OURS = "raison"
PACKAGES = {
    "llama.cpp": "llama_cpp", "transformers": "transformers", "openvino": "openvino_genai", "vllm": "vllm"
}  # fmt: skip
"""What each rival is imported as."""
WHOLE: dict[str, Quant] = {"float32": "F32", "bfloat16": "BF16"}
"""Ways of those who read a folder, and what its weights are stored as."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run the model: whose, which of its ways, and the file or folder it reads."""

    whose: str
    way: str
    path: str
    threads: int

    @property
    def name(self) -> str:
        return f"{self.whose} {self.way}"

    def make(self, streams: int, context: int) -> Rival:
        """A runner for so many streams of so many tokens at most. Only this imports a rival."""
        return _MAKERS[self.whose](self, streams, context)


@lru_cache(maxsize=1)
def loaded(model: str) -> LoadedModel:
    """The model as our engine takes it: in the width of its file. One for all widths that are compared."""
    opened = source.open_model(model)
    return opened.load(packed=stored_width(opened.tensors) != "fp32")


def check_names(against: Sequence[str]) -> None:
    """Raises UserError for a rival that nobody knows."""
    for name in against:
        if name not in PACKAGES:
            raise UserError(f'there is no rival "{name}": {nearest(name, PACKAGES)}')


def settings_of(
    model: str, against: Sequence[str], threads: int, scratch: Path, note: Note
) -> tuple[list[Setting], list[str]]:
    """Of the rivals that are installed, with the files they need made in `scratch`; and the names of the others."""
    found: list[Setting] = []
    absent = []
    for name in against:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            absent.append(name)
            note(f"{name} is not installed and is left out")
        else:
            found += [Setting(name, way, str(path), threads) for way, path in _ways(name, model, scratch, note).items()]
    return found, absent


def _ways(name: str, model: str, scratch: Path, note: Note) -> dict[str, Path]:
    """By name of each way, what it reads."""
    if name == "openvino":
        return dict.fromkeys(("batching", "padded"), _gguf(model, name))
    if name == "llama.cpp":
        return _llama_cpp_files(_gguf(model, name), scratch, note)
    return {way: _folder(model, stored, scratch / f"hf-{way}") for way, stored in WHOLE.items()}


def _folder(model: str, stored: Quant, folder: Path) -> Path:
    if not folder.exists():
        export(source.load(model, packed=False), folder, "hf", stored, "bench")
    return folder


def absorbed_beside(path: Path) -> Path:
    """Where the same model stands in the form that llama.cpp's own conversion gives to DeepSeek's attention."""
    return path.with_suffix(".absorbed.gguf")


def _llama_cpp_files(path: Path, scratch: Path, note: Note) -> dict[str, Path]:
    peer = import_module("raison.bench.llama_cpp_peer")  # needs llama-cpp-python
    note("llama.cpp makes its own quantisations of the file")
    found = {}
    for form, file in (("", path), (" absorbed", absorbed_beside(path))):
        if file.exists():
            found[f"as it is{form}"] = file
            found |= {f"{quant}{form}": peer.quantised(file, quant, scratch) for quant in peer.QUANTS}
    return found


def _gguf(model: str, rival: str) -> Path:
    path = place.locate(model)
    if path.suffix != ".gguf":
        raise UserError(f"{rival} reads GGUF files; export {path} first: raison export {path} --to gguf --out m.gguf")
    return path


def _ours(one: Setting, streams: int, context: int) -> Rival:
    return Ours(loaded(one.path), one.way, streams, context)  # type: ignore[arg-type]  # a Dtype: only those are set


def _llama_cpp(one: Setting, streams: int, context: int) -> Rival:
    from raison.bench.llama_cpp_peer import LlamaCpp  # needs llama-cpp-python

    return LlamaCpp(Path(one.path), one.threads, streams, context)


def _openvino(one: Setting, streams: int, context: int) -> Rival:
    from raison.bench.openvino_peer import Batching, Padded  # needs openvino-genai

    return (Batching if one.way == "batching" else Padded)(Path(one.path), one.threads, streams)


def _transformers(one: Setting, streams: int, context: int) -> Rival:
    return Transformers(Path(one.path), getattr(torch, one.way))


def _vllm(one: Setting, streams: int, context: int) -> Rival:
    from raison.bench.vllm_peer import Vllm  # needs vllm

    return Vllm(Path(one.path), one.way, streams, context)


_MAKERS: dict[str, Callable[[Setting, int, int], Rival]] = {
    OURS: _ours, "llama.cpp": _llama_cpp, "openvino": _openvino, "transformers": _transformers, "vllm": _vllm
}  # fmt: skip
