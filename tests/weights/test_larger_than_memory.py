"""A model of three times the memory that its process may take: loaded, and right."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from raison.hardware import available_memory
from raison.model.cost import weight_bytes
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.text.tokenizer import Tokenizer
from raison.weights import folder
from raison.weights.families import config_from_spec
from raison.weights.huggingface import named_views
from raison.weights.shards import INDEX
from tests.shapes import GROUPED, random_model

LIMIT = 420 * 2**20
SPEC = ModelSpec(
    vocab_size=1280, hidden_size=1024, num_hidden_layers=24, num_attention_heads=8, intermediate_size=8192,
    num_key_value_heads=2, rope_interleave=False, max_position_embeddings=512,
)  # fmt: skip
PROGRAM = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]),) * 2)
import torch
torch.set_num_threads(1)
import raison
model = raison.load(sys.argv[1])
assert model.model.layers[0].self_attn.q_proj.packed is not None
completion = model.generate("3 7 25 -> 46", budget=2, answer_tokens=1, temperature=0)[0]
print(json.dumps({"logits": model.logits([1, 2, 3])[-1].tolist(), "ids": completion.token_ids}))
"""


def write(path: Path) -> None:
    """One file a layer, numbers from one block that repeats."""
    tokenizer, numbers = Tokenizer.build(), torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02
    folder.save(path, random_model(replace(GROUPED, vocab_size=1280)), tokenizer, {})
    for name in ("raison.json", "model.safetensors"):
        (path / name).unlink()
    (path / "config.json").write_text(json.dumps(config_from_spec(SPEC, "bfloat16") | {"eos_token_id": tokenizer.eos}))
    with torch.device("meta"):
        shapes = {name: view.shape for name, view in named_views(Transformer(SPEC))}
    files: dict[str, dict[str, torch.Tensor]] = {}
    for i, (name, shape) in enumerate(shapes.items()):
        block = numbers.roll(7919 * i).repeat(-(-shape.numel() // len(numbers)))[: shape.numel()].view(shape)
        files.setdefault(part(name), {})[name] = block.bfloat16() + ("norm" in name)
        if len(files) > 1:
            first = next(iter(files))
            save_file(files.pop(first), path / first)
    for name, tensors in files.items():
        save_file(tensors, path / name)
    (path / INDEX).write_text(json.dumps({"weight_map": {name: part(name) for name in shapes}}))


def part(name: str) -> str:
    return f"part-{name.split('.')[2] if '.layers.' in name else 'norm' if 'norm' in name else 'top'}.safetensors"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA") or sys.platform != "linux", reason="needs Linux's RLIMIT_DATA")
def test_three_times_the_memory(tmp_path: Path) -> None:
    if available_memory() < 4 * 2**30:
        pytest.skip("the reference, expanded and without a limit, needs 4 GB")
    write(tmp_path)
    assert weight_bytes(SPEC, "bf16") > 3 * LIMIT
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(LIMIT)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    reference = folder.load(tmp_path, packed=False).model
    with torch.no_grad():
        expected = reference.score([1, 2, 3])[-1]
    assert expected.std() > 0.1
    assert (torch.tensor(found["logits"]) - expected).abs().max() < 1e-3 * expected.abs().max()
    assert len(found["ids"]) >= 3
