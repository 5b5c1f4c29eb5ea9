"""Names and config of DeepSeek-V3's published form, against counts and a listing of the real checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from raison.errors import CheckpointError
from raison.model.packed import Mapped
from raison.model.spec import PRESETS, R1_671B, YarnSpec
from raison.model.transformer import Transformer
from raison.weights.families import config_from_spec, spec_from_config
from raison.weights.huggingface import export_tensors, import_tensors, named_views
from tests.shapes import FAMILY_SHAPES, SHAPES, SMALL, absorbed_logits, random_ids, random_model

ALL_SHAPES = {**SHAPES, **FAMILY_SHAPES}


def mapped(tensors: dict[str, Tensor]) -> dict[str, Mapped]:
    return {name: Mapped(tensor) for name, tensor in tensors.items()}


def config(**changes: Any) -> dict[str, Any]:
    written = config_from_spec(SMALL, "float32")
    return {**json.loads(json.dumps(written)), **changes}


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_packed_weights_give_the_same_logits(shape: str) -> None:
    model = random_model(ALL_SHAPES[shape])
    again = import_tensors(model.spec, mapped(export_tensors(model)), packed=True)
    expanded = sum(p.numel() for p in again.parameters())
    assert expanded < sum(p.numel() for p in model.parameters()) / 2
    ids = random_ids(20)
    with torch.no_grad():
        assert torch.allclose(again.score(ids), model.score(ids), atol=1e-5)
        assert torch.allclose(absorbed_logits(again, ids, (15, 5)), model.score(ids), atol=1e-4)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_round_trip_is_bit_identical(shape: str) -> None:
    model = random_model(ALL_SHAPES[shape])
    again = import_tensors(model.spec, mapped(export_tensors(model)))
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], t) for name, t in model.state_dict().items())
    assert again.score(random_ids(5)).requires_grad


def test_names_and_shapes_of_the_real_checkpoint() -> None:
    """91,991 tensors, of which FP8 scales (one for each quantised matrix) and the two copies are not ours to write."""
    with torch.device("meta"):
        views = dict(named_views(Transformer(R1_671B)))
    matrices = ("_proj.weight", "_proj_with_mqa.weight")
    scales = sum(name.endswith(matrices) and not name.endswith("eh_proj.weight") for name in views)
    assert len(views) + scales + 2 == 91_991
    listing = {
        "model.embed_tokens.weight": (129280, 7168), "lm_head.weight": (129280, 7168), "model.norm.weight": (7168,),
        "model.layers.0.self_attn.q_b_proj.weight": (24576, 1536), "model.layers.2.mlp.up_proj.weight": (18432, 7168),
        "model.layers.5.self_attn.kv_a_proj_with_mqa.weight": (576, 7168),
        "model.layers.5.self_attn.kv_b_proj.weight": (32768, 512), "model.layers.3.mlp.gate.weight": (256, 7168),
        "model.layers.3.mlp.gate.e_score_correction_bias": (256,),
        "model.layers.60.mlp.experts.255.gate_proj.weight": (2048, 7168),
        "model.layers.60.mlp.experts.0.down_proj.weight": (7168, 2048),
        "model.layers.61.mlp.shared_experts.up_proj.weight": (2048, 7168), "model.layers.61.enorm.weight": (7168,),
        "model.layers.61.eh_proj.weight": (7168, 14336), "model.layers.61.shared_head.norm.weight": (7168,),
    }  # fmt: skip
    assert {name: tuple(views[name].shape) for name in listing} == listing


def test_gate_stands_before_up_and_experts_in_order() -> None:
    model = random_model(SMALL)
    tensors, inner = export_tensors(model), SMALL.moe_intermediate_size
    stacked = model.state_dict()["layers.1.mlp.experts.gate_up_proj"]
    assert torch.equal(tensors["model.layers.1.mlp.experts.6.gate_proj.weight"], stacked[6, :inner])
    assert torch.equal(tensors["model.layers.1.mlp.experts.6.up_proj.weight"], stacked[6, inner:])


def test_bf16_rounds_all_but_the_router_bias() -> None:
    tensors = export_tensors(random_model(SMALL), torch.bfloat16)
    kept = {name for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    assert kept == {name for name in tensors if name.endswith("e_score_correction_bias")}
    assert len(kept) == 3


def without(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.experts.3.up_proj.weight"], tensors["model.norm.weight"]


def with_more(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.9.mlp.gate.weight"] = torch.zeros(2)


def transposed(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.mlp.gate_proj.weight"] = tensors["model.layers.0.mlp.gate_proj.weight"].T


def other_copy(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.3.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] + 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without, r"2 tensors are missing: model\.layers\.1\.mlp\.experts\.3\.up_proj\.weight, model\.norm\.weight$"),
        (with_more, r"1 tensors are left over: model\.layers\.9\.mlp\.gate\.weight$"),
        (transposed, r"model\.layers\.0\.mlp\.gate_proj\.weight is \[32, 48\] and not \[48, 32\]"),
        (other_copy, r"model\.layers\.3\.embed_tokens\.weight must be a copy of model\.embed_tokens\.weight"),
    ],
)
def test_nothing_that_does_not_fit_goes_unsaid(damage: Any, said: str) -> None:
    tensors = export_tensors(random_model(SMALL))
    damage(tensors)
    with pytest.raises(CheckpointError, match=said):
        import_tensors(SMALL, mapped(tensors))


def test_a_long_list_is_counted() -> None:
    with pytest.raises(
        CheckpointError,
        match=r"tensors are missing: .* and \d+ more; 50 tensors are left over: stranger.* and 42 more$",
    ):
        import_tensors(SMALL, mapped({f"stranger.{i}": torch.zeros(1) for i in range(50)}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "1000000000 layers and 8 experts"),
        ({"n_routed_experts": 4 * 10**9}, "3 layers and 4000000000 experts"),
        ({"hidden_size": 10**12}, "impossible size"),
    ],
)
def test_sizes_out_of_all_proportion(changes: dict[str, int], said: str) -> None:
    """Said at once, before memory or hours are spent on it."""
    with pytest.raises(CheckpointError, match=said):
        import_tensors(replace(SMALL, **changes), mapped(export_tensors(random_model(SMALL))))


@pytest.mark.parametrize("shape", ["groups", "tied"])
def test_copies_of_embedding_and_head_are_accepted(shape: str) -> None:
    model = random_model(SHAPES[shape])
    tensors = export_tensors(model)
    head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
    copies = {
        "model.layers.3.embed_tokens.weight": tensors["model.embed_tokens.weight"].clone(),
        "model.layers.3.shared_head.head.weight": head.clone(), "lm_head.weight": head.clone(),
    }  # fmt: skip
    again = import_tensors(model.spec, mapped({**tensors, **copies}))
    assert torch.equal(again.score([1, 2]), model.score([1, 2]))


@pytest.mark.parametrize("spec", [*ALL_SHAPES.values(), *PRESETS.values()], ids=[*ALL_SHAPES, *PRESETS])
def test_config_round_trip(spec: Any) -> None:
    assert spec_from_config(json.loads(json.dumps(config_from_spec(spec, "float32")))) == spec


def test_config_of_the_real_checkpoint() -> None:
    """As published, fields that no ModelSpec has included (but without its FP8 section)."""
    published = {
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
        "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432,
        "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
        "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
        "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "pretraining_tp": 1,
        "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                         "original_max_position_embeddings": 4096, "type": "yarn"},
        "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": True,
        "tie_word_embeddings": False, "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
        "use_cache": True, "v_head_dim": 128, "vocab_size": 129280,
    }  # fmt: skip
    assert spec_from_config(published) == R1_671B


def test_config_in_the_form_of_transformers_5() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}
    written = config(rope_parameters=yarn)
    del written["rope_scaling"], written["rope_theta"]
    expected = replace(SMALL, rope_theta=500.0, rope_scaling=YarnSpec(4.0, 64, mscale_all_dim=0.0))
    assert spec_from_config(written) == expected
    assert expected.softmax_scale == SMALL.softmax_scale


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel is not known; this version reads Deepseek"),
        ({"architectures": None, "model_type": "gpt2"}, "gpt2 is not known"),
        ({"architectures": None, "model_type": None}, "lacks `architectures`"),
        ({"hidden_size": "32"}, "'32' as `hidden_size`; it must be of type int"),
        ({"n_group": True}, "True as `n_group`"),
        ({"hidden_size": -4}, "describes no model: hidden_size is -4"),
        ({"scoring_func": "softmax"}, "`scoring_func` to 'softmax'; this version has only 'sigmoid'"),
        ({"num_key_value_heads": 2}, "`num_key_value_heads` to 2"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised by awq"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 128]}},
            r"FP8 in blocks of 128 x 128",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "scales RoPE by 'linear'"),
        ({"rope_scaling": {"type": "yarn"}}, "lacks `factor`"),
        ({"rope_scaling": 4}, "4 as `rope_scaling`"),
    ],
)
def test_config_that_describes_no_model_of_ours(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        spec_from_config(config(**changes))


@pytest.mark.parametrize("field", ["kv_lora_rank", "q_lora_rank", "rope_theta", "routed_scaling_factor"])
def test_a_missing_field_is_named(field: str) -> None:
    written = config()
    del written[field]
    with pytest.raises(CheckpointError, match=f"lacks `{field}`"):
        spec_from_config(written)
