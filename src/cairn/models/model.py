"""What every model of cairn has, whatever it computes."""

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import nn


class Model(nn.Module, ABC):
    """A configuration, fresh weights by a seed, and counts."""

    config: Any

    @abstractmethod
    def initialize(self, seed: int) -> Self:
        """Fresh weights, drawn on the CPU in the order of names, so that a seed gives the same model on every device."""

    @abstractmethod
    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token, in rows of `context` tokens."""

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())  # a tied matrix is counted once
