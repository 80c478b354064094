"""What runs forward and backward over a step's micro-batches, in the layout of the run."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor

from cairn.core.errors import UserError
from cairn.training.objective import LossModule, Objective
from cairn.training.parallel.whole import copy_structure, gather, release
from cairn.training.parallel.world import World
from cairn.training.precision import autocast


class Worker(ABC):
    """`model` is what this process trains: the caller's model, or its part of it with the names of the whole one. The
    optimizer, clipping, averages and checkpoints work on it."""

    model: Any

    @abstractmethod
    def run(self, batches: list[Any], factor: float) -> dict[str, Any]:
        """Gradients of factor * the sum of the losses of all workers' batches; returns sums of this part's metrics."""

    def whole(self) -> AbstractContextManager[Any]:
        """The whole model with the present weights, the same in every process. All processes enter it together."""
        return contextlib.nullcontext(self.model)

    def finish(self) -> None:
        """Leave the trained weights in the caller's model. All processes call it."""
        with self.whole():
            pass


class LocalWorker(Worker):
    """Micro-batches one after the other through `module`, whose forward pass is the loss. As it stands, for one process."""

    def __init__(self, model: Any, module: nn.Module, precision: str, world: World):
        self.model, self.module, self.precision, self.world = model, module, precision, world

    def run(self, batches: list[Any], factor: float) -> dict[str, Any]:
        sums: dict[str, Any] = {}
        for i, batch in enumerate(batches):
            with self.communicating(i + 1 == len(batches)):
                with autocast(self.precision, self.world.device):
                    loss, metrics = self.module(batch)
                (loss * factor).backward()
            add(sums, metrics)
        return sums

    def communicating(self, last: bool) -> AbstractContextManager[None]:
        """What surrounds a micro-batch, so that gradients are exchanged when they have to be."""
        return contextlib.nullcontext()


class DividedWorker(LocalWorker):
    """The model lies divided in several processes; `given` is the caller's, without memory of its own meanwhile."""

    def __init__(self, given: Any, model: Any, module: nn.Module, precision: str, world: World):
        super().__init__(model, module, precision, world)
        self.given = given
        release(given)

    def run(self, batches: list[Any], factor: float) -> dict[str, Any]:
        sums = super().run(batches, factor)
        sum_partial_gradients(self.model)
        return sums

    @contextlib.contextmanager
    def whole(self) -> Iterator[Any]:
        gather(self.given, self.model, self.world)
        self.given.train(self.model.training)
        yield self.given
        release(self.given)

    def finish(self) -> None:
        gather(self.given, self.model, self.world)


def add(sums: dict[str, Any], metrics: dict[str, Any]) -> None:
    for key, value in metrics.items():
        sums[key] = sums.get(key, 0.0) + value


def sum_partial_gradients(model: nn.Module) -> None:
    """Gradients of weights that every process has whole, but has used for its own heads alone, become sums over all."""
    for parameter in model.parameters():
        gradient = parameter.grad
        if isinstance(gradient, DTensor) and any(place.is_partial() for place in gradient.placements):
            assert isinstance(parameter, DTensor)
            parameter.grad = gradient.redistribute(placements=parameter.placements)


def build_worker(model: Any, objective: Objective, precision: str, world: World) -> Worker:
    """The worker of `world.layout`. Raises UserError for a model that the layout cannot divide."""
    layout = world.layout
    if world.size == 1:
        return LocalWorker(model, LossModule(model, objective), precision, world)
    if layout.size == layout.data:
        from cairn.training.parallel.data import DataWorker

        return DataWorker(model, objective, precision, world)
    if any(hasattr(module, "experts") for module in model.modules()):
        raise UserError(
            f"a mixture of experts is not divided by {layout.describe()}: processes would choose different experts; "
            "use --train.parallel.data alone"
        )
    own: Any = copy_structure(model)
    if layout.pipeline > 1:
        from cairn.training.parallel.pipeline import cut

        cut(own, world)
    if layout.tensor > 1:
        from cairn.training.parallel.tensor import divide

        divide(own, world)
    if layout.pipeline > 1:
        from cairn.training.parallel.pipeline import PipelineWorker

        return PipelineWorker(model, own, objective, precision, world)
    if layout.rows > 1:
        from cairn.training.parallel.shard import ShardWorker

        return ShardWorker(model, own, objective, precision, world)
    return DividedWorker(model, own, LossModule(own, objective), precision, world)
