"""`raison bench engine` on a small model: a table for every load, ratios of the best, memory of a process of its own.

Rivals themselves do not run here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from raison import hardware
from raison.bench import engine_speed, rivals
from raison.bench.engine_speed import Table, ratios
from raison.bench.loads import Load, decoding, prefill
from raison.bench.random_file import random_file
from raison.bench.resident import resident
from raison.bench.rival import Timed, is_shared
from raison.bench.rivals import OURS, Setting, settings_of
from raison.bench.shares import parts, shares
from raison.bench.speed_plots import write_plot
from raison.cli.entry import main
from raison.errors import UserError
from raison.model import cost
from raison.model.spec import preset
from raison.reasoner import SHIPPED
from raison.text.tokenizer import Tokenizer
from raison.weights import source

TOKENIZER = Tokenizer.build()
LOAD = Load((1, 3), 7, 5, 1, 1.0)
SMALL = [
    "--streams",
    "1,3",
    "--tokens",
    "5",
    "--prompt",
    "7",
    "--rounds",
    "1",
    "--prefill",
    "40,2000",
    "--threads",
    "1",
]


@pytest.fixture(autouse=True)
def _forget_models() -> Iterator[None]:
    yield
    rivals.loaded.cache_clear()


def test_every_load_has_its_table_and_absent_rivals_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("raison.bench.rivals.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(engine_speed, "resident", lambda setting, work: 2**20 * work.streams)
    plot = tmp_path / "speed.svg"
    options = ["--widths", "fp32,q8", "--against", "llama.cpp,vllm", "--plot", str(plot), "--json"]
    assert main(["bench", "engine", *SMALL, *options]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert set(found["loads"]) == {"shared", "different", "prefill"} and found["main"] == "shared"
    assert found["rates"] == found["loads"]["shared"]["rates"] != found["loads"]["different"]["rates"]
    for kind, columns in (("shared", {"1", "3"}), ("different", {"1", "3"}), ("prefill", {"40"})):
        for table in ("rates", "first_token_seconds"):
            rows = found["loads"][kind][table]
            assert set(rows) == {"raison fp32", "raison q8"}
            assert all(set(row) == columns and min(row.values()) > 0 for row in rows.values()), (kind, table)
    assert "prompts of 2000 are left out" in told.err
    assert all(set(found[f"share_of_{what}"]) == {"1", "3"} for what in ("bandwidth", "int8_peak", "floor"))
    assert found["absent"] == ["llama.cpp", "vllm"] and found["ratios"] == {}
    assert found["memory_bytes"] == {"raison fp32": 3 * 2**20, "raison q8": 3 * 2**20}
    assert found["perplexity"]["raison fp32"] == pytest.approx(found["perplexity"]["raison q8"], rel=0.2)
    assert plot.read_text().startswith("<svg") and "prefers-color-scheme:dark" in plot.read_text()


def test_ratios_are_of_our_best_over_each_rivals_best() -> None:
    rates = {
        "raison q4": {"1": 30.0, "8": 80.0}, "raison q8": {"1": 20.0, "8": 90.0},
        "llama.cpp Q4_0": {"1": 10.0, "8": 15.0}, "llama.cpp Q8_0 absorbed": {"1": 5.0, "8": 45.0},
        "openvino padded": {"1": 60.0, "8": 9.0},
    }  # fmt: skip
    assert ratios(rates) == {"llama.cpp": {"1": 3.0, "8": 2.0}, "openvino": {"1": 0.5, "8": 10.0}}


def test_the_first_token_of_each_stream_is_no_part_of_decoding() -> None:
    table = Table()
    table.add("raison q4", 8, [Timed(tokens=80, seconds=5.0, first_seconds=1.0)])
    table.add("raison q4", 4, [Timed(tokens=4, seconds=1.0, first_seconds=1.0)])
    table.add("vllm", 8, [Timed(tokens=80, seconds=5.0, first_seconds=float("nan"))])
    assert table.rates["raison q4"]["8"] == 16 and table.later_rates == {"raison q4": {"8": 18.0}}


def test_shares_count_each_weight_once_a_step_and_the_experts_that_rows_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that equal the floor; with 32 streams experts are bound by bandwidth, what is shared by products."""
    spec = preset("base-1b")
    tensors = {
        "model.embed_tokens.weight": SimpleNamespace(nbytes=7_000_000),
        "lm_head.weight": SimpleNamespace(nbytes=50_000_000),
        "model.layers.1.mlp.experts.0.up_proj.weight": SimpleNamespace(nbytes=640_000_000),
    }
    opened: Any = SimpleNamespace(spec=spec, tensors=tensors)
    machine = SimpleNamespace(read_gb_per_second=50.0, fp32_gflops=100.0, int8_gops=2000.0)
    monkeypatch.setattr(hardware, "probe", lambda threads, refresh: machine)
    rest, experts = parts(opened, 1)
    assert rest.read == 50_000_000 and experts.read == pytest.approx(60_000_000)
    assert rest.operations + experts.operations == cost.matmul_flops(spec)
    assert experts.operations == 2 * 11 * 6 * 3 * 1024 * 416
    reached = 640e6 * (1 - (1 - 6 / 64) ** 32)
    floor = 32 * rest.operations / 2e12 + reached / 50e9
    found = shares(opened, {"1": 50e9 / 110e6, "32": 32 / floor}, 2)
    assert found["share_of_bandwidth"]["1"] == pytest.approx(1) == found["share_of_floor"]["1"]
    assert found["share_of_floor"]["32"] == pytest.approx(1)
    assert found["share_of_int8_peak"]["32"] == pytest.approx(32 / floor * cost.matmul_flops(spec) / 2e12)


