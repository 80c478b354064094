"""What runs forward and backward over a step's micro-batches."""

from typing import Any, Protocol

from torch import nn

from cairn.training.objective import LossModule, Objective
from cairn.training.parallel.world import World
from cairn.training.precision import autocast


class Worker(Protocol):
    def run(self, batches: list[Any], factor: float) -> dict[str, float]:
        """Gradients of factor * the sum of the losses of all workers' batches; returns sums of this part's metrics."""
        ...


class LocalWorker:
    """One process."""

    def __init__(self, model: nn.Module, objective: Objective, precision: str, world: World):
        self.module, self.precision, self.device = LossModule(model, objective), precision, world.device

    def run(self, batches: list[Any], factor: float) -> dict[str, float]:
        sums: dict[str, float] = {}
        for batch in batches:
            with autocast(self.precision, self.device):
                loss, metrics = self.module(batch)
            (loss * factor).backward()
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value
        return sums


def build_worker(model: nn.Module, objective: Objective, precision: str, world: World) -> Worker:
    return LocalWorker(model, objective, precision, world)
