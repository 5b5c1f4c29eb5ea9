"""Steps of few shapes, as CUDA records them: on the CPU called on the same memory, and on a GPU that is only imagined.

torch's fake tensors carry shapes and devices and no numbers: they refuse what mixes devices and what asks for a number.
What names torch.cuda itself is not covered.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from raison.engine import constraint, sampler
from raison.engine.cache import LatentCache
from raison.engine.captured import CapturedRunner
from raison.engine.constraint import Constraint
from raison.engine.device import Eager, Step
from raison.engine.engine import Engine
from raison.engine.line import LineForm
from raison.engine.runner import Shape
from raison.engine.sequence import SamplingParams, Sequence
from raison.engine.settings import EngineSettings
from raison.engine.slots import Slots
from raison.engine.twin import DTYPES, Dtype, _exact
from raison.errors import UserError
from raison.model.moe import Experts
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.records import Completion
from tests.engine.small import TOKENIZER, ids, make_engine, params, prompt, small_model
from tests.shapes import FAMILY_SHAPES, SHAPES, random_model

ALL_SHAPES = SHAPES | FAMILY_SHAPES
GPU = torch.device("cuda", 0)
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


def runner_of(engine: Engine) -> CapturedRunner:
    assert isinstance(engine._runner, CapturedRunner)
    return engine._runner


def furthest(model: Transformer, start: list[int], completion: Completion, temperature: float = 1.0) -> float:
    """The largest difference of log-probabilities from the model's own, without a cache."""
    with torch.no_grad():
        logits = model.score([*start, *completion.token_ids])[len(start) - 1 : -1]
    chosen = torch.tensor(completion.token_ids)[:, None]
    expected = (logits / temperature).log_softmax(-1).gather(1, chosen).squeeze(1)
    return float((expected - torch.tensor(completion.logprobs)).abs().max())


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_logprobs_are_the_uncached_models(shape: str) -> None:
    model = random_model(replace(ALL_SHAPES[shape], vocab_size=1280))
    settings = EngineSettings(page_size=4, cache_tokens=2048, max_batch=16, prefill_chunk=24, kernels="captured")
    engine = Engine(model, TOKENIZER, settings)
    prompts = [prompt(n, n) for n in (4, 9, 16, 31, 40)]
    for start, group in zip(prompts, engine.generate(prompts, [params(i) for i in range(5)], n=2), strict=True):
        assert max(furthest(model, start, completion) for completion in group) < 1e-4
    twin = runner_of(engine).model
    assert all(module.grouped for module in twin.modules() if isinstance(module, Experts))
    assert all(a is b for a, b in zip(_exact(model), _exact(twin), strict=True))


