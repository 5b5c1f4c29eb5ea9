"""Names that published figures use find the chip and the model that are meant; anchors are exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raison.errors import UserError
from raison.hardware import Machine
from raison.plan import chips as catalogue
from raison.plan.chips import chip_in, chip_of, count_in, find_chip, from_memory_words
from raison.plan.models import find_model, known_model, typical
from raison.plan.precision import WIDTHS, width_in


@pytest.mark.parametrize(
    ("words", "name", "count"),
    [
        ("8xH200", "H200 SXM", 8), ("H200-SXM5-141GB", "H200 SXM", None), ("b200_sxm", "B200 SXM", None),
        ("NVIDIA GB300 NVL72", "GB300 NVL72 (per GPU)", None), ("AMD Instinct MI300X 192GB HBM3", "MI300X", None),
        ("SambaNova SN40L", "SN40L (per RDU socket)", None), ("2x RTX 4090", "RTX 4090", 2),
        ("RTX A6000", "RTX A6000", None),
        ("2x Xeon Gold 6454S (8xDDR5-4800/socket) + RTX 4090D 24GB", "Xeon Gold 6454S 1S", 2),
        ("Mac Studio M3 Ultra 512GB", "M3 Ultra (512GB)", None), ("Groq LPU v1", "LPU v1 (GroqChip)", None),
        ("RX 7900 XTX", "RX 7900 XTX", None), ("A100 PCIe 80GB", "A100 PCIe 80GB", None),
        ("H100 PCIe 80GB", "H100 PCIe", None),
    ],
)  # fmt: skip
def test_hardware_is_found_as_it_is_written(words: str, name: str, count: int | None) -> None:
    chip = chip_in(words)
    assert chip is not None and chip.name == name
    assert count_in(words) == count


def test_an_unknown_chip_is_an_error_that_names_near_ones() -> None:
    with pytest.raises(UserError, match=r"H2OO.*there is .*h200"):
        find_chip("H2OO")
    with pytest.raises(UserError, match="there is h100, mi300x, m3 ultra and others"):
        find_chip("nosuch")
    assert chip_in("an abacus") is None


def test_a_cpu_may_be_described_by_its_memory() -> None:
    chip = from_memory_words("some board, 12x DDR5-5600")
    assert chip is not None and chip.mem_gbps == pytest.approx(12 * 5600 * 8 / 1e3)


def test_sram_machines_hold_weights_on_the_chip() -> None:
    groq = find_chip("groq")
    assert groq.mem_gb == pytest.approx(0.23) and groq.mem_gbps == pytest.approx(80_000)


def test_every_chip_of_ours_has_a_source_and_memory() -> None:
    for chip in catalogue.chips():
        assert chip.source and chip.mem_gbps, chip.name


def test_prices_are_told_apart_by_who_pays() -> None:
    h100 = find_chip("H100")
    assert h100.price("hyperscaler") == 1.30 and h100.usd_per_hour == 1.30 and len(h100.prices) == 3
    assert find_chip("M3 Ultra").usd_per_hour is None, "a machine's price is none of an hour"


def test_a_users_own_chip_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAISON_HOME", str(tmp_path))
    (tmp_path / "chips.csv").write_text("name,kind,mem_gb,mem_gbps,peak_dense_bf16_tflops\nH100,gpu,96,4000,1000\n")
    for cached in (catalogue.chips, catalogue._aliases):
        cached.cache_clear()
    try:
        assert find_chip("h100").mem_gbps == 4000
        (tmp_path / "chips.csv").write_text("name,kind,mem_gb,mem_gbps\nmine,toaster,1,1\n")
        for cached in (catalogue.chips, catalogue._aliases):
            cached.cache_clear()
        with pytest.raises(UserError, match=r"line 2.*kind among"):
            find_chip("mine")
    finally:
        monkeypatch.undo()
        for cached in (catalogue.chips, catalogue._aliases):
            cached.cache_clear()


def test_a_probed_machine_is_a_chip() -> None:
    machine = Machine("a CPU", 2, (), 25.0, 2, "2.13", fp32_gflops=200, bf16_gflops=300, read_gb_per_second=23)
    chip = chip_of(machine)
    assert (chip.kind, chip.mem_gbps, chip.peak("gguf")) == ("this", 23, pytest.approx(0.8))


def test_the_anchors_of_r1_are_exact() -> None:
    r1 = find_model("r1-671b")
    assert r1.total == 671_026_419_200
    assert r1.cache_numbers * WIDTHS["bf16"].cache == 70_272
    assert find_model("DeepSeek-V3/R1").total == r1.total


@pytest.mark.parametrize(
    ("words", "total", "active"),
    [
        ("meta-llama/Llama-3.1-70B", 70.55e9, 69.5e9), ("openai/gpt-oss-120b", 116.8e9, 4.5e9),
        ("Mixtral-8x7B", 46.7e9, 12.8e9), ("DeepSeek-R1-Distill-Qwen-14B", 14.8e9, 14.0e9),
        ("moonshotai/Kimi-K2.5", 1026e9, 31.7e9), ("Llama-4-Maverick", 400e9, 16.2e9),
        ("Qwen3-235B-A22B", 235e9, 21.6e9),
    ],
)  # fmt: skip
def test_published_models_have_their_published_sizes(words: str, total: float, active: float) -> None:
    shape = known_model(words)
    assert shape is not None
    assert shape.total == pytest.approx(total, rel=0.01) and shape.active == pytest.approx(active, rel=0.03)


def test_a_model_that_nobody_described_is_typical_and_says_so() -> None:
    shape = find_model("Nobody's-Model", 120e9, 12e9)
    assert shape.assumed and shape.active == 12e9 and shape.experts > shape.experts_per_token
    assert find_model("671e9/37e9").total == 671e9
    dense = typical("x", 8e9, 8e9)
    assert dense.layers == 32 and not dense.routed
    with pytest.raises(UserError, match="there is no model"):
        find_model("Nobody's-Model")


@pytest.mark.parametrize(
    ("name", "words"),
    [("0/0", "both above 0"), ("5b/0", "both above 0"), ("5b/7b", "7e.09 active of 5e.09"), ("1..2b", "no model")],
)
def test_sizes_that_cannot_be_are_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_model(name)


def test_a_size_that_nobody_looked_at_is_said_to_be_one() -> None:
    far, near = (find_model(name).assumed[0] for name in ("1e6", "8b"))
    assert far.endswith("nearest size that was looked at") and near.endswith("as is typical")


def test_a_known_name_with_other_parameters_is_another_model() -> None:
    assert find_model("Llama-3.1-70B", 8e9, 8e9).total == 8e9


def test_a_config_json_gives_its_shape(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_model(str(tmp_path)).total == find_model("llama-3.1-8b").total
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"not a model's config\.json"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "name"),
    [("nvfp4", "fp4"), ("fp8 gemm/dispatch, bf16 MLA/combine", "fp8"), ("q4_k_m (ollama)", "q4_k_m"), ("FP16", "bf16"),
     ("int8-ish", "int8"), ("bf16 attn + fp8", "fp8"), ("mxfp4", "mxfp4"), ("AWQ", "int4"), ("Q8_0", "q8_0")],
)  # fmt: skip
def test_the_narrowest_width_named_is_the_weights(words: str, name: str) -> None:
    width = width_in(words)
    assert width is not None and width.name == name
    assert width_in("fast") is None
