"""The processes of a run."""

from dataclasses import dataclass

import torch

from cairn.core.compute import pick_device
from cairn.planning.layout import Layout
from cairn.training.objective import Part


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    rank: int
    size: int
    device: torch.device
    part: Part

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Sums over the workers that share the rows."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one process at least."""
        return flag

    def barrier(self) -> None:
        """Wait for all processes."""


def join(layout: Layout, device: str) -> World:
    """The world that `layout` asks for."""
    return World(0, 1, pick_device(device), Part())
