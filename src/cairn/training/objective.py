"""What the trainer asks of an objective and of a data source."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from cairn.core.errors import UserError

T = TypeVar("T")


class Objective(Protocol):
    def loss(self, model: Any, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss summed over whatever `Data.weight` counts, and sums of metrics ("loss" among them)."""
        ...


class Part(NamedTuple):
    """Which of `count` workers that share the rows of a step."""

    index: int = 0
    count: int = 1

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This worker's rows of a step. Raises UserError where they cannot be shared evenly."""
        if len(rows) % self.count:
            raise UserError(
                f"{len(rows)} rows cannot be shared by {self.count} workers: make the rows of a step a multiple of {self.count}"
            )
        return rows[self.index :: self.count]


class Data(Protocol):
    context: int  # tokens a row at most

    def batch(self, step: int, part: Part = Part()) -> list[Any]:
        """The micro-batches of a part of the step's rows: a pure function, so that resuming needs no data state.

        All parts have equally many, and together they hold each row once.
        """
        ...

    def weight(self, batch: Any) -> float:
        """What the sum of the losses is divided by, known before the forward pass (tokens, or pairs)."""
        ...

    def tokens(self, batch: Any) -> int:
        """Tokens that go through the model, for the speed."""
        ...


class LossModule(nn.Module):
    """Model and objective as one module whose forward pass is the loss: what a parallel layout wraps, so that objectives
    may call whatever part of the model they like."""

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        return self.objective.loss(self.model, batch)
