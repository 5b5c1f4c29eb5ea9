"""Models through GGUF and back: every family, exact in F32, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raison.errors import CheckpointError, UserError
from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec
from raison.reasoner import stored_width
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from raison.weights.export import export
from raison.weights.gguf_export import export_gguf
from raison.weights.gguf_file import GgufFile, open_gguf
from raison.weights.gguf_model import GgufTensors, spec_of
from raison.weights.huggingface import check_tensors
from raison.weights.opened import LoadedModel
from raison.weights.place import locate
from raison.weights.source import load, open_model
from raison.weights.survey import survey
from tests.shapes import FAMILY_SHAPES, SHAPES, absorbed_logits, random_ids, random_model

pytest.importorskip("gguf", reason="writing GGUF needs the extra gguf")

TOKENIZER = Tokenizer.build()
IDS = random_ids(40, TOKENIZER.size)
# mscale that differs from mscale_all_dim has no place in a GGUF file; the Llama-3 scaling is that of published models.
UNWRITABLE = ("yarn_ratio", "llama3_scaled")
WRITABLE = {name: shape for name, shape in {**SHAPES, **FAMILY_SHAPES}.items() if name not in UNWRITABLE}


def shape_of(name: str) -> ModelSpec:
    """With a vocabulary, without the MTP modules that GGUF does not carry, and sizes that divide into blocks."""
    spec = replace(WRITABLE[name], vocab_size=1280, num_nextn_predict_layers=0)
    return spec if spec.n_routed_experts else replace(spec, routed_scaling_factor=1.0)


@pytest.mark.parametrize("name", WRITABLE)
def test_round_trip_is_exact_in_f32(tmp_path: Path, name: str) -> None:
    model = random_model(shape_of(name))
    export_gguf(tmp_path / "m.gguf", model, TOKENIZER, "F32", name)
    expanded, packed = (load(tmp_path / "m.gguf", packed=p) for p in (False, True))
    spec = expanded.model.spec
    if name.startswith("llama"):
        assert spec.rope_interleave
    assert replace(spec, rope_interleave=model.spec.rope_interleave, rms_norm_eps=model.spec.rms_norm_eps) == replace(
        model.spec, initializer_range=spec.initializer_range
    )
    with torch.no_grad():
        expected = model.score(IDS)
        assert (expanded.model.score(IDS) - expected).abs().max() < 1e-4
        assert (packed.model.score(IDS) - expected).abs().max() < 1e-4
        assert (absorbed_logits(packed.model, IDS, (30, 10)) - expected).abs().max() < 1e-4
    texts = ("Make 46 from 3, 7, 25.\n", "Wait, 1000 -> 12 × 5 = 60 ✓ 你好 🎉", "<｜User｜></think>")
    assert [expanded.tokenizer.encode(t) for t in texts] == [TOKENIZER.encode(t) for t in texts]


@pytest.mark.parametrize(("quant", "error"), [("F32", 1e-7), ("Q8_0", 0.01), ("Q4_0", 0.15)])
def test_the_absorbed_form_is_the_same_model(tmp_path: Path, quant: Any, error: float) -> None:
    """Every matrix but kv_b_proj is the same; that one is near the trained one, as blocks round, and exact in F32."""
    model = random_model(replace(shape_of("groups"), kv_lora_rank=32, qk_nope_head_dim=32, v_head_dim=32))
    export_gguf(tmp_path / "whole.gguf", model, TOKENIZER, quant, "m")
    export_gguf(tmp_path / "absorbed.gguf", model, TOKENIZER, quant, "m", absorbed=True)
    whole, absorbed = (open_model(tmp_path / f"{form}.gguf") for form in ("whole", "absorbed"))
    assert absorbed.spec == whole.spec and absorbed.tensors.keys() == whole.tensors.keys()
    assert stored_width(absorbed.tensors) == stored_width(whole.tensors)
    trained = model.state_dict()
    for name, matrix in absorbed.tensors.items():
        if name.endswith("kv_b_proj.weight"):
            far = (matrix.expand() - trained[name.removeprefix("model.")]).abs().max() / matrix.expand().abs().max()
            assert far < error, name
        else:
            assert torch.equal(matrix.expand(), whole.tensors[name].expand()), name


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_0"])
def test_quantised_export_is_near(tmp_path: Path, quant: Any) -> None:
    spec = replace(shape_of("qwen2"), hidden_size=64, intermediate_size=96, initializer_range=0.05)
    model = random_model(spec)
    export_gguf(tmp_path / "m.gguf", model, TOKENIZER, quant, "m")
    with torch.no_grad():
        expected, found = model.score(IDS), load(tmp_path / "m.gguf").model.score(IDS)
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert error < {"F16": 2e-3, "Q8_0": 0.03, "Q4_0": 0.4}[quant]
    assert survey(tmp_path / "m.gguf").stored[quant] > 10


def test_llama_3_scaling_is_recognised(tmp_path: Path) -> None:
    published = Llama3Spec(8.0, 1.0, 4.0, 8192)
    spec = replace(FAMILY_SHAPES["llama"], vocab_size=1280, rope_scaling=published, rope_theta=5e5, head_dim=64)
    model = random_model(spec)
    export_gguf(tmp_path / "m.gguf", model, TOKENIZER, "F32", "m")
    loaded = load(tmp_path / "m.gguf").model
    assert loaded.spec.rope_scaling == published
    with torch.no_grad():
        assert (loaded.score(IDS) - model.score(IDS)).abs().max() < 1e-4


def test_from_gguf_to_a_folder(tmp_path: Path) -> None:
    """Llama's rows go back into the order of halves."""
    model = random_model(shape_of("llama"))
    export_gguf(tmp_path / "m.gguf", model, TOKENIZER, "F32", "m")
    export(load(tmp_path / "m.gguf"), tmp_path / "hf", "hf", "F32", "m")
    again = folder.load(tmp_path / "hf")
    assert not again.model.spec.rope_interleave
    with torch.no_grad():
        assert (again.model.score(IDS) - model.score(IDS)).abs().max() < 1e-4


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    odd = random_model(replace(shape_of("llama"), qk_norm=True, o_bias=True))
    with pytest.raises(UserError, match="no published architecture has this shape"):
        export_gguf(tmp_path / "m.gguf", odd, TOKENIZER, "F32", "m")
    ratio = random_model(replace(shape_of("v2"), rope_scaling=YarnSpec(4.0, 64, mscale=1.3, mscale_all_dim=0.7)))
    with pytest.raises(UserError, match="GGUF has no place for an mscale"):
        export_gguf(tmp_path / "m.gguf", ratio, TOKENIZER, "F32", "m")
    loaded = LoadedModel(random_model(shape_of("llama")), TOKENIZER, {})
    with pytest.raises(UserError, match="Q4_0 needs --to gguf"):
        export(loaded, tmp_path / "hf", "hf", "Q4_0", "m")
    with pytest.raises(UserError, match="not BF16"):
        export(loaded, tmp_path / "m.gguf", "gguf", "BF16", "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"general.architecture": "gpt2"}, "of the architecture 'gpt2'; this version reads llama"),
        ({"llama.block_count": None}, "lacks the metadata `llama.block_count`"),
        ({"llama.block_count": "2"}, "has '2' as `llama.block_count`"),
        ({"llama.attention.head_count": [6, 3]}, "it must be one number"),
        ({"llama.attention.head_count": 0}, "describes no model: num_attention_heads is 0"),
        ({"llama.attention.head_count": 4}, "cannot share"),
        ({"llama.rope.dimension_count": 4}, "rotates a part of its heads"),
        ({"llama.rope.scaling.type": "linear"}, "scales RoPE by 'linear'"),
        ({"llama.embedding_length": 1 << 62}, "wrong|impossible"),
        ({"llama.block_count": 10**9}, "1000000000 layers"),
    ],
)
def test_metadata_that_describes_no_model(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    model = random_model(replace(shape_of("llama"), num_key_value_heads=3))
    export_gguf(tmp_path / "m.gguf", model, TOKENIZER, "F32", "m")
    file = open_gguf(tmp_path / "m.gguf")
    metadata = {key: value for key, value in (file.metadata | changes).items() if value is not None}
    with pytest.raises(CheckpointError, match=said):
        checked(GgufFile(file.path, file.version, metadata, file.tensors))


def checked(file: GgufFile) -> None:
    spec = spec_of(file)
    check_tensors(spec, GgufTensors(file, spec))


def test_names_that_lead_nowhere() -> None:
    assert locate(Path("smollm2")) == Path("smollm2")
    with pytest.raises(UserError, match=r"huggingface_hub|could not be fetched"):
        locate("no-such-owner/no-such-model-at-all")


def test_survey_tells_what_would_be_loaded(tmp_path: Path) -> None:
    model = random_model(shape_of("qwen3_moe"))
    folder.save(tmp_path / "hf", model, TOKENIZER, {}, "bf16")
    found = survey(tmp_path / "hf")
    assert (found.family, found.opened.form, found.packed) == ("Qwen3MoeForCausalLM", "Hugging Face folder", False)
    assert found.stored["bfloat16"] == sum(found.stored.values())
    spec = found.opened.spec
    assert spec == replace(model.spec, initializer_range=spec.initializer_range)
