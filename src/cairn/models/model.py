"""What every model of cairn has, whatever it computes."""

from typing import Any, Self

from torch import nn


class Model(nn.Module):
    """A configuration, fresh weights by a seed, and counts."""

    config: Any

    def initialize(self, seed: int) -> Self:
        """Fresh weights, drawn on the CPU in the order of names, so that a seed gives the same model on every device."""
        raise NotImplementedError

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a token, in rows of `context` tokens."""
        raise NotImplementedError

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())  # a tied matrix is counted once
