"""An exponential moving average of the weights (Polyak and Juditsky 1992): less noise than the last weights, at no cost to
the training that it follows."""

# pyright: reportPrivateImportUsage=false
# (torch documents its _foreach functions without exporting them to checkers.)

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from cairn.training.optimizers.sharded import local


class Average:
    """The average of a model's weights in float32, each process keeping its part of those that are divided.

    After t updates the next one has the decay min(decay, (1 + t) / (10 + t)): at first the average follows the weights
    closely, so that the fresh ones it starts from leave no trace. Equal to torch.optim.swa_utils.AveragedModel's.
    """

    def __init__(self, model: nn.Module, decay: float):
        assert 0 < decay < 1
        self.decay = decay
        self.updates = torch.zeros((), dtype=torch.int64)
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._averages = {
            name: p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True)
            for name, p in self._weights.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Once after each step of the optimizer."""
        done = int(self.updates)
        decay = min(self.decay, (1 + done) / (10 + done))
        averages = [local(a) for a in self._averages.values()]
        weights = [local(w).to(a.dtype) for w, a in zip(self._weights.values(), averages)]
        torch._foreach_lerp_(averages, weights, 1 - decay)
        self.updates += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """The averages by the names of their weights, and "updates", how many there were; no copies."""
        return {**self._averages, "updates": self.updates}

    @torch.no_grad()
    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `tensors` gave."""
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise ValueError(f"the average is of another model: {min(own.keys() ^ tensors.keys())}")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The model has the averaged weights within, and its own again after, bit for bit."""
        kept = [local(w).clone() for w in self._weights.values()]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, own in zip(self._weights.values(), kept):
                    local(weight).copy_(own)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the averaged weights."""
        for name, weight in self._weights.items():
            local(weight).copy_(local(self._averages[name]))
