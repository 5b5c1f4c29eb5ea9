"""`raison export`: what it writes is loaded again, and what a form has no place for is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raison.cli import main
from raison.weights.source import load

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("to", "modules"), [("gguf", 0), ("hf", 1)])
def test_a_model_in_another_form(to: str, modules: int, model_folder: str, tmp_path: Path, capsys: Capture) -> None:
    """A GGUF file has no place for the MTP module, and the command says that it is gone."""
    if to == "gguf":
        pytest.importorskip("gguf", reason="writing GGUF needs the extra gguf")
    out = tmp_path / f"model.{to}"
    assert main(["export", model_folder, "--to", to, "--out", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["path"] == str(out) and shown["bytes"] > 0
    assert [note for note in shown["notes"] if "MTP" in note] == (
        [] if modules else ["the MTP module is left out: llama.cpp runs the model without it"]
    )
    assert load(str(out)).model.spec.num_nextn_predict_layers == modules


def test_mistakes_are_one_line(model_folder: str, tmp_path: Path, capsys: Capture) -> None:
    nothing = str(tmp_path / "nothing")
    for source, quant, says in ((model_folder, "Q8_0", "needs --to gguf"), (nothing, "F32", "nothing")):
        assert main(["export", source, "--to", "hf", "--quant", quant, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("raison: ") and says in error and error.count("\n") == 1