def test_random_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that come while others decode, cancellations, a cache that is too small, steps in several parts."""
    monkeypatch.setattr(CapturedRunner, "gathered_bytes", 3000)
    numbers, told = random.Random(1), 0
    engine = make_engine(kernels="captured", cache_tokens=160, max_batch=7, prefill_chunk=13)
    asked = [(prompt(numbers.choice((3, 8, 17, 47)), i % 5), numbers.choice((0.0, 0.7, 1.0))) for i in range(60)]
    waiting, owner = list(asked), dict[int, tuple[list[int], float]]()
    while waiting or engine.stats.running or engine.stats.waiting:
        if waiting and numbers.random() < 0.5:
            start, heat = one = waiting.pop(0)
            count = numbers.randint(1, 3)
            sampling = SamplingParams(temperature=heat, max_tokens=numbers.randint(1, 40), seed=told)
            owner |= dict.fromkeys(engine.submit(start, sampling, count), one)
        if numbers.random() < 0.02 and owner:
            engine.cancel(numbers.choice(list(owner)))
        for event in engine.step():
            if event.finished is not None and event.finished.token_ids:
                start, heat = owner[event.sequence_id]
                assert furthest(small_model(), start, event.finished, heat or 1.0) < 1e-4
                told += len(event.finished.token_ids)
    assert told > 1000 and engine.stats.preemptions > 3
    assert engine.stats.pages_free == engine.stats.pages_total
    assert any(len(shapes) > 1 for shapes in runner_of(engine)._recorded)


def test_tokens_are_those_of_the_plain_runner() -> None:
    """Some 1,800 tokens. A flip needs a uniform number within about 1e-6 of a boundary between tokens: a right engine
    fails here with a chance below 1 in 100."""
    prompts, each = [prompt(3 + i % 41, i) for i in range(32)], [params(i) for i in range(32)]
    captured = make_engine(kernels="captured").generate(prompts, each)
    assert ids(captured) == ids(make_engine(kernels="torch").generate(prompts, each))
    assert sum(len(c.token_ids) for group in captured for c in group) > 1500


def test_few_shapes_are_recorded_and_played_again() -> None:
    engine = make_engine(kernels="captured")
    runner, recorded = runner_of(engine), 0

    class Counting(Eager):
        def record(self, step: Step) -> Step:
            nonlocal recorded
            recorded += 1
            return super().record(step)

    runner._capture = Counting()
    prompts = [prompt(n, n) for n in range(4, 17)]
    engine.generate(prompts, [params(i) for i in range(len(prompts))])
    places = {shapes: one.numbers.data_ptr() for shapes, one in runner._recorded.items()}
    engine.generate(prompts, [params(i + 50) for i in range(len(prompts))])
    assert recorded == len(runner._recorded) < 20 < engine.stats.steps / 4
    assert all(
        one.numbers.data_ptr() == places.get(shapes, one.numbers.data_ptr()) for shapes, one in runner._recorded.items()
    )
    for shapes in runner._recorded:
        (shape,) = shapes
        assert shape.queries == 1 and shape.sequences in (1, 2, 4, 8, 16) and shape.pages in (1, 2, 4, 8, 16, 32)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_changed_weights_are_used_at_once(dtype: Dtype) -> None:
    """Every kind of weight changes, in place: what was recorded goes on reading where it did."""
    model = random_model(replace(SHAPES["tied"], vocab_size=1280, tie_word_embeddings=dtype == "bf16"))
    settings = EngineSettings(page_size=4, cache_tokens=2048, max_batch=4, dtype=dtype, kernels="captured")
    engine, start = Engine(model, TOKENIZER, settings), prompt(21, 1)
    before = engine.generate([start], params(1))
    held = [p.data_ptr() for p in runner_of(engine).model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    engine.update_weights()
    changed = engine.generate([start], params(1))
    assert held == [p.data_ptr() for p in runner_of(engine).model.parameters()]
    assert ids(changed) == ids(Engine(model, TOKENIZER, settings).generate([start], params(1))) != ids(before)


def test_scores_and_guesses_by_lookup() -> None:
    start = prompt(12, 3) * 2
    captured = make_engine(kernels="captured", speculation="lookup", max_batch=4)
    completion = captured.generate([start], params(2, temperature=0.1))[0][0]
    assert furthest(small_model(), start, completion, 0.1) < 1e-3  # logits are ten times as large
    with torch.no_grad():
        assert (captured.score(start) - small_model().score(start)).abs().max() < 1e-4


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match='device is "cuda", but PyTorch finds no GPU'):
        EngineSettings(device="cuda")
    with pytest.raises(UserError, match='device is "tpu"; it must be'):
        EngineSettings(device="tpu")  # type: ignore[arg-type]
    with pytest.raises(UserError, match='dtype is "q4"'):
        EngineSettings(kernels="captured", dtype="q4")
    with pytest.raises(UserError, match='speculation is "mtp"'):
        EngineSettings(kernels="captured", speculation="mtp")


class Indexing(TorchFunctionMode):
    """Python's brackets want a driver even where tensors are fake; the functions behind them do not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            return indexed(*args)
        if func is Tensor.__setitem__:
            return indexed(*args[:2]).fill_(args[2])
        return args[0].logical_not() if func is Tensor.__invert__ else func(*args, **(kwargs or {}))


