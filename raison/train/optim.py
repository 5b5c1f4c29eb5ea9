"""Muon for the matrices inside the blocks, AdamW for all else, as one object with a plain state; schedules; clipping.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the step is the Nesterov momentum of the gradient, made
nearly orthogonal (newton_schulz.py). Stacked experts [E, out, in] are E matrices. Differs from that text: the step is
scaled by 0.2 sqrt(max(out, in)) (Moonlight, Liu et al. 2025, arXiv 2502.16982, equation 4), so that its entries are
as large as AdamW's and learning rate and weight decay carry over.

AdamW (Loshchilov and Hutter, arXiv 1711.05101) is PyTorch's, fused. Vectors and embeddings are never decayed.
Not covered: sharded parameters, fp16 loss scaling, per-layer learning rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from raison.errors import CheckpointError, NumericalError
from raison.train.newton_schulz import orthogonalise_

Schedule = Literal["constant", "cosine", "wsd"]
State = dict[str, Tensor]

UPDATE_RMS = 0.2
MOMENTUM = 0.95
ADAMW_EPS = 1e-8
OTHERS = ("lm_head", "gate", "router", "lora")


class OptimizerSettings(Protocol):
    """What `build_optimizer` reads of a recipe's optimizer section."""

    @property
    def kind(self) -> Literal["adamw", "muon"]: ...
    @property
    def lr(self) -> float: ...
    @property
    def muon_lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...


class Optimizer(Protocol):
    """What the training loop needs. States are flat and hold tensors alone, so that they are saved without pickle."""

    def step(self, lr_scale: float) -> None:
        """One update from the gradients in `.grad`, at `lr_scale` times the base learning rate."""
        ...

    def zero_grad(self) -> None: ...

    def state_dict(self) -> State:
        """The live tensors, by parameter name; empty before the first step."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies. Raises CheckpointError when the state is of another model or another kind of optimizer."""
        ...


