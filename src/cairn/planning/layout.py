"""How a model is laid out over processes, one a device: what training runs by and planning counts with."""

from dataclasses import dataclass

from cairn.core.config import option


@dataclass(frozen=True)
class Layout:
    """The product of the four degrees is the number of processes.

    data: each process has the whole model and a part of the rows; gradients are averaged (DDP). shard: the same division of
    rows, but each process keeps only its part of the optimizer's state (zero 1), of the gradients too (2), of the weights
    too (3; Rajbhandari et al. 2020, here by FSDP2). tensor: each matrix is divided over processes (Shoeybi et al. 2019).
    pipeline: each process holds some of the blocks, and micro-batches pass through them (Huang et al. 2019).
    """

    data: int = option(1, "replicas that share the rows (DDP)", minimum=1)
    shard: int = option(1, "processes that share rows and state (FSDP2)", minimum=1)
    zero: int = option(3, "what `shard` divides: 1 optimizer, 2 and gradients, 3 and weights", choices=(1, 2, 3))
    tensor: int = option(1, "processes that share each matrix", minimum=1)
    pipeline: int = option(1, "stages of blocks", minimum=1)

    @property
    def size(self) -> int:
        return self.data * self.shard * self.tensor * self.pipeline

    @property
    def rows(self) -> int:
        """Processes that share the rows of a batch."""
        return self.data * self.shard

    def describe(self) -> str:
        """`data 2 x tensor 4`, or `one process`."""
        degrees = {"data": self.data, f"shard (zero {self.zero})": self.shard}
        degrees |= {"tensor": self.tensor, "pipeline": self.pipeline}
        return " x ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "one process"
