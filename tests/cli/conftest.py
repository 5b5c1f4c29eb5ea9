"""A model folder with random weights, small enough to be asked in a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raison.model.spec import preset
from raison.model.transformer import Transformer, initialise
from raison.text.tokenizer import Tokenizer
from raison.weights import folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    spec = replace(preset("nano"), num_hidden_layers=2, hidden_size=48, n_routed_experts=4, n_group=1)
    path: Path = tmp_path_factory.mktemp("models") / "random"
    folder.save(path, initialise(Transformer(spec), 0), Tokenizer.build(), {"task": "countdown", "recipe": "none"})
    return str(path)


@pytest.fixture(autouse=True)
def _quiet_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings of a command outlive its test."""
    monkeypatch.setattr("raison.cli.session.steady_memory", lambda: True)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
