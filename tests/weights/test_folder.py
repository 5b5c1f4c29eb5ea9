"""A model folder under good and bad luck: round trips, full disks, crashes, files cut off or exchanged."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from raison import files
from raison.errors import CheckpointError, UserError
from raison.model.transformer import Transformer
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from tests.shapes import SMALL, random_model

TOKENIZER = Tokenizer.build()
SPEC = replace(SMALL, vocab_size=TOKENIZER.size)
STORY = {"stage": "grpo", "step": 120, "pass@1": 0.1 + 0.2, "checker": "countdown@1", "name": "né"}


@pytest.fixture(scope="module")
def model() -> Transformer:
    return random_model(SPEC)


@pytest.fixture
def saved(tmp_path: Path, model: Transformer) -> Path:
    folder.save(tmp_path / "model", model, TOKENIZER, STORY)
    return tmp_path / "model"


def siblings(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def is_model(path: Path, model: Transformer) -> bool:
    loaded = folder.load(path).model.state_dict()
    return all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_round_trip(saved: Path, model: Transformer) -> None:
    loaded = folder.load(saved)
    assert is_model(saved, model)
    assert loaded.provenance == STORY
    assert loaded.model.spec == SPEC
    assert loaded.tokenizer.encode("Make 46 from 3") == TOKENIZER.encode("Make 46 from 3")
    assert sorted(p.name for p in saved.iterdir()) == sorted(
        [folder.CONFIG, folder.WEIGHTS, folder.VOCABULARY, folder.PROVENANCE, folder.GENERATION,
         folder.TOKENIZER_CONFIG, folder.CHAT]
    )  # fmt: skip
    assert siblings(saved) == ["model"]


def test_others_may_read_the_files(saved: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o666 & ~mask}


def test_bf16_halves_the_file_and_loads_as_fp32(saved: Path, model: Transformer) -> None:
    whole = (saved / folder.WEIGHTS).stat().st_size
    folder.save(saved, model, TOKENIZER, {}, dtype="bf16")
    assert (saved / folder.WEIGHTS).stat().st_size < 0.6 * whole
    assert json.loads((saved / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for name, tensor in folder.load(saved).model.state_dict().items():
        exact = model.state_dict()[name]
        rounded = exact if name.endswith("e_score_correction_bias") else exact.bfloat16().float()
        assert torch.equal(tensor, rounded), name
        assert tensor.dtype == torch.float32


def test_replacing_keeps_what_others_laid_beside(saved: Path) -> None:
    (saved / "README.md").write_text("mine")
    (saved / "figures").mkdir()
    (saved / "figures" / "a.svg").write_text("<svg/>")
    other = random_model(SPEC, seed=9)
    folder.save(saved, other, TOKENIZER, {})
    assert is_model(saved, other)
    assert (saved / "README.md").read_text() == "mine"
    assert (saved / "figures" / "a.svg").read_text() == "<svg/>"
    assert siblings(saved) == ["model"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path, model: Transformer) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than a model"):
        folder.save(tmp_path, model, TOKENIZER, {})
    with pytest.raises(UserError, match="is a file"):
        folder.save(tmp_path / "notes.txt", model, TOKENIZER, {})
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("failing", ["fsync", "first rename", "second rename"])
def test_full_disk_loses_nothing(
    saved: Path, model: Transformer, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (saved / "README.md").write_text("mine")
    rename, calls = Path.rename, []

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_at(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == (1 if failing == "first rename" else 2):
            full()
        return rename(path, target)

    monkeypatch.setattr(*((os, "fsync", full) if failing == "fsync" else (Path, "rename", full_at)))
    with pytest.raises(UserError, match=r"No space left on device.*intact"):
        folder.save(saved, random_model(SPEC, seed=9), TOKENIZER, {})
    monkeypatch.undo()
    assert is_model(saved, model)
    assert (saved / "README.md").read_text() == "mine"
    assert siblings(saved) == ["model"]


def test_crash_between_the_renames(saved: Path, model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder has stepped aside and its successor is not there: it is found, and comes back at the next save."""
    saved.rename(saved.with_name(".model.replaced"))
    assert is_model(saved, model)
    monkeypatch.setattr(files, "_write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(UserError, match="intact"):
        folder.save(saved, random_model(SPEC, seed=9), TOKENIZER, {})
    assert siblings(saved) == ["model"]
    assert is_model(saved, model)


def test_crash_after_the_renames(saved: Path, model: Transformer) -> None:
    shutil.copytree(saved, saved.with_name(".model.replaced"))
    (saved.with_name(".model.saving")).mkdir()
    folder.save(saved, model, TOKENIZER, {})
    assert siblings(saved) == ["model"]


def cut(path: Path) -> None:
    weights = path / folder.WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def cut_without_record(path: Path) -> None:
    (path / folder.PROVENANCE).unlink()
    cut(path)


def one_bit(path: Path) -> None:
    weights = path / folder.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_text(json.dumps({**json.loads((path / name).read_text()), **changes}))

    return change


def without(*names: str) -> Callable[[Path], None]:
    return lambda path: [(path / name).unlink() for name in names] and None


def fewer_layers(path: Path) -> None:
    edit("config.json", num_hidden_layers=2)(path)


def test_a_runs_folder_names_the_model_in_it(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "model")
    with pytest.raises(CheckpointError, match=r"run's folder; its model is .*run/model$"):
        folder.load(run)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "there is no model folder"),
        (without("config.json"), r"holds no model: a model's folder has a config\.json"),
        (without("tokenizer.json"), r"tokenizer\.json is missing"),
        (without("model.safetensors"), r"model\.safetensors is missing"),
        (
            without("model.safetensors", "raison.json"),
            r"has neither model\.safetensors nor",
        ),
        (cut, r"model\.safetensors is cut off or replaced: it has \d+ bytes"),
        (cut_without_record, r"model\.safetensors is cut off or damaged"),
        (one_bit, r"model\.safetensors is damaged or replaced"),
        (lambda path: (path / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda path: (path / "config.json").write_bytes(b"\xff\xfe"), r"config\.json is not JSON"),
        (lambda path: (path / "config.json").write_text("[]"), "must hold a JSON object"),
        (edit("config.json", hidden_size=64), "shapes are wrong"),
        (edit("config.json", num_nextn_predict_layers=10**12), "with 1000000000000 MTP modules"),
        (edit("config.json", vocab_size=5), r"tokenizer\.json has \d+ tokens, config\.json only 5"),
        (edit("config.json", architectures=["GPT2LMHeadModel"]), "GPT2LMHeadModel is not known"),
        (fewer_layers, "left over"),
    ],
)
def test_damage_is_named(saved: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=said):
        folder.load(saved)


def test_a_folder_without_provenance_is_read(saved: Path, model: Transformer) -> None:
    (saved / "raison.json").unlink()
    assert folder.load(saved).provenance == {}
    assert is_model(saved, model)


def test_pickled_weights_are_not_read(saved: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (saved / "raison.json").unlink()
    torch.save({"model.norm.weight": Bomb()}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        folder.load(saved)
    assert not (tmp_path / "exploded").exists()


def test_the_weights_say_that_they_are_torch_tensors(saved: Path) -> None:
    """Other software refuses a safetensors file without this mark."""
    with safetensors.safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
