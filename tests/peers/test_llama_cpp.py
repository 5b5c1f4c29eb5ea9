"""Our GGUF files in llama.cpp: the shipped reasoner, and SmolLM2 read from its file, say the same greedily.

Where llama-cpp-python is installed (it is compiled for some minutes, so that no extra brings it). Compared up to the
first near-tie: where our two best logits lie within NEAR of each other, rounding may choose.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import raison
from raison.errors import UserError
from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.text.chat import prompt_ids
from raison.weights.gguf_export import export_gguf
from raison.weights.source import locate

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
COUNT = 64
NEAR = {"F32": 2e-3, "F16": 2e-2, "Q8_0": 0.15, "Q4_0": 0.3}


def theirs(path: Path, prompt: list[int]) -> list[int]:
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=2, verbose=False, logits_all=False)
    found = []
    for token in model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
        found.append(int(token))
        if len(found) == COUNT:
            break
    return found


def agree(model: Reasoner, prompt: list[int], found: list[int], near: float) -> int:
    """How many tokens are our own choice, up to a near-tie; fails at a choice that is none."""
    logits = model.logits([*prompt, *found])[len(prompt) - 1 : -1]
    for place, (row, token) in enumerate(zip(logits, found, strict=True)):
        if int(row.argmax()) != token:
            assert row.max() - row[token] < near, f"token {place}: {row.max() - row[token]:.3f} below our best"
            return place
    return len(found)


@pytest.mark.parametrize("quant", ["F32", "F16", "Q8_0"])
def test_the_shipped_reasoner(tmp_path: Path, quant: str) -> None:
    ours = raison.load()
    export_gguf(tmp_path / "m.gguf", ours.model, ours.tokenizer, quant, "countdown-r1")  # type: ignore[arg-type]
    same = raison.load(tmp_path / "m.gguf")
    task, total = load_task("countdown"), 0
    for seed in range(5):
        prompt = prompt_ids(ours.tokenizer, task.sample(seed, 3).prompt)
        total += agree(same, prompt, theirs(tmp_path / "m.gguf", prompt), NEAR[quant])
    assert total > 2.5 * COUNT


@torch.no_grad()
def test_smollm2_from_its_file() -> None:
    try:
        path = locate("smollm2")
    except UserError as error:
        pytest.skip(str(error))
    model, total = raison.load(path), 0
    questions = (
        "What is the capital of France?",
        "Write a haiku about rain.",
        "Count from one to ten.",
        "你好，你是谁？",
    )
    for question in questions:
        prompt = prompt_ids(model.tokenizer, question)
        total += agree(model, prompt, theirs(path, prompt), near=0.5)
    assert total > COUNT
