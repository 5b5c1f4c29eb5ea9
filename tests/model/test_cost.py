"""Cost arithmetic against published figures of DeepSeek-V3/R1 and against the model's own tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raison.model import cost
from raison.model.spec import PRESETS, R1_671B, TINY, ModelSpec

V2_LITE = ModelSpec(
    vocab_size=102400, hidden_size=2048, num_hidden_layers=27, num_attention_heads=16, intermediate_size=10944,
    q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    n_routed_experts=64, num_experts_per_tok=6, n_shared_experts=2, moe_intermediate_size=1408, first_k_dense_replace=1,
)  # fmt: skip


def test_parameters_of_one_layer() -> None:
    assert cost.attention_parameters(R1_671B) == 187_107_328
    assert cost.dense_ffn_parameters(R1_671B) == 396_361_728
    assert cost.expert_parameters(R1_671B) == 44_040_192


def test_parameters_of_r1() -> None:
    assert cost.parameters(R1_671B) == 671_026_419_200
    assert cost.mtp_parameters(R1_671B) == 11_610_068_224
    assert cost.activated(R1_671B) == cost.Activated(37_552_297_472, 36_625_618_432)
    table = cost.parameter_table(R1_671B)
    assert table.embedding == table.head == 129280 * 7168
    assert table.router_bias == 58 * 256
    repository = cost.parameters(R1_671B) + cost.mtp_parameters(R1_671B) + table.embedding + table.head
    assert repository == pytest.approx(684.49e9, rel=1e-5), "the published folder repeats embedding and head for MTP"


def test_v2_lite_has_plain_queries_and_two_shared_experts() -> None:
    assert cost.parameters(V2_LITE) == pytest.approx(15.706e9, rel=1e-4)
    assert cost.cache_bytes_per_token(V2_LITE) == 31_104


def test_bytes() -> None:
    assert cost.cache_bytes_per_token(R1_671B) == 70_272
    assert cost.cache_bytes_per_token(R1_671B, "fp32") == 140_544
    assert cost.weight_bytes(R1_671B, "fp8") == 671_026_419_200


def test_flops_of_r1() -> None:
    assert cost.matmul_flops(R1_671B) == pytest.approx(73.25e9, rel=1e-4)
    assert cost.naive_attention_flops(R1_671B, 4096) == pytest.approx(10.23e9, rel=1e-3)
    assert cost.training_flops(R1_671B, 4096) == pytest.approx(250.46e9, rel=1e-4)
    assert cost.cached_attention_flops(R1_671B, 4096) == pytest.approx(69.6e9, rel=1e-3)
    assert cost.cached_attention_flops(R1_671B, 4989) == pytest.approx(84.8e9, rel=1e-3)
    assert cost.decode_flops(R1_671B, 4096) == pytest.approx((73.25 + 69.6) * 1e9, rel=1e-3)


def test_training_the_mtp_module_costs_its_weights_its_attention_and_one_more_head() -> None:
    extra = cost.training_flops(R1_671B, 4096, mtp=True) - cost.training_flops(R1_671B, 4096)
    own_and_head = 0.688e9 + 129280 * 7168
    assert extra == pytest.approx(3 * (2 * own_and_head + cost.naive_attention_flops(R1_671B, 4096) / 61), rel=1e-3)
    assert cost.mtp_forward_flops(replace(R1_671B, num_nextn_predict_layers=0), 4096) == 0


def test_a_tied_head_is_one_table_but_still_a_product() -> None:
    tied = replace(TINY, tie_word_embeddings=True)
    assert cost.parameters(TINY) - cost.parameters(tied) == TINY.vocab_size * TINY.hidden_size
    assert cost.matmul_flops(tied) == cost.matmul_flops(TINY)
    assert cost.activated(tied).with_embedding == cost.activated(TINY).without_embedding


@pytest.mark.parametrize("name", PRESETS)
def test_the_sheet_agrees_with_its_parts(name: str) -> None:
    sheet = cost.cost_sheet(PRESETS[name], context=512)
    assert sheet.parameters_total == sheet.parameters.total == cost.parameters(PRESETS[name])
    assert sheet.training_flops < sheet.training_flops_mtp
    assert sheet.matmul_flops < 2 * sheet.activated.without_embedding < sheet.decode_flops


SHAPES = {
    **{name: PRESETS[name] for name in ("tiny", "nano", "small", "base-1b")},
    "dense": replace(TINY, n_routed_experts=0, q_lora_rank=None),
    "tied": replace(TINY, tie_word_embeddings=True, num_nextn_predict_layers=0),
    "two modules": replace(TINY, num_nextn_predict_layers=2, n_shared_experts=2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_count_is_the_model_s_own(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformer = pytest.importorskip("raison.model.transformer", reason="the model needs torch")
    spec = SHAPES[name]
    with torch.device("meta"):
        model = transformer.Transformer(spec)
    count = sum(p.numel() for p in model.parameters())
    assert count == cost.parameter_table(spec).trained + cost.mtp_table(spec).trained