def test_prompts_have_their_length_and_are_shared_or_differ() -> None:
    shared, each = (decoding(LOAD, kind, 3, TOKENIZER) for kind in ("shared", "different"))  # type: ignore[arg-type]
    assert is_shared(shared.prompts) and shared.streams == 3 and shared.context == 12
    assert len(set(each.prompts)) == 3 and not is_shared(each.prompts)
    assert {len(prompt) for prompt in (*shared.prompts, *each.prompts)} == {7}
    (one,) = prefill(LOAD, 4096, TOKENIZER).prompts
    assert len(one) == 4096


def test_memory_is_measured_in_a_process_of_its_own_and_grows_with_the_cache() -> None:
    """Memory of a fresh process hardly varies: 64 streams of 300 tokens take tens of MB of cache more than one."""
    setting = Setting(OURS, "fp32", str(SHIPPED), 1)
    one, many = (resident(setting, decoding(Load((n,), 300, 2, 1, 0.0), "different", n, TOKENIZER)) for n in (1, 64))
    assert 2**20 < one < 2**28
    assert many > one + 10 * 2**20


def test_memory_that_cannot_be_measured_says_why() -> None:
    with pytest.raises(UserError, match="of raison fp32 could not be measured"):
        resident(Setting(OURS, "fp32", "/nowhere", 1), decoding(LOAD, "shared", 1, TOKENIZER))


def test_a_random_file_of_latent_attention_has_its_absorbed_form_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf", reason="writing GGUF needs the extra gguf")
    path = random_file("nano", tmp_path)
    assert source.open_model(path).spec == source.open_model(rivals.absorbed_beside(path)).spec
    peer = SimpleNamespace(QUANTS={"Q8_0": 7}, quantised=lambda file, quant, folder: folder / f"{file.stem}.{quant}")
    monkeypatch.setattr(rivals, "import_module", lambda name: peer)
    monkeypatch.setattr("raison.bench.rivals.importlib.util.find_spec", lambda name: name)
    found, _ = settings_of(str(path), ["llama.cpp"], 2, tmp_path, lambda text: None)
    names = ["llama.cpp as it is", "llama.cpp Q8_0", "llama.cpp as it is absorbed", "llama.cpp Q8_0 absorbed"]
    assert [setting.name for setting in found] == names
    assert len({setting.path for setting in found}) == 4


def test_vllm_is_asked_by_its_documented_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in: no vLLM runs here."""
    asked: list[Any] = []

    class Llm:
        def __init__(self, **options: Any) -> None:
            asked.append(options)

        def generate(self, prompts: list[Any], params: Any, use_tqdm: bool) -> list[Any]:
            asked.append((prompts, params))
            one = SimpleNamespace(token_ids=[1] * params.max_tokens)
            return [SimpleNamespace(outputs=[one] * params.n) for _ in prompts]

    stand_in: Any = ModuleType("vllm")
    stand_in.LLM, stand_in.TokensPrompt = Llm, dict
    stand_in.SamplingParams = lambda **options: SimpleNamespace(**options)
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    monkeypatch.delitem(sys.modules, "raison.bench.vllm_peer", raising=False)
    runner = Setting("vllm", "bfloat16", "folder", 2).make(3, 12)
    prompt = (4, 5, 6)
    shared = runner.generate((prompt,) * 3, 5, 1.0)
    assert shared.tokens == 15 and len(asked[1][0]) == 1 and asked[1][1].n == 3
    each = runner.generate(((1, 2), (2, 3)), 5, 1.0)
    assert each.tokens == 10 and len(asked[2][0]) == 2 and asked[2][1].ignore_eos
    assert asked[0]["max_num_seqs"] == 3 and asked[0]["dtype"] == "bfloat16"


def test_a_plot_has_a_line_for_each_runner(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    rates = {"raison q4": {"1": 30.0, "8": 80.0}, "llama.cpp Q4_0": {"1": 10.0, "8": 15.0}}
    result = {"loads": {"shared": {"rates": rates}, "prefill": {"rates": {}}}, "perplexity": {"raison q4": 22.5}}
    write_plot(result, tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    for part in ("raison q4", "llama.cpp Q4_0", "one prompt for all streams", "22.50"):
        assert part in text, part
    assert "a prompt for each stream" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--streams", "1,x"], "--streams has 'x'"),
        (["--tokens", "0"], "--tokens has '0'"),
        (["--prefill", ""], "--prefill has ''"),
        (["--against", "lama.cpp"], 'did you mean "llama.cpp"'),
        (["--widths", "q5"], 'no width "q5"'),
        (["--loads", "shred"], 'did you mean "shared"'),
        (["--loads", "shared,shared"], "there twice"),
        (["--shape", "nano", "smollm2"], "leave out smollm2"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "engine", *arguments]) == 2
    assert message in capsys.readouterr().err
