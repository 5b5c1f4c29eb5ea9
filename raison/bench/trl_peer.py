"""TRL's GRPOTrainer, timed step by step: the rival of `raison bench train`. Imports the extra `peers`.

A Llama of about 0.8 M parameters with our vocabulary; no gradient checkpointing, no reference model, one update per
round of samples: TRL's quickest settings on a CPU. Not covered: TRL with vLLM.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer

from raison.tasks.catalog import load_task
from raison.text.tokenizer import EOS, SPECIAL, Tokenizer


class StepClock(TrainerCallback):  # type: ignore[misc]  # TRL's dependencies carry no types here
    """Seconds of each optimizer step, sampling and scoring included, without the trainer's own start-up."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def trl_seconds(folder: Path, problems: int, group: int, length: int, bf16: bool, steps: int) -> list[float]:
    """Seconds of `steps` steps from random weights, after one that warms up."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    clock = StepClock()
    trainer = _trainer(folder, problems, group, length, bf16, steps + 1)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds[1:]


def _trainer(folder: Path, problems: int, group: int, length: int, bf16: bool, steps: int) -> GRPOTrainer:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.build().backend, eos_token=EOS, pad_token=SPECIAL[2])
    shape = LlamaConfig(
        vocab_size=1280, hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    arguments = GRPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=bf16, gradient_checkpointing=False, report_to="none",
        disable_tqdm=True, max_completion_length=length,
        per_device_train_batch_size=problems * group, num_generations=group,
        gradient_accumulation_steps=1, max_steps=steps, logging_strategy="no", save_strategy="no", learning_rate=1e-6,
    )  # fmt: skip
    task = load_task("countdown")
    rows = [{"prompt": task.sample(i, 3).prompt} for i in range(4096)]
    return GRPOTrainer(
        LlamaForCausalLM(shape), reward_funcs=_coin, args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip


def _coin(completions: list[str], **_: Any) -> list[float]:
    return [float(i % 2) for i, _text in enumerate(completions)]
