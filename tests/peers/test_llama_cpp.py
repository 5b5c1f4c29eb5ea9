"""Our files in llama.cpp and transformers: the shipped reasoner, and SmolLM2 read from its file, say the same greedily.

Where llama-cpp-python is installed (it is compiled for some minutes, so that no extra brings it). Compared up to the
first near-tie: where our two best logits lie within NEAR of each other, rounding may choose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import raison
from raison.bench.quality import PASSAGE, perplexity
from raison.errors import UserError
from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.text.chat import prompt_ids
from raison.weights.export import export
from raison.weights.gguf_export import export_gguf
from raison.weights.place import locate
from raison.weights.source import load

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
COUNT = 64
NEAR = {"F32": 2e-3, "F16": 2e-2, "Q8_0": 2.5}
"""llama.cpp rounds activations to 8 bits against Q8_0: that can send a token to another expert, which is worth nats."""


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


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("quant", ["F32", "F16", "Q8_0"])
def test_the_shipped_reasoner(tmp_path: Path, quant: Any, absorbed: bool) -> None:
    """Also in the form in which llama.cpp attends to latents."""
    ours = raison.load()
    export_gguf(tmp_path / "m.gguf", ours.model, ours.tokenizer, quant, "countdown-r1", absorbed)
    same = raison.load(tmp_path / "m.gguf")
    task, total = load_task("countdown"), 0
    for seed in range(5):
        prompt = prompt_ids(ours.tokenizer, task.sample(seed, 3).prompt)
        total += agree(same, prompt, theirs(tmp_path / "m.gguf", prompt), NEAR[quant])
    assert total > 2.5 * COUNT


QUESTIONS = (
    "What is the capital of France?", "Write a haiku about rain.", "Count from one to ten.", "你好，你是谁？",
    "Why is the sky blue?", "Translate to French: good morning.", "Name three primary colours.", "2 + 2 =",
    "Who wrote Hamlet?", "Explain photosynthesis to a child.", "What is a prime number?", "Tell me a joke. 😀",
    "List the days of the week.", "How do I boil an egg?", "Write a Python function that adds two numbers.",
    "What is the opposite of hot?", "Describe the ocean in one sentence.", "What does DNA stand for?",
    "Give me a synonym of happy.", "How many legs has a spider?",
)  # fmt: skip
"""Lewis Carroll, 1865: about 700 tokens."""


@pytest.fixture(scope="module")
def smollm2() -> tuple[Path, Reasoner]:
    try:
        path = locate("smollm2")
    except UserError as error:
        pytest.skip(str(error))
    return path, raison.load(path)


@torch.no_grad()
def test_smollm2_from_its_file(smollm2: tuple[Path, Reasoner]) -> None:
    path, model = smollm2
    total = 0
    for question in QUESTIONS:
        prompt = prompt_ids(model.tokenizer, question)
        total += agree(model, prompt, theirs(path, prompt), near=0.5)
    assert total > 10 * COUNT


@torch.no_grad()
def test_perplexity_of_smollm2(smollm2: tuple[Path, Reasoner]) -> None:
    """llama.cpp rounds activations to 8 bits before 4-bit products, we do not: within 0.5 %."""
    path, ours = smollm2
    ids = ours.tokenizer.encode(PASSAGE)
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=2, verbose=False, logits_all=True)
    model.eval(ids)
    found = perplexity(torch.from_numpy(model.scores[: len(ids)].copy()), ids)
    mine = perplexity(ours.logits(ids), ids)
    print(f"perplexity of {len(ids)} tokens: llama.cpp {found:.4f}, ours {mine:.4f}")
    assert len(ids) > 600 and abs(mine / found - 1) < 0.005


@pytest.mark.parametrize("quant", ["F16", "Q8_0"])
@torch.no_grad()
def test_smollm2_exported_to_gguf(tmp_path: Path, smollm2: tuple[Path, Reasoner], quant: str) -> None:
    ours = smollm2[1]
    export(load(smollm2[0], packed=False), tmp_path / "m.gguf", "gguf", quant, "smollm2")  # type: ignore[arg-type]
    total = 0
    for question in QUESTIONS[:6]:
        prompt = prompt_ids(ours.tokenizer, question)
        total += agree(ours, prompt, theirs(tmp_path / "m.gguf", prompt), near=0.5)
    assert total > 3 * COUNT


@torch.no_grad()
def test_smollm2_exported_to_a_folder(tmp_path: Path, smollm2: tuple[Path, Reasoner]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    ours = smollm2[1]
    export(load(smollm2[0], packed=False), tmp_path / "hf", "hf", "F32", "smollm2")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    total = 0
    for question in QUESTIONS[:6]:
        prompt = prompt_ids(ours.tokenizer, question)
        chat = [{"role": "user", "content": question}]
        assert tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) == prompt
        out = theirs.generate(torch.tensor([prompt]), max_new_tokens=COUNT, do_sample=False)
        total += agree(ours, prompt, out[0, len(prompt) :].tolist(), near=2e-3)
    assert total > 3 * COUNT
