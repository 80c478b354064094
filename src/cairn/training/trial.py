"""A few training steps on a copy of a model, for the checks that come before a run. The model itself stays as it is."""

import copy
import math
from typing import Any

import torch

from cairn.core.compute import seed_step
from cairn.models.model import Model
from cairn.planning.layout import Layout
from cairn.training import mup
from cairn.training.fault import Fault, first_not_finite
from cairn.training.objective import Data, Objective
from cairn.training.optimizers import build_optimizer
from cairn.training.parallel import build_worker, clip_gradients, join
from cairn.training.precision import LossScale, pick_precision
from cairn.training.trainer import TrainConfig


class Trial:
    """A copy of `model` with an optimizer of its own, in one process; `step` is the trainer's, without its records.

    Dropout is off: it hides what a check looks for.
    """

    def __init__(self, model: Model, objective: Objective, data: Data, config: TrainConfig):
        self.world = join(Layout(), config.device)
        precision = pick_precision(config.precision, model, self.world.device)
        self.model = copy.deepcopy(model).to(self.world.device).train()
        if config.mup_width:
            mup.scale(self.model, config.mup_width)
        self.data, self.config = data, config
        self._worker = build_worker(self.model, objective, precision, self.world)
        self._optimizer = build_optimizer(self.model, config)
        self._scale = LossScale(precision)
        self._steps = 0

    def step(self, batches: list[Any], factor: float) -> float:
        """One step on these micro-batches at `factor` of the peak rates; returns the loss before it. Where the gradient is
        not finite the weights stay as they are and the answer is NaN (in float16, when its scale cannot be the reason)."""
        loss = self._passes(batches)
        limit = (self.config.clip or math.inf) * self._scale.scale
        norm, counts = self._scale.unscale(self.model, clip_gradients(self.model, limit, self.world))
        if counts and not bool(torch.isfinite(norm)):
            return math.nan
        if counts:
            self._optimizer.set_rate(factor)
            self._optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self._steps += 1
        return loss

    def fault(self, batches: list[Any]) -> Fault:
        """Where the step that was not finite stopped being so."""
        return first_not_finite(self.model, lambda: self._passes(batches))

    def without_gradient(self, batches: list[Any]) -> list[str]:
        """Parameters whose gradient is missing or exactly zero."""
        self._passes(batches)
        named = list(self.model.named_parameters())
        silent = [n for n, p in named if p.requires_grad and (p.grad is None or not bool(p.grad.any()))]
        self.model.zero_grad(set_to_none=True)
        return silent

    def _passes(self, batches: list[Any]) -> float:
        """Forward and backward; the mean loss."""
        seed_step(self.config.seed, self._steps, 0)
        total = sum(self.data.weight(batch) for batch in batches)
        sums = self._worker.run(batches, self._scale.scale / total if total else 0.0)
        return float(sums["loss"]) / total if total else 0.0
