"""Two thousand damaged files of each kind: read, or refused with a CheckpointError; never a crash, a hang or a heap.

GGUF files have their own such test, templates too (tests/text). Seeds are fixed: a failure repeats.
"""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from raison.errors import CheckpointError
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from raison.weights.families import config_from_spec, spec_from_config
from raison.weights.safetensors_file import open_safetensors
from raison.weights.vocabulary_files import load_tokenizer
from tests.shapes import FAMILY_SHAPES, SHAPES, random_model

COUNT = 2000
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**40, 1e308, float("nan"), "", "x" * 1000, [], [1], {}, {"rope_type": "yarn"},
    [[[]]], "../../etc/passwd",
)  # fmt: skip


def damaged(data: bytes, numbers: random.Random) -> bytes:
    """Cut, flipped, or with a number of the header replaced by a worse one."""
    kind = numbers.randrange(4)
    if kind == 0:
        return data[: numbers.randrange(len(data))]
    if kind == 1:
        size = min(len(data), int.from_bytes(data[:8], "little") + 8)
        at, digit = numbers.randrange(8, size), numbers.choice(b'0123456789[]{}",:-e')
        return data[:at] + bytes([digit]) + data[at + 1 :]
    if kind == 2:
        return numbers.choice((2**63, 2**64 - 1, len(data), 0, 7, 10**8)).to_bytes(8, "little") + data[8:]
    at = numbers.randrange(len(data))
    return data[:at] + numbers.randbytes(numbers.randrange(1, 9)) + data[at + 1 :]


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {"a": torch.ones(3, 5), "b": torch.zeros(7).bfloat16(), "c": torch.ones(2).to(torch.float8_e4m3fn)}
    save_file(tensors, path, metadata={"format": "pt"})
    whole, numbers, said = path.read_bytes(), random.Random(0), list[str]()
    open_safetensors(path)
    tracemalloc.start()
    for _ in range(COUNT):
        path.write_bytes(damaged(whole, numbers))
        tracemalloc.reset_peak()
        try:
            for tensor in open_safetensors(path).values():
                tensor.float().sum()
        except CheckpointError as error:
            said.append(str(error))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(said) > COUNT / 2
    assert all(str(path) in message and len(message) < 600 for message in said)


def mutated(value: Any, numbers: random.Random) -> Any:
    """The same object with one to three of its values, at any depth, replaced or gone."""
    copy = json.loads(json.dumps(value))
    for _ in range(numbers.randrange(1, 4)):
        where, key = copy, numbers.choice(list(copy))
        if isinstance(where[key], dict) and where[key] and numbers.random() < 0.7:
            where = where[key]
            key = numbers.choice(list(where))
        if numbers.random() < 0.2:
            del where[key]
        else:
            where[key] = numbers.choice(NASTY)
        if not copy:
            break
    return copy


def test_configs() -> None:
    configs = [config_from_spec(spec, "float32") for spec in (*SHAPES.values(), *FAMILY_SHAPES.values())]
    numbers, said = random.Random(1), list[str]()
    for _ in range(COUNT):
        try:
            spec_from_config(mutated(numbers.choice(configs), numbers))
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) > COUNT / 4
    assert max(map(len, said)) < 1500


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "model"
    folder.save(path, random_model(replace(FAMILY_SHAPES["qwen3"], vocab_size=1280)), Tokenizer.build(), {})
    (path / "raison.json").unlink()
    return path


def json_damage(name: str) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, numbers: random.Random) -> None:
        if numbers.random() < 0.3:
            (path / name).write_bytes(damaged((path / name).read_bytes(), numbers))
        else:
            (path / name).write_text(json.dumps(mutated(json.loads((path / name).read_text()), numbers)))

    return damage


def test_tokenizer_configs(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "m")
    (tmp_path / "m/chat_template.jinja").unlink()
    numbers, refused = random.Random(2), 0
    for name in ("tokenizer_config.json", "generation_config.json"):
        whole = (tmp_path / "m" / name).read_bytes()
        for _ in range(150):
            (tmp_path / "m" / name).write_bytes(whole)
            json_damage(name)(tmp_path / "m", numbers)
            try:
                load_tokenizer(tmp_path / "m", {"eos_token_id": numbers.choice((1, [1, 2], "1", -1, 10**9, None))})
            except CheckpointError:
                refused += 1
        (tmp_path / "m" / name).write_bytes(whole)
    assert refused > 50


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_whole_folders(model_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(model_folder, tmp_path / "m")
    whole, numbers, refused = (tmp_path / "m" / name).read_bytes(), random.Random(3), 0
    for _ in range(60):
        (tmp_path / "m" / name).write_bytes(whole)
        if name == "config.json":
            json_damage(name)(tmp_path / "m", numbers)
        else:
            (tmp_path / "m" / name).write_bytes(damaged(whole, numbers))
        try:
            folder.load(tmp_path / "m")
        except CheckpointError:
            refused += 1
    assert refused > 20