class Muon:
    """Muon over named matrices [out, in] or stacks of them [E, out, in]. A parameter without gradient is left alone."""

    def __init__(
        self, params: Mapping[str, nn.Parameter], lr: float, weight_decay: float,
        momentum: float = MOMENTUM, dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        """`dtype` is that of the Newton-Schulz products; bfloat16 is enough for them (see `products_dtype`)."""
        assert all(p.ndim in (2, 3) for p in params.values()), "Muon takes matrices and stacks of matrices"
        self._params = dict(params)
        self._lr, self._weight_decay, self._momentum, self._dtype = lr, weight_decay, momentum, dtype
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        active = {name: p for name, p in self._params.items() if p.grad is not None}
        if not active:
            return
        params: list[Tensor] = list(active.values())
        updates = self._nesterov(active)
        orthogonalise_(updates, self._dtype)
        lr = self._lr * lr_scale
        torch._foreach_mul_(params, 1 - lr * self._weight_decay)
        torch._foreach_mul_(updates, [-lr * UPDATE_RMS * math.sqrt(max(p.shape[-2:])) for p in params])
        torch._foreach_add_(params, updates)

    def _nesterov(self, active: Mapping[str, nn.Parameter]) -> list[Tensor]:
        """b = mu b + (1 - mu) g; returns mu b + (1 - mu) g."""
        for name, param in active.items():
            if name not in self._buffers:
                self._buffers[name] = torch.zeros_like(param, memory_format=torch.contiguous_format)
        grads = [p.grad for p in active.values() if p.grad is not None]
        buffers = [self._buffers[name] for name in active]
        torch._foreach_lerp_(buffers, grads, 1 - self._momentum)
        return list(torch._foreach_lerp(grads, buffers, self._momentum))

    def zero_grad(self) -> None:
        for param in self._params.values():
            param.grad = None

    def state_dict(self) -> State:
        return {f"{name}.momentum": buffer for name, buffer in self._buffers.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        fields = _by_parameter(state, self._params, ("momentum",))
        self._buffers = {name: values["momentum"].clone() for name, values in fields.items()}


class AdamW:
    """PyTorch's fused AdamW over named parameters; `decayed` names those that weight decay applies to."""

    def __init__(
        self, params: Mapping[str, nn.Parameter], lr: float, betas: tuple[float, float],
        weight_decay: float, decayed: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self._params, self._lr, decayed = dict(params), lr, set(decayed)
        groups = [
            {"params": [p for n, p in params.items() if n in decayed], "weight_decay": weight_decay},
            {"params": [p for n, p in params.items() if n not in decayed], "weight_decay": 0.0},
        ]
        self._inner = torch.optim.AdamW([g for g in groups if g["params"]], lr, betas, ADAMW_EPS, fused=True)

    def step(self, lr_scale: float) -> None:
        for group in self._inner.param_groups:
            group["lr"] = self._lr * lr_scale
        self._inner.step()

    def zero_grad(self) -> None:
        self._inner.zero_grad()

    def state_dict(self) -> State:
        states = {name: self._inner.state[param] for name, param in self._params.items() if param in self._inner.state}
        return {f"{name}.{field}": tensor for name, state in states.items() for field, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        fields = _by_parameter(state, self._params, ("exp_avg", "exp_avg_sq", "step"))
        self._inner.state.clear()
        for name, values in fields.items():
            self._inner.state[self._params[name]] = {field: tensor.clone() for field, tensor in values.items()}


class Together:
    """Several optimizers of disjoint parameters as one."""

    def __init__(self, parts: Mapping[str, Optimizer]) -> None:
        """`parts` by a short name that prefixes its share of the state."""
        self._parts = dict(parts)

    def step(self, lr_scale: float) -> None:
        for part in self._parts.values():
            part.step(lr_scale)

    def zero_grad(self) -> None:
        for part in self._parts.values():
            part.zero_grad()

    def state_dict(self) -> State:
        return {f"{name}.{key}": x for name, part in self._parts.items() for key, x in part.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        shares: dict[str, State] = {name: {} for name in self._parts}
        for key, tensor in state.items():
            name, _, rest = key.partition(".")
            if name not in shares:
                raise CheckpointError(f'the optimizer state holds "{key}"; it was saved by another kind of optimizer')
            shares[name][rest] = tensor
        for name, part in self._parts.items():
            part.load_state_dict(shares[name])


def build_optimizer(model: nn.Module, settings: OptimizerSettings, dtype: torch.dtype = torch.float32) -> Optimizer:
    """The optimizer of every parameter of `model` that takes gradients; `dtype` is that of Muon's products."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in params.items() if settings.kind == "muon" and goes_to_muon(name, p)}
    rest = {name: p for name, p in params.items() if name not in matrices}
    decayed = [name for name, p in rest.items() if p.ndim >= 2 and "embed" not in name]
    parts: dict[str, Optimizer] = {}
    if matrices:
        parts["muon"] = Muon(matrices, settings.muon_lr, settings.weight_decay, dtype=dtype)
    if rest:
        parts["adamw"] = AdamW(rest, settings.lr, settings.betas, settings.weight_decay, decayed)
    return Together(parts)


def goes_to_muon(name: str, param: Tensor) -> bool:
    """Matrices and stacks of them, save embeddings, the head, the router (`gate`, but not the SwiGLU's `gate_proj`) and
    the factors of adapters.
    """
    parts = name.split(".")
    return param.ndim in (2, 3) and not any("embed" in p or p in OTHERS for p in parts)


def _by_parameter(
    state: Mapping[str, Tensor], params: Mapping[str, nn.Parameter], fields: tuple[str, ...]
) -> dict[str, dict[str, Tensor]]:
    """The flat state as parameter -> field -> tensor; CheckpointError unless it fits `params`."""
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state.items():
        name, _, field = key.rpartition(".")
        if name not in params or field not in fields:
            raise CheckpointError(f'the optimizer state holds an unknown "{key}"; resume with the same recipe')
        if field != "step" and tensor.shape != params[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model {tuple(params[name].shape)}"
            raise CheckpointError(f'the optimizer state of "{name}" has shape {shapes}; resume with the same recipe')
        found[name][field] = tensor
    for name, values in found.items():
        if len(values) != len(fields):
            raise CheckpointError(f'the optimizer state of "{name}" is incomplete; resume from another checkpoint')
    return found


def lr_scale(step: int, total: int, kind: Schedule, warmup: int, decay_share: float, final_share: float) -> float:
    """The share of the peak learning rate at `step` (0 .. total - 1).

    Linear warm-up reaches 1 at step warmup - 1. Then "constant"; "cosine" down to `final_share` at `total` (SGDR,
    arXiv 1608.03983, equation 5); "wsd" constant, then linear down to `final_share` at `total` over the last
    `decay_share` of all steps (warm-up, stable, decay: MiniCPM, arXiv 2404.06395). The last step is just above the
    final share.
    """
    if step < warmup:
        return (step + 1) / warmup
    if kind == "constant":
        return 1.0
    start = warmup if kind == "cosine" else max(warmup, total - round(decay_share * total))
    progress = min(1.0, max(0.0, (step - start) / max(1, total - start)))
    left = (1 + math.cos(math.pi * progress)) / 2 if kind == "cosine" else 1 - progress
    return final_share + (1 - final_share) * left


def clip_gradients(params: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients so that their global norm is at most `max_norm` (0 = only measure); returns the norm before.

    Raises NumericalError when the norm is NaN or infinite; gradients and weights are then as they were, so that the
    caller can keep the last good state.
    """
    with_grad = [p for p in params if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in with_grad if p.grad is not None])
    if not norm.isfinite():
        raise NumericalError(
            f"the gradient's norm is {norm.item()}: training has diverged, lower lr and muon_lr, or clip harder"
        )
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(with_grad, max_norm, norm)
    return norm.item()
