"""What a person asks a plan for. Light to import: the command line reads its options from here before torch is needed."""

from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError

RECOMPUTE = ("none", "selective", "full")
OPTIMIZERS = ("muon", "adamw", "sgd", "adafactor", "adamw8bit")
WIDTH = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}  # bytes of a number
FORMATS = (*WIDTH, "int8", "int4")
LONGEST_DEFAULT = 8192  # tokens of a text that is served, unless more are asked for


@dataclass(frozen=True)
class Training:
    """A training run. 0 and auto leave the choice to the plan."""

    devices: int = option(1, "devices", minimum=1)
    tokens: float = option(0.0, "tokens to train on; 0 is 20 for each parameter", minimum=0)
    rows: int = option(256, "rows of a step, over all devices", minimum=1)
    context: int = option(0, "tokens of a row; 0 is the model's longest, 4096 at most", minimum=0)
    micro_rows: int = option(0, "rows that go through a device at once; 0 is chosen", minimum=0)
    precision: str = option("auto", "auto: 16 bits where they are fast", choices=("auto", "fp32", "bf16", "fp16"))
    optimizer: str = option("muon", "optimizer", choices=OPTIMIZERS)
    recompute: str = option("auto", "what blocks compute again in the backward pass", choices=("auto", *RECOMPUTE))
    average: bool = option(False, "keep an average of the weights (EMA)")
    data: int = option(0, "replicas (DDP); 0 is chosen", minimum=0)
    shard: int = option(0, "processes that share rows and state (FSDP2); 0 is chosen", minimum=0)
    zero: int = option(
        0, "what they share: 1 optimizer, 2 and gradients, 3 and weights; 0 is chosen", choices=(0, 1, 2, 3)
    )
    tensor: int = option(0, "processes that share each matrix; 0 is chosen", minimum=0)
    pipeline: int = option(0, "stages of blocks; 0 is chosen", minimum=0)
    mfu: float = option(0.35, "share of the peak rate that the arithmetic reaches: a guess (tuned runs: 0.3 to 0.55)")
    reserve: float = option(0.05, "share of a device's memory to leave free, for fragments", minimum=0)

    def __post_init__(self) -> None:
        if not 0 < self.mfu <= 1:
            raise UserError(f"mfu is a share of the peak rate, above 0 and at most 1; got {self.mfu}")
        if self.reserve >= 1:
            raise UserError(f"reserve is a share of the memory, below 1; got {self.reserve}")


@dataclass(frozen=True)
class Serving:
    """What is served how."""

    weights: str = option("bf16", "format of the weights", choices=FORMATS)
    cache: str = option("bf16", "format of keys and values", choices=tuple(WIDTH))
    sequences: int = option(8, "texts at the same time", minimum=1)
    context: int = option(0, "tokens of each, prompt and answer; 0 is the model's longest, 8192 at most", minimum=0)
    devices: int = option(1, "devices that share each matrix (tensor parallel)", minimum=1)
