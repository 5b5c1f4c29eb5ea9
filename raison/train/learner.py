"""The learner: a model with its optimizer, and the only place where weights change.

`backward` adds gradients, `update` clips them, moves the weights and the routers' balance biases. A gradient that is
not finite raises NumericalError and leaves the weights as they were. Not covered: what is minimised, when to save.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raison.config import OptimizerSection
from raison.errors import CheckpointError, NumericalError
from raison.model.moe import Router, Routing, balance_bias
from raison.model.transformer import Transformer
from raison.train.optim import Optimizer, build_optimizer, clip_gradients, lr_scale


class Learner:
    def __init__(
        self,
        model: Transformer,
        settings: OptimizerSection,
        total_steps: int,
        dtype: torch.dtype,
        bias_gamma: float = 0.0,
    ) -> None:
        """`bias_gamma` is the step of the balance biases (V3 report, section 2.1.2); 0 leaves them alone."""
        self.model, self.dtype = model, dtype
        self.optimizer: Optimizer = build_optimizer(model, settings, dtype)
        self._settings, self._total, self._gamma = settings, total_steps, bias_gamma
        self._routers = [module for module in model.modules() if isinstance(module, Router)]
        self._load_RX = [torch.zeros(model.spec.n_routed_experts) for _ in self._routers]

    def backward(self, loss: Tensor, routings: list[Routing]) -> None:
        if not bool(loss.isfinite()):
            raise NumericalError(f"the loss is {loss.item()}: training has diverged, lower lr and muon_lr")
        torch.autograd.backward(loss)
        for load_X, routing in zip(self._load_RX, routings, strict=False):  # MTP modules may not have run
            load_X += torch.bincount(routing.experts_NK.flatten(), minlength=len(load_X))

    def update(self, step: int) -> float:
        """Apply the gathered gradients at the schedule's rate for `step` (from 0); returns their norm before
        clipping.
        """
        s = self._settings
        norm = clip_gradients(self.model.parameters(), s.clip)
        self.optimizer.step(lr_scale(step, self._total, s.schedule, s.warmup, s.decay_share, s.final_lr_share))
        self.optimizer.zero_grad()
        self._balance()
        return norm

    def _balance(self) -> None:
        for router, load_X in zip(self._routers, self._load_RX, strict=True):
            if self._gamma and router.bias is not None and bool(load_X.any()):
                balance_bias(router.bias, load_X, self._gamma)
            load_X.zero_()

    def weights(self) -> dict[str, Tensor]:
        """All of the model that training changes: buffers and every parameter that is not frozen."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in self._frozen()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Raises CheckpointError when they are of another model, or of other adapters."""
        wanted = self.weights()
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        if shapes != {name: tensor.shape for name, tensor in wanted.items()}:
            raise CheckpointError("the checkpoint holds the weights of another model; resume with the same recipe")
        self.model.load_state_dict(weights, strict=False)  # frozen weights are those that were loaded

    def _frozen(self) -> set[str]:
        return {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}

    def state(self) -> dict[str, Tensor]:
        return self.optimizer.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.optimizer.load_state_dict(state)
