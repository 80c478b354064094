"""Replicas that share the rows: DistributedDataParallel (Li et al. 2020)."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cairn.training.objective import LossModule, Objective
from cairn.training.parallel.worker import LocalWorker
from cairn.training.parallel.world import World


class DataWorker(LocalWorker):
    """Each process has the whole model; gradients are summed while the last micro-batch's backward pass runs."""

    module: DistributedDataParallel

    def __init__(self, model: Any, objective: Objective, precision: str, world: World):
        module = DistributedDataParallel(
            LossModule(model, objective),
            process_group=world.group("data"),
            gradient_as_bucket_view=True,
            # A search that costs a walk over the graph: for weights that some batches leave out.
            find_unused_parameters=any(_skips(module) for module in model.modules()),
        )
        super().__init__(model, module, precision, world)

    def run(self, batches: list[Any], factor: float) -> dict[str, Any]:
        return super().run(batches, factor * self.world.layout.data)  # DDP gives the mean

    def communicating(self, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else self.module.no_sync()


def _skips(module: nn.Module) -> bool:
    """Experts that got no token, BERT's pooler in an objective on tokens."""
    return hasattr(module, "experts") or hasattr(module, "pooler")