def indexed(x: Tensor, at: Any) -> Tensor:
    parts = at if isinstance(at, tuple) else (at,)
    if parts[0] is ...:
        parts = (slice(None),) * (x.dim() - len(parts) + 1) + parts[1:]
    dim = 0
    for part in parts:
        if isinstance(part, slice):
            start, stop, _ = part.indices(x.shape[dim])
            x, dim = x.narrow(dim, start, stop - start), dim + 1
        elif isinstance(part, Tensor):
            x, dim = x.index_select(dim, part), dim + 1
        else:
            x = x.select(dim, part)
    return x


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors on a GPU that is not there."""

    def handed(array: Any, device: torch.device) -> Tensor:
        return torch.empty(array.shape, dtype=torch.from_numpy(array).dtype, device=device)

    for module in (sampler, constraint):
        monkeypatch.setattr(module, "handed", handed)
    with FakeTensorMode(), torch.inference_mode(), Indexing():
        yield


def imagined_runner(spec: ModelSpec, dtype: Dtype) -> CapturedRunner:
    slots = Slots(4, 64, 16, None, [1])
    cache = LatentCache(spec.num_hidden_layers, 16, 8, LineForm.of(spec, DTYPES[dtype]), GPU)
    return CapturedRunner(Transformer(spec), slots, cache, dtype, record=False)


def on_gpu(spec: ModelSpec, dtype: Dtype) -> tuple[Tensor, CapturedRunner]:
    """The states of a decode step of four, and of a chunk of five tokens beside it."""
    runner, shapes = imagined_runner(spec, dtype), (Shape(4, 1, 2), Shape(1, 5, 4))
    return runner.compute(shapes, torch.zeros(3 * 9 + 8 + 4, dtype=torch.int64, device=GPU)), runner


@pytest.mark.usefixtures("imagined")
@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_a_step_stays_on_the_gpu_and_asks_for_nothing(shape: str) -> None:
    spec = ALL_SHAPES[shape]
    narrow = spec if spec.moe_intermediate_size % 8 == 0 else replace(spec, moe_intermediate_size=24)
    states_ND, runner = on_gpu(narrow, "bf16")
    assert (states_ND.device, states_ND.shape) == (GPU, (9, spec.hidden_size))
    assert runner.model.logits(states_ND).device == GPU
    assert {x.device for x in (*runner.model.parameters(), *runner.model.buffers())} == {GPU}
    assert runner._source.embed_tokens.device.type == "cpu"


@pytest.mark.usefixtures("imagined")
def test_what_asks_is_not_recorded() -> None:
    """fp32, and widths that the grouped product does not take: the loop over experts reads their sizes."""
    assert on_gpu(FAMILY_SHAPES["llama"], "fp32")[1].recordable()
    for spec, dtype in ((SHAPES["groups"], "fp32"), (replace(SHAPES["groups"], moe_intermediate_size=20), "bf16")):
        assert not imagined_runner(spec, dtype).recordable()  # type: ignore[arg-type]
        with pytest.raises(torch._subclasses.fake_tensor.DynamicOutputShapeException):
            on_gpu(spec, dtype)  # type: ignore[arg-type]


@pytest.mark.usefixtures("imagined")
def test_tokens_are_drawn_on_the_gpu() -> None:
    slots, rows = Slots(3, 8, 2, None, [1]), np.arange(3)
    heats = (0.0, 0.7, 1.0)
    for i, heat in enumerate(heats):
        asked = SamplingParams(temperature=heat, top_k=2 * (i == 1), top_p=0.9)
        slots.load(i, Sequence(i, [1], asked, 1, 0, False, False, None, False, 0.0))
    places = sampler.Places(rows, np.zeros(3, np.int64))
    wanted = {1: Constraint(np.ones(99, np.bool_), {7: 2.0}), 2: Constraint(biases={3: -np.inf})}
    drawn = sampler.draw(torch.zeros(3, 99, device=GPU), slots, places, wanted)
    assert (drawn.device, drawn.shape) == (GPU, (2, 3))
