"""Adapter folders: round trips bit for bit, and what is said of those that do not fit."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from raison.errors import CheckpointError, UserError
from raison.model.lora import adapters, attach
from raison.model.transformer import Transformer
from raison.weights import peft
from tests.shapes import FAMILY_SHAPES, SHAPES, random_ids, random_model

ALL = {**SHAPES, **FAMILY_SHAPES}
IDS = random_ids(20)


def adapted(shape: str, targets: tuple[str, ...] = ()) -> Transformer:
    model = random_model(ALL[shape])
    attach(model, 3, 7.5, targets)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in adapters(model).values():
            adapter.b.normal_(0, 0.1, generator=generator)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    peft.save(tmp_path / "adapter", adapted("groups"), "base")
    return tmp_path / "adapter"


@pytest.mark.parametrize("shape", ["groups", "plain_queries", "v2", "qwen2", "qwen3_moe"])
@pytest.mark.parametrize("targets", [(), ("kv_b_proj", "experts.down_proj"), ("gate_proj", "layers.1.self_attn")])
@torch.no_grad()
def test_round_trip_is_exact(tmp_path: Path, shape: str, targets: tuple[str, ...]) -> None:
    if "kv_b_proj" in targets and not (ALL[shape].is_latent and ALL[shape].n_routed_experts):
        targets = ("v_proj",) if not ALL[shape].is_latent else ("kv_b_proj",)
    targets = tuple(t for t in targets if not t.startswith("layers"))
    ours = adapted(shape, targets)
    peft.save(tmp_path / "adapter", ours, "base")
    loaded = random_model(ALL[shape])
    peft.load(tmp_path / "adapter", loaded)
    assert adapters(loaded).keys() == adapters(ours).keys()
    assert torch.equal(loaded.score(IDS), ours.score(IDS))
    assert [n for n, p in loaded.named_parameters() if p.requires_grad] == [
        n for n, p in ours.named_parameters() if p.requires_grad
    ]


def test_names_are_pefts(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / peft.WEIGHTS)
    prefix = "base_model.model.model.layers"
    assert tensors[f"{prefix}.0.self_attn.kv_b_proj.lora_A.weight"].shape == (3, 16)
    assert tensors[f"{prefix}.2.mlp.experts.7.down_proj.lora_B.weight"].shape == (32, 3)
    config = json.loads((saved / peft.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (3, 7.5, "base")
    assert set(config["target_modules"]) == {
        "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip


def test_a_name_that_others_bear_without_an_adapter_is_written_out(tmp_path: Path) -> None:
    peft.save(
        tmp_path / "adapter", adapted("groups", ("shared_experts.gate_proj", "layers.1.mlp.experts.up_proj")), "b"
    )
    words = json.loads((tmp_path / "adapter" / peft.CONFIG).read_text())["target_modules"]
    shared = [f"model.layers.{i}.mlp.shared_experts.gate_proj" for i in (1, 2)]
    assert set(words) == {*shared, *(f"model.layers.1.mlp.experts.{x}.up_proj" for x in range(8))}


def without_tensor(tensors: dict[str, Any]) -> None:
    del tensors[next(name for name in tensors if "lora_A" in name)]


def without_expert(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if ".experts.3.up_proj." in name]:
        del tensors[name]


def foreign(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.lm_head.weight"] = torch.zeros(2, 2)


def elsewhere(tensors: dict[str, Any]) -> None:
    for letter in "AB":
        tensors[f"base_model.model.model.layers.9.self_attn.o_proj.lora_{letter}.weight"] = torch.zeros(3, 3)


def wrong_shape(tensors: dict[str, Any]) -> None:
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"
    tensors[name] = torch.zeros(3, 3)


def whole_numbers(tensors: dict[str, Any]) -> None:
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"
    tensors[name] = tensors[name].long()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tensor, "only one of the two factors"),
        (without_expert, r"layers\.\d\.mlp\.experts\.up_proj: experts are missing"),
        (foreign, "not a factor of a layer's projection: base_model.model.lm_head.weight"),
        (elsewhere, r"no such projection: layers\.9\.self_attn\.o_proj"),
        (wrong_shape, r"lora_A of layers\.0\.self_attn\.o_proj is \[3, 3\] of torch.float32; .* needs \[3, 80\]"),
        (whole_numbers, "of torch.int64"),
        (dict.clear, "holds no adapter"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(saved: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    tensors = safetensors.torch.load_file(saved / peft.WEIGHTS)
    spoil(tensors)
    safetensors.torch.save_file(tensors, saved / peft.WEIGHTS)
    model = random_model(ALL["groups"])
    with pytest.raises(CheckpointError, match=message):
        peft.load(saved, model)
    assert not adapters(model) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True), ("bias", "all"), ("peft_type", "IA3"), ("rank_pattern", {"q_proj": 4}), ("r", 0),
        ("r", "3"), ("lora_alpha", float("nan")),
        ("modules_to_save", ["lm_head"]), ("init_lora_weights", "pissa"), ("lora_alpha", None), ("r", True),
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
    ],
)  # fmt: skip
def test_kinds_that_are_not_covered(saved: Path, key: str, value: Any) -> None:
    config = json.loads((saved / peft.CONFIG).read_text())
    (saved / peft.CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json has .* as `{key}`"):
        peft.load(saved, random_model(ALL["groups"]))


@torch.no_grad()
def test_rank_stabilised_scale(saved: Path) -> None:
    config = json.loads((saved / peft.CONFIG).read_text())
    (saved / peft.CONFIG).write_text(json.dumps(config | {"use_rslora": True}))
    model = random_model(ALL["groups"])
    peft.load(saved, model)
    assert next(iter(adapters(model).values())).scale == pytest.approx(7.5 / 3**0.5)


def test_files_that_are_none(saved: Path) -> None:
    model = random_model(ALL["groups"])
    with pytest.raises(CheckpointError, match="there is no adapter folder"):
        peft.load(saved / "absent", model)
    data = (saved / peft.WEIGHTS).read_bytes()
    (saved / peft.WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        peft.load(saved, model)
    (saved / peft.WEIGHTS).rename(saved / peft.PICKLE)
    with pytest.raises(CheckpointError, match="a pickle, which is not read"):
        peft.load(saved, model)
    (saved / peft.CONFIG).write_text("[]")
    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        peft.load(saved, model)


def test_a_full_disk_leaves_the_old_adapter(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*intact"):
        peft.save(saved, adapted("groups", ("o_proj",)), "base")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]
