"""Rows as a file that nobody here has seen could have them: each is predicted, or refused with a clear reason."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import pytest

from raison.plan import serving_rows, training_rows
from raison.plan.chips import chip_in
from raison.plan.models import described_model, find_model
from raison.plan.rows import read_rows
from raison.plan.validate import Outcome, validate

FILE = Path(__file__).parent / "strange_rows.csv"
"""Chips, models, spellings and units of many hands; values are of the right order, not all of them measured."""
REFUSED = {
    "no-chip": 'the hardware "Maia 200" is not known',
    "no-hardware": "no hardware is named",
    "no-model": 'there is no model "Behemoth"',
    "no-tokens": "how many tokens it was trained on",
}
OUT_OF_SCOPE = {"no-value": "no value", "accuracy": "pass@1"}
ORDER = 5.0
"""How far a prediction of these may be off, as a factor: units and chips mistaken for each other are off by more."""


def outcomes() -> list[Outcome]:
    return list(validate(read_rows(FILE), (training_rows.predict, serving_rows.predict)).outcomes)


@pytest.mark.parametrize("outcome", outcomes(), ids=lambda outcome: outcome.row.id)
def test_a_strange_row_is_predicted_or_refused_with_a_reason(outcome: Outcome) -> None:
    said = REFUSED.get(outcome.row.id) or OUT_OF_SCOPE.get(outcome.row.id)
    if said:
        assert outcome.prediction is None and said in outcome.reason
        assert outcome.scope == (outcome.row.id in REFUSED)
        return
    assert outcome.prediction is not None, outcome.reason
    value = outcome.prediction.value
    assert isfinite(value.high) and 1 / ORDER < value.mid / (outcome.row.value or 0) < ORDER


@pytest.mark.parametrize(
    ("chip", "spellings"),
    [
        ("H100 SXM", ("H100 SXM5 80GB", "NVIDIA H100 80GB HBM3", "H100-SXM", "8x H100", "DGX H100", "HGX-H100")),
        ("H200 SXM", ("8xH200", "H200-SXM-141GB", "NVIDIA H200")),
        ("H20 141GB", ("8x NVIDIA H20 141GB", "H20-3e")),
        ("B200 SXM", ("B200-SXM-180GB", "HGX B200")),
        ("GB200 NVL72 (per GPU)", ("NVIDIA GB200", "GB200-NVL72")),
        ("A100 PCIe 80GB", ("A100 80GB PCIe", "A100 PCIe")),
        ("MI300X", ("AMD Instinct MI300X 192GB HBM3", "8xMI300X")),
        ("TPU v5p", ("TPUv5p", "Cloud TPU v5p-128")),
        ("Trainium2", ("trn2.48xlarge", "AWS Trainium2")),
        ("Ascend 910C", ("CloudMatrix384", "Huawei Ascend 910C")),
        ("Xeon 6980P 2S (MRDIMM)", ("Xeon 6 6980P", "Intel Xeon 6980P")),
        ("Xeon 4th generation 8-channel", ("Xeon Platinum 8480+", "Intel Xeon 8480")),
        ("Jetson Orin Nano 8GB", ("Jetson Orin Nano",)),
    ],
)
def test_spellings_are_one_chip(chip: str, spellings: tuple[str, ...]) -> None:
    for spelling in spellings:
        found = chip_in(spelling)
        assert found is not None and found.name == chip, spelling


@pytest.mark.parametrize(
    ("model", "spellings"),
    [
        (
            "DeepSeek-R1",
            ("DeepSeek-R1-0528", "deepseek-ai/DeepSeek-R1", "nvidia/DeepSeek-R1-FP4", "DeepSeek-V3.1"),
        ),
        ("Llama-3.1-70B", ("Llama-3.1-70B-Instruct-FP8", "meta-llama/Llama-3.3-70B-Instruct", "llama3.1-70b")),
        ("Qwen2.5-32B", ("DeepSeek-R1-Distill-Qwen-32B", "QwQ-32B")),
        ("Llama-4-Scout", ("Llama-4-Scout-17B-16E-Instruct",)),
        ("Mixtral-8x7B", ("Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b")),
        ("GLM-4.5-Air", ("zai-org/GLM-4.5-Air-FP8",)),
    ],
)
def test_spellings_are_one_model(model: str, spellings: tuple[str, ...]) -> None:
    for spelling in spellings:
        assert find_model(spelling).name == model, spelling


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("Gemma-2-27b-it", 27e9, 27e9),
        ("ERNIE-4.5-300B-A47B", 300e9, 47e9),
        ("SmolLM2-1.7B", 1.7e9, 1.7e9),
        ("OPT-350M", 350e6, 350e6),
    ],
)
def test_a_row_s_model_that_nobody_described_has_the_size_of_its_name(name: str, total: float, active: float) -> None:
    shape = described_model(name)
    assert (shape.total, shape.active) == (total, active) and shape.assumed
    with pytest.raises(Exception, match="there is no model"):  # what a user types may be a slip
        find_model(name)
